"""From `path/to/provider.py:Class` to the class."""

import importlib.util
import sys
from pathlib import Path

from timebase.sdk.provider import Provider


def load_provider(entrypoint: str) -> type[Provider]:
    """The provider's folder comes first on the module path, so that it may have more modules beside it.

    Raises: whatever importing the file raises; TypeError when it holds no such provider.
    """
    file, _, name = entrypoint.rpartition(":")
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not file or spec is None or spec.loader is None:
        raise TypeError(f"an entrypoint is path/to/file.py:Class, not {entrypoint!r}")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise TypeError(f"{path.name} has no class {name} that is a timebase.sdk.Provider")
    return found
