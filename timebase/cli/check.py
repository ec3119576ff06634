"""`timebase check`: configuration and manifests; every fault at once, nothing is started."""

import argparse
import os
from pathlib import Path

from timebase.config import load_settings
from timebase.errors import ConfigError
from timebase.manifest.load import load_folders


def run(args: argparse.Namespace) -> int:
    settings = load_settings(file=Path(args.config) if args.config else None)
    manifests, faults = load_folders(settings.manifests, settings.providers, os.environ)
    if faults:
        raise ConfigError(faults)
    for manifest in manifests:
        print(f"{manifest.slug} {manifest.version}: good ({manifest.folder})")  # noqa: T201
    print("configuration: good")  # noqa: T201
    return 0
