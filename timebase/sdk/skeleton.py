"""`timebase plugin new NAME`: a folder with a provider that works, to start from."""

import keyword
import re
import unicodedata
from pathlib import Path

from timebase.errors import ConfigError

_CONFIG = """\
name: "{name}"
slug: {slug}
version: 0.1.0
description: What it serves, and what the vendor's terms ask of the user.
entrypoint: provider.py:{class_name}
data_types: [stocks]
intervals: [1d]
rate_limits:
  requests_per_minute: 60
options:
  timeout:
    type: int
    description: Request timeout in seconds
    default: 30
# Once it asks a real vendor, remove this list: it names the only symbols that this provider is asked for.
symbols:
  - symbol: {symbol}
    asset_class: stock
"""

_PROVIDER = '''\
"""{name}: replace `fetch` by a request to your vendor, and map TimeBase's symbols to the vendor's."""

from datetime import datetime, timedelta

from timebase.sdk import Bars, HistoryRequest, Provider, SymbolNotFound

DAY = timedelta(days=1)


class {class_name}(Provider):
    def history(self, request: HistoryRequest) -> Bars:
        if request.symbol != "{symbol}":
            raise SymbolNotFound(request.symbol)
        return Bars.from_rows(fetch(request.start, request.end))


def fetch(start: datetime, end: datetime) -> list[tuple[datetime, float, float, float, float, float]]:
    """Rows of (opening instant, open, high, low, close, volume), oldest first."""
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    days = (midnight + n * DAY for n in range((end - midnight).days + 1))
    return [(day, 10.0, 11.0, 9.0, 10.5, 1_000.0) for day in days if start <= day < end]
'''

_TEST = '''\
"""Run with: python -m pytest {slug}"""

from pathlib import Path

from timebase.sdk import HistoryRequest
from timebase.sdk.contract import check
from timebase.sdk.entrypoint import load_provider

{class_name} = load_provider(f"{{Path(__file__).parent}}/provider.py:{class_name}")


def test_it_keeps_the_contract_of_every_provider() -> None:
    assert check({class_name}(), HistoryRequest.of("{symbol}", "1d", "2024-01-01", "2024-02-01")) == []
'''


def new_plugin(name: str, folder: Path) -> list[Path]:
    """Make `folder`/<slug> with a manifest, a provider and its test. Returns the files.

    Raises: ConfigError when the name gives no slug, or something is already there.
    """
    words = re.findall(r"[a-z0-9]+", unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower())
    slug = "-".join(words)[:50].rstrip("-")
    home = folder / slug
    if not words:
        raise ConfigError([f"{name!r} has no letter a-z and no digit; write a name like `My Vendor`"])
    if home.exists():
        raise ConfigError([f"{home} is already there; write another name, or remove it"])
    class_name = "".join(word.capitalize() for word in words)
    facts = {
        "name": _one_line(name),
        "slug": slug,
        "class_name": f"The{class_name}" if _is_taken(class_name) else class_name,
        "symbol": f"{slug.upper()}-EXAMPLE",
    }
    home.mkdir(parents=True)
    texts = {"config.yaml": _CONFIG, "provider.py": _PROVIDER, "test_provider.py": _TEST}
    for file, text in texts.items():
        (home / file).write_text(text.format(**facts), encoding="utf-8")
    return [home / file for file in texts]


def _is_taken(class_name: str) -> bool:
    """None and True are keywords, Bars is imported, 2Fast is no name at all."""
    return keyword.iskeyword(class_name) or f" {class_name}" in _PROVIDER or class_name[0].isdigit()


def _one_line(name: str) -> str:
    """As a YAML scalar and in a docstring alike: only what neither gives a meaning to."""
    return " ".join(re.sub(r"[^\w .,()&+-]", " ", name).split())[:100]
