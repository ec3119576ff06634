"""Path templates: from a symbol and an interval to the files in a folder, and back from a file's name to what it holds.

`{symbol}`, `{interval}` and `{date}` stand for what they say, `*` for anything within a name, `**` for any folders.
`{symbol:lower}`, `{symbol:upper}` and `{symbol:joined}` (BTC-USD as BTCUSD; `joined,lower` for both) write the symbol
in another way; `{date:%Y-%m}` writes the date as strftime does, `{date}` alone as %Y%m%d.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from pathlib import Path

from timebase.model.instrument import CRYPTO_QUOTES, FIAT

PLACES = ("symbol", "interval", "date")
FORMS = ("upper", "lower", "joined")

_PIECE = re.compile(r"\{(\w+)(?::([^{}]*))?\}|\*\*|\*")
_DATE_CODES = {"%Y": r"\d{4}", "%m": r"\d\d", "%d": r"\d\d", "%y": r"\d\d", "%j": r"\d{3}", "%b": "[A-Za-z]{3}"}


@dataclass(frozen=True, slots=True)
class Period:
    """The days [first, end) that a date in a name stands for."""

    first: date
    end: date


@dataclass(frozen=True, slots=True)
class Found:
    """A file, and what its path says of it."""

    path: Path
    symbol: str
    interval: str
    period: Period | None


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    form: str


_Part = tuple[str | _Place, ...]
"""One name of the path: literal texts, places and `*`."""


class Template:
    """Raises: ValueError when the text cannot be understood."""

    def __init__(self, text: object) -> None:
        if not isinstance(text, str) or not text or text.startswith("/") or ".." in text.split("/"):
            raise ValueError("write a path inside the folder, as in {interval}/{symbol}.csv")
        self.text = text
        self._parts = tuple(_parse(part) for part in text.split("/"))
        self._places = {piece.name for part in self._parts for piece in part if isinstance(piece, _Place)}

    def has(self, place: str) -> bool:
        return place in self._places

    def matches(self, text: str, found: Found) -> bool:
        """Whether the end of a path is what the template makes of what is known of a file. For members of archives."""
        end = "/".join(text.split("/")[-len(self._parts) :])
        known = {name: said for name, said in (("symbol", found.symbol), ("interval", found.interval)) if said}
        first = found.period.first if found.period else None
        pattern = "/".join(_pattern(part, known, first) for part in self._parts)
        return re.fullmatch(pattern, end) is not None

    def find(self, folder: Path, known: Mapping[str, str]) -> Iterator[Found]:
        """The files that bear the symbol and the interval `known`, or any; ordered by their paths."""
        return _walk(folder, self._parts, dict(known), None, PLACES)

    def survey(self, folder: Path) -> Iterator[Found]:
        """At least one file of each symbol and interval, without looking through all their dates."""
        return _walk(folder, self._parts, {}, None, self._places - {"date"})


def _walk(
    folder: Path, parts: tuple[_Part, ...], known: dict[str, str], period: Period | None, enough: Collection[str]
) -> Iterator[Found]:
    """Below a folder by which all of `enough` is known, one file will do."""
    part, below = parts[0], parts[1:]
    if part == ("**",):
        yield from _walk(folder, below, known, period, enough)
        for path in _entries(folder):
            if path.is_dir() and not path.is_symlink():  # a link may lead in a circle
                yield from _walk(path, parts, known, period, enough)
        return
    for path, heard, said in _matching(folder, part, known):
        now_known, now_period = {**heard, **known}, _finer(period, said)
        if below and path.is_dir():
            found = _walk(path, below, now_known, now_period, enough)
            yield from islice(found, 1) if now_known.keys() >= set(enough) else found
        elif not below and path.is_file():
            yield Found(path, now_known.get("symbol", ""), now_known.get("interval", ""), now_period)


def _matching(
    folder: Path, part: _Part, known: Mapping[str, str]
) -> Iterator[tuple[Path, dict[str, str], Period | None]]:
    """The entries of a folder that a part of the path names, with what their names say."""
    literal = _literal(part, known)
    if literal is not None:
        yield folder / literal, {}, None
        return
    pattern = re.compile(_pattern(part, known, None))
    forms = {piece.name: piece.form for piece in reversed(part) if isinstance(piece, _Place)}
    for path in _entries(folder):
        if (found := pattern.fullmatch(path.name)) is None:
            continue
        said = found.groupdict()
        period = _period(said.pop("date"), forms["date"]) if "date" in said else None
        if period is not None or "date" not in forms:
            yield path, {name: _unformed(text, forms[name]) for name, text in said.items()}, period


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


# One part of a path


def _parse(text: str) -> _Part:
    pieces: list[str | _Place] = []
    at = 0
    for found in _PIECE.finditer(text):
        pieces += [text[at : found.start()]] * (found.start() > at)
        pieces.append(_place(found[1], found[2] or "") if found[1] else found[0])
        at = found.end()
    pieces += [text[at:]] * (at < len(text))
    if "**" in pieces and len(pieces) > 1:
        raise ValueError("** stands alone between two /")
    return tuple(pieces)


def _place(name: str, form: str) -> _Place:
    if name not in PLACES:
        raise ValueError(f"{{{name}}} means nothing; there are {{symbol}}, {{interval}} and {{date}}")
    if name == "date":
        _date_pattern(form or "%Y%m%d")
        return _Place(name, form or "%Y%m%d")
    if unknown := set(filter(None, form.split(","))) - set(FORMS):
        raise ValueError(f"{{{name}:{form}}}: there is no form {min(unknown)}; there are: {', '.join(FORMS)}")
    return _Place(name, form)


def _literal(part: _Part, known: Mapping[str, str]) -> str | None:
    """The one name that this part can have, when there is no choice."""
    texts = []
    for piece in part:
        if isinstance(piece, _Place):
            if piece.name not in known:
                return None
            texts.append(formed(known[piece.name], piece.form))
        elif piece == "*":
            return None
        else:
            texts.append(piece)
    return "".join(texts)


def _pattern(part: _Part, known: Mapping[str, str], day: date | None) -> str:
    texts = []
    named: set[str] = set()
    for piece in part:
        if not isinstance(piece, _Place):
            texts.append("[^/]*" if piece == "*" else re.escape(piece))
        elif piece.name == "date" and day is not None:
            texts.append(re.escape(day.strftime(piece.form)))
        elif piece.name in known:
            texts.append(re.escape(formed(known[piece.name], piece.form)))
        else:
            pattern = _date_pattern(piece.form) if piece.name == "date" else "[^/]+?"
            texts.append(f"(?:{pattern})" if piece.name in named else f"(?P<{piece.name}>{pattern})")
            named.add(piece.name)
    return "".join(texts)


# Symbols


def formed(symbol: str, form: str) -> str:
    for step in form.split(","):
        match step:
            case "lower":
                symbol = symbol.lower()
            case "upper":
                symbol = symbol.upper()
            case "joined":
                symbol = symbol.replace("-", "")
    return symbol


def _unformed(text: str, form: str) -> str:
    """The symbol that was most likely written so."""
    steps = form.split(",")
    symbol = text.upper() if "lower" in steps else text
    return _split(symbol) if "joined" in steps else symbol


def _split(pair: str) -> str:
    for length in (3, 4, 5):
        base, quote = pair[:-length], pair[-length:]
        if base and quote.upper() in FIAT | CRYPTO_QUOTES:
            return f"{base}-{quote}"
    return pair


# Dates


def _date_pattern(form: str) -> str:
    codes = re.findall(r"%.", form)
    if unknown := [code for code in codes if code not in _DATE_CODES]:
        raise ValueError(f"{{date:{form}}}: {unknown[0]} is not understood; there are: {', '.join(_DATE_CODES)}")
    if not {"%Y", "%y"} & set(codes):
        raise ValueError(f"{{date:{form}}} names no year")
    return re.sub(r"%.|[^%]+", lambda found: _DATE_CODES.get(found[0]) or re.escape(found[0]), form)


def _period(text: str, form: str) -> Period | None:
    try:
        first = datetime.strptime(text, form).date()  # noqa: DTZ007 - a date, on the clock of the files
    except ValueError:
        return None
    codes = set(re.findall(r"%.", form))
    if codes & {"%d", "%j"}:
        return Period(first, first + timedelta(days=1))
    if codes & {"%m", "%b"}:
        return Period(first, (first + timedelta(days=31)).replace(day=1))
    return Period(first, first.replace(year=first.year + 1))


def _finer(one: Period | None, other: Period | None) -> Period | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda period: period.end - period.first)
