"""`timebase check`: configuration and manifests; every fault at once, nothing is started."""

import argparse
import os
from pathlib import Path

from timebase.config import read_settings
from timebase.errors import ConfigError
from timebase.manifest.load import load_folders


def run(args: argparse.Namespace) -> int:
    settings, faults = read_settings(file=Path(args.config) if args.config else None)
    manifests, more = load_folders(settings.manifests, settings.providers, os.environ)
    if faults or more:
        raise ConfigError([*faults, *more])
    for manifest in manifests:
        print(f"{manifest.slug} {manifest.version}: good ({manifest.folder})")  # noqa: T201
    print("configuration: good")  # noqa: T201
    return 0
