"""`timebase plugin new NAME`: a working provider to start from."""

import argparse
from pathlib import Path

from timebase.sdk.skeleton import new_plugin


def run(args: argparse.Namespace) -> int:
    for path in new_plugin(args.name, Path(args.folder)):
        print(path)  # noqa: T201
    return 0
