"""The command line: one line per command; the work happens in `timebase.cli`."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence

from timebase.errors import TimeBaseError

FORMATS = ("table", "csv", "json", "ndjson", "arrow", "parquet")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="timebase",
        description="A self-hosted market-data server: `timebase serve` runs it, `timebase get AAPL` asks it.",
        epilog="Commands that ask use the server at TIMEBASE_HOST:TIMEBASE_PORT (or TIMEBASE_SERVER=http://…); "
        "when none runs there, they start one for themselves and stop it afterwards.",
    )
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: ./timebase.yaml)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the server")
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", help="port to listen on (default 8080; 0 takes a free one)")

    get = commands.add_parser("get", help="print or save the bars of a symbol")
    get.add_argument("symbol")
    _add_range(get)
    get.add_argument("--limit", type=int, help="at most so many bars; without --start the newest")
    get.add_argument("--adjust", default="raw", choices=("raw", "splits", "dividends", "all"))
    get.add_argument("--format", choices=FORMATS, help="default: table, or what the ending of FILE says")
    get.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of the terminal")

    backfill = commands.add_parser("backfill", help="fetch and store many symbols; run it again to resume")
    backfill.add_argument("symbols", nargs="+", metavar="SYMBOL")
    _add_range(backfill)
    backfill.add_argument(
        "--jobs",
        type=int,
        choices=range(1, 17),
        metavar="N",
        default=2,
        help="symbols fetched at the same time (default 2)",
    )

    watch = commands.add_parser(
        "watch",
        help="show what happens to a symbol, as it happens",
        epilog="Where no server can be reached at first it ends with 1, for a bad argument with 2. A connection that "
        "is lost later is made anew, for ever, and goes on where it stopped.",
    )
    watch.add_argument("symbol")
    watch.add_argument("--interval", help="of the bars (default 1m, or no bars with --trades or --quotes)")
    watch.add_argument("--trades", action="store_true", help="show every trade")
    watch.add_argument("--quotes", action="store_true", help="show the best bid and ask")
    watch.add_argument("--from", metavar="TIME", help="begin with what happened since then: -2h, 2024-01-31T09:30Z")
    watch.add_argument("--provider", help="follow this provider only")
    watch.add_argument("--json", action="store_true", help="print the events as they come, a line each")
    watch.add_argument("--limit", type=_positive, metavar="N", help="end after so many bars, trades or quotes")

    replay = commands.add_parser(
        "replay",
        help="play recorded trades as if they happened now",
        epilog="Keys: space pauses, left and right wind a minute, up and down double and halve the speed, q stops. "
        "Ask and follow what is played with provider=replay.",
    )
    replay.add_argument(
        "tapes", nargs="*", metavar="FILE|SYMBOL",
        help="a file of trades whose name begins with the symbol, SYMBOL=FILE, or a symbol whose stored trades are "
        "played; without any, what is in already is followed",
    )  # fmt: skip
    replay.add_argument("--speed", help="how many times as fast as it was, as in 60x (default 1x)")
    replay.add_argument("--position", metavar="TIME", help="where to go on, in tape time")
    replay.add_argument("--paused", action="store_true", help="put the tapes in, but do not start")
    replay.add_argument("--detach", action="store_true", help="leave it playing in the server and return")
    replay.add_argument("--start", help="of stored trades: the first instant (default: all)")
    replay.add_argument("--end", help="of stored trades: exclusive; default: now")
    replay.add_argument("--provider", help="of stored trades: the provider that they are from")

    commands.add_parser("providers", help="list the providers, their states and reasons")

    coverage = commands.add_parser("coverage", help="show which ranges of a symbol are stored")
    coverage.add_argument("symbol")

    collect = commands.add_parser("collect", help="keep symbols up to date without anybody asking")
    collect_commands = collect.add_subparsers(dest="collect_command", required=True, metavar="COMMAND")
    collect_commands.add_parser("list", help="show what is collected, and how")
    for verb, meaning, usual in (
        ("add", "collect symbols from now on", "1m"),
        ("remove", "collect them no more; what is stored stays", None),
    ):
        change = collect_commands.add_parser(verb, help=meaning)
        change.add_argument("symbols", nargs="+", metavar="SYMBOL")
        change.add_argument("--interval", default=usual, help=f"1m 5m … 1mo (default {usual or 'all'})")
        change.add_argument("--provider", help="from this provider only")

    commands.add_parser("check", help="check configuration and manifests, naming every fault at once")
    commands.add_parser("migrate", help="bring the database to the schema of this version")

    plugin = commands.add_parser("plugin", help="work on provider plugins")
    plugin_commands = plugin.add_subparsers(dest="plugin_command", required=True, metavar="COMMAND")
    new = plugin_commands.add_parser("new", help="write the skeleton of a new provider, with a test")
    new.add_argument("name", help='as in "my-vendor"')
    new.add_argument("--folder", metavar="DIR", default="manifests", help="where to put it (default ./manifests)")
    what = "a folder that holds a config.yaml, or a zip or tar.gz of one"
    install = plugin_commands.add_parser(
        "install", help="give a provider to the server", description="The server checks it, keeps it and runs it."
    )
    install.add_argument("path", metavar="PATH", help=what)
    update = plugin_commands.add_parser("update", help="put another version in an installed provider's place")
    update.add_argument("slug", metavar="SLUG", help="as `timebase providers` lists it")
    update.add_argument("path", metavar="PATH", help=what)
    remove = plugin_commands.add_parser(
        "remove",
        help="end a provider and take its folder away",
        description="What it brought stays stored. Bundled providers can only be disabled.",
    )
    remove.add_argument("slug", metavar="SLUG", help="as `timebase providers` lists it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(joined(sys.argv[1:] if argv is None else argv))
    try:
        return _command(args.command)(args)
    except TimeBaseError as exc:
        print(f"timebase: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return 141
    except KeyboardInterrupt:
        return 130


def joined(argv: Sequence[str]) -> list[str]:
    """`--start -2h` as `--start=-2h`: argparse takes what begins with a dash for another option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in {"--start", "--end", "--from"} and re.match(r"-\d", word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """The function that runs a command; imported late, so that `--help` is instant."""
    from importlib import import_module

    run: Callable[[argparse.Namespace], int] = import_module(f"timebase.cli.{name}").run
    return run


def _add_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", default="1d", help="1m 5m 15m 30m 1h 4h 1d 1wk 1mo (default 1d)")
    parser.add_argument("--start", help="2024-01-31, 2024-01-31T09:30Z, -30d, or epoch seconds")
    parser.add_argument("--end", help="exclusive; default: now")
    parser.add_argument("--provider", help="ask this provider only")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
