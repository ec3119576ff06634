"""Where the bundled folders lie: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = _PACKAGE / "_house"
HOUSE = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent

PLUGINS = HOUSE / "plugins"
MANIFESTS = HOUSE / "manifests"
SCHEMA = HOUSE / "schema"
