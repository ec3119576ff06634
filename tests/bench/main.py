"""The benchmark: each figure beside a reference measured in the same run, because machines differ and drift.

Starts its own database, server and reference server in a temporary folder; prints a row as soon as it is measured.
`history` takes about three minutes on two cores, `live` a quarter of an hour and Debian's redis-server.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import history
import live
from lab import HERE, Lab, database

GROUPS = {"history": history, "live": live}


def main() -> None:
    rows = {name: group for group, module in GROUPS.items() for name in module.ROWS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = f"{', '.join(GROUPS)}, or rows of them: {', '.join(rows)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure (default all): {known}")
    parser.add_argument("--list", action="store_true", help="name the rows")
    args = parser.parse_args()
    if args.list:
        for name, group in rows.items():
            print(f"{group:<8} {name:<8} {(GROUPS[group].ROWS[name].__doc__ or '').splitlines()[0]}")
        return
    wanted = args.names or list(GROUPS)
    if strangers := sorted({*wanted} - {*GROUPS, *rows}):
        parser.error(f"there is no {', '.join(strangers)}; there are {known}")
    for group, module in GROUPS.items():
        chosen = [name for name in module.ROWS if name in wanted or group in wanted]
        if chosen:
            measure(group, chosen)


def measure(group: str, chosen: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="timebase-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "manifests").mkdir()
        for provider in ("history", "live"):
            slug = "bench" if provider == "history" else "bench-live"
            shutil.copytree(HERE / f"{provider}_provider", folder / "manifests" / slug)
        with database(folder) as url:
            lab = Lab(folder, url)
            try:
                GROUPS[group].open_lab(lab, chosen)
                for row in chosen:
                    lab.wait_idle()
                    GROUPS[group].ROWS[row](lab)
            finally:
                lab.stop_server()


if __name__ == "__main__":
    main()
