"""Every parameter the API takes, once: parsing reads this table and the OpenAPI description is made from it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from timebase.api.times import FORMS, PATTERN
from timebase.errors import BadParameter
from timebase.model.cut import By
from timebase.model.demand import ADJUSTMENTS, MAX_BARS
from timebase.model.instrument import MAX_SYMBOL, SYMBOL_PATTERN, AssetClass, canonical_symbol, is_symbol
from timebase.model.interval import Interval, parse_interval

T = TypeVar("T")
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """`parse` raises ValueError saying what is wrong; `allowed` is what an error then lists."""

    name: str
    parse: Callable[[str], T]
    meaning: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    allowed: Sequence[str] = ()
    example: str = ""

    def read(self, text: str) -> T:
        try:
            return self.parse(text)
        except ValueError as exc:
            raise BadParameter(self.name, str(exc), self.allowed) from exc


def _symbol(text: str) -> str:
    if not is_symbol(text):
        raise ValueError(f"{text[:64]!r} is not a symbol; write it like AAPL, BRK-B, ^GSPC, EUR-USD or BTC-USDT")
    return canonical_symbol(text)


def _slug(text: str) -> str:
    if not re.fullmatch(SLUG_PATTERN, text):
        raise ValueError(f"{text[:64]!r} is not a provider's slug; write it like yahoo-finance")
    return text


def _interval(text: str) -> Interval:
    interval = parse_interval(text)
    if interval is None:
        raise ValueError(f"{text!r} is not an interval")
    return interval


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"write a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return parse


def _at_most(length: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if len(text) > length:
            raise ValueError(f"write at most {length} characters")
        return text

    return parse


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is none of them")
        return text

    return parse


def choice(name: str, allowed: Sequence[str], meaning: str) -> Parameter[str]:
    return Parameter(name, one_of(allowed), meaning, {"type": "string", "enum": list(allowed)}, allowed)


def number(name: str, low: int, high: int, meaning: str) -> Parameter[int]:
    return Parameter(name, whole(low, high), meaning, {"type": "integer", "minimum": low, "maximum": high})


# Times depend on now, so they stay texts here and are read once the question is put together.
def time(name: str, meaning: str) -> Parameter[str]:
    schema = {"type": "string", "pattern": f"^({PATTERN})$", "description": FORMS}
    return Parameter(name, str, meaning, schema, example="2020-01-01")


@dataclass(frozen=True, slots=True)
class Amount:
    """`unit` is s, m, h or d; "" when none was written."""

    number: float
    unit: str


def _speed(text: str) -> float:
    try:
        speed = float(text.strip().lower().removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0.001 <= speed <= MAX_SPEED:
        raise ValueError(f"write a number from 0.001 to {MAX_SPEED:g}, as 60 or 60x, not {text[:32]!r}")
    return speed


def _amount(text: str) -> Amount:
    match = re.fullmatch(AMOUNT_PATTERN, text)
    if match is None or not float(match[1]) > 0:
        raise ValueError(f"write a number above zero, or a length of time like 10s, not {text[:32]!r}")
    return Amount(float(match[1]), match[3] or "")


MAX_SPEED = 1e9  # more than any tape can be played with
SLUG_PATTERN = r"[a-z0-9][a-z0-9-]{0,63}"
MAX_CURSOR = 1_000
FORMATS = ("json", "rows", "ndjson", "csv", "arrow", "arrow-stream", "parquet", "msgpack")
TIMES = ("ms", "s", "iso")

SYMBOL = Parameter(
    "symbol", _symbol, "Canonical symbol; pairs as BASE-QUOTE (BTC/USDT is read as BTC-USDT).",
    {"type": "string", "pattern": f"^{SYMBOL_PATTERN}$", "maxLength": MAX_SYMBOL}, example="AAPL",
)  # fmt: skip
SLUG = Parameter(
    "slug", _slug, "A provider.", {"type": "string", "pattern": f"^{SLUG_PATTERN}$"}, example="demo"
)  # fmt: skip
INTERVAL = Parameter(
    "interval", _interval, "Length of a bar, 1d if not given. Aliases are understood: 60m, 1D, 1w, 1M …",
    {"type": "string", "enum": [i.value for i in Interval]}, [i.value for i in Interval], "1d",
)  # fmt: skip
COLLECT_INTERVAL = replace(INTERVAL, meaning="Length of a bar, 1m if not given.", example="1m")
ANY_INTERVAL = replace(INTERVAL, meaning="Only bars of this length.", example="1m")
START = time(
    "start", "First instant (inclusive). If not given, a usual stretch before `end`: a year of days, five of minutes."
)
END = time("end", "Last instant (exclusive), now if not given.")
LIMIT = number(
    "limit", 1, MAX_BARS, "At most so many bars: the first from `start` on, or the newest if there is no `start`."
)
TICKS_START = time("start", "First instant (inclusive). If not given, you get the newest ones before `end`.")
MAX_TICKS, USUAL_TICKS = 1_000_000, 100_000
TICKS_LIMIT = number(
    "limit", 1, MAX_TICKS,
    f"At most so many, {USUAL_TICKS:,} if not given: the first from `start` on, or the newest if there is no `start`.",
)  # fmt: skip
RECORDED_FROM = Parameter(
    "provider", _slug, "Only what came from this provider; if not given, from the one with the newest.",
    {"type": "string", "pattern": f"^{SLUG_PATTERN}$"}, example="demo"
)  # fmt: skip
AMOUNT_PATTERN = r"([0-9]{1,15}(\.[0-9]{1,9})?)([smhd]?)"
BY = choice(
    "by", tuple(By), "What fills a bar: so many trades (if not given), so many units, so much money, or so much time."
)
EVERY = Parameter(
    "every", _amount,
    "How much fills it: a number; of time a length in whole seconds that divides a day, as 10s, 5m, 2h. If not given: "
    "1000 trades, or 1m. Volume and value need it.",
    {"type": "string", "pattern": f"^{AMOUNT_PATTERN}$"}, example="1000",
)  # fmt: skip
TAPE_START = time("start", "Where the first bar begins (inclusive); the midnight in UTC before `end` if not given.")
MAX_TAPE_BARS, USUAL_TAPE_BARS = 100_000, 10_000
TAPE_LIMIT = number("limit", 1, MAX_TAPE_BARS, f"At most so many bars, {USUAL_TAPE_BARS:,} if not given.")
ADJUST = choice(
    "adjust", ADJUSTMENTS, "Corporate actions to apply to the raw prices, which is what you get if not given."
)
PROVIDER = Parameter(
    "provider", _slug, "Ask only this provider.", {"type": "string", "pattern": f"^{SLUG_PATTERN}$"}, example="demo"
)  # fmt: skip
AS_OF = time("as_of", "Read the data as it was known at this instant.")
REFRESH = choice("refresh", ("true", "false"), "`true` asks the provider even for what is already stored.")
FORMAT = choice(
    "format",
    FORMATS,
    "Form of the reply; wins over the Accept header. json (columns) if neither says anything; rows is JSON with an "
    "object per bar; arrow is the IPC file format (Feather V2), arrow-stream the stream; msgpack has binary columns.",
)
TIME_UNIT = choice(
    "times",
    TIMES,
    "Form of times: ms (if not given), s or iso. CSV: iso if not given. Arrow and Parquet have their own.",
)
TICK_TIMES = choice(
    "times",
    TIMES,
    "Form of times: ms (if not given), s or iso; with what is left to the microsecond behind the point. CSV: iso if "
    "not given. Arrow and Parquet have their own.",
)
CURSOR = Parameter(
    "cursor", str, "`next` of the page before. It carries the whole question; only format and times are given anew.",
    {"type": "string", "minLength": 1, "maxLength": MAX_CURSOR},
)  # fmt: skip
QUERY = Parameter(
    "q", _at_most(64), "Part of a symbol or of a name.", {"type": "string", "maxLength": 64}, example="DEMO"
)  # fmt: skip
ASSET_CLASS = choice("asset_class", [a.value for a in AssetClass], "Only instruments of this class.")
AFTER = Parameter("after", _symbol, "`next` of the page before.", SYMBOL.schema)
TAPES = Parameter(
    "tapes", _at_most(4_096), "Files of trades on the server's machine, SYMBOL=PATH, each on a line of its own.",
    {"type": "string", "maxLength": 4_096}, example="BTC-USDT=/data/btc.csv",
)  # fmt: skip
SPEED = Parameter(
    "speed", _speed, "How many times as fast as it was.", {"type": ["number", "string"], "examples": [60, "60x"]}
)
POSITION = time("position", "Where to go on, in tape time.")
PLAY = choice("state", ("playing", "paused", "stopped"), "`stopped` takes the tapes out.")
PAGE = number("limit", 1, 1_000, "At most so many symbols, 100 if not given.")
