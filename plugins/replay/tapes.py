"""Files of trades to columns. Loads polars and numpy, so it is imported when there is a tape.

A tape is CSV with a header, Parquet or ndjson (one JSON object a line), plain or in gz or zip. Columns are found by
name: time, price, size and, where there are, side, id, symbol and flags (cancels and corrections).
"""

import gzip
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from zipfile import BadZipFile, ZipFile

import numpy as np
import polars as pl
from numpy.typing import NDArray

from timebase.model.replay import Tape
from timebase.sdk import CANCEL, Malformed, SymbolNotFound

NAMES = {
    "time": ("time", "timestamp", "ts", "datetime", "date", "t", "trade_time", "transact_time"),
    "price": ("price", "p", "px"),
    "size": ("size", "qty", "quantity", "amount", "volume", "q", "s"),
    "side": ("side", "taker_side", "direction"),
    "maker": ("is_buyer_maker", "buyer_maker", "isbuyermaker", "m"),  # true: the taker sold
    "flags": ("flags",),  # 1 takes back, 2 replaces the trade with that id
    "id": ("id", "trade_id", "tid", "agg_trade_id", "sequence"),
    "symbol": ("symbol", "ticker", "pair"),
}
SIDES = {"buy": 1, "b": 1, "bid": 1, "1": 1, "1.0": 1, "sell": -1, "s": -1, "ask": -1, "-1": -1, "-1.0": -1}
FORM = "a tape is CSV with a header, Parquet or ndjson, plain or in gz or zip, with columns time, price and size"
EARLIEST_US, END_US = 0, 7_258_118_400_000_000  # 1970 to 2200
_UNITS_US = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (float("inf"), 1e-3))  # below so much it is s, ms, µs, ns


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Trades of one symbol. Order: ascending in time; those of one instant as the file has them.

    Units: `time` int64 µs UTC; `side` -1, 0 or 1. `id` is the file's, or the row's number, so that a trade that is
    played twice is known for the same.
    """

    time: NDArray[np.int64]
    price: NDArray[np.float64]
    size: NDArray[np.float64]
    side: NDArray[np.int64]
    id: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)

    def between(self, after_us: int, until_us: int) -> slice:
        """The rows of (after_us, until_us]."""
        first, end = np.searchsorted(self.time, (after_us, until_us), side="right")
        return slice(int(first), int(end))


def load(tapes: Iterable[Tape]) -> dict[str, Trades]:
    """Every tape by its symbol. Raises: Malformed, naming the file."""
    return {tape.symbol: load_tape(tape) for tape in tapes}


def load_tape(tape: Tape) -> Trades:
    """Raises: Malformed, SymbolNotFound when the file holds several symbols and not this one."""
    path = Path(tape.path)
    try:
        frames = [_frame(name, data) for name, data in _tables(path)]
        if not frames:
            raise ValueError("there is no file in it")
        frame = pl.concat(frames) if len(frames) > 1 else frames[0]
        return _trades(frame, tape)
    except (OSError, EOFError, zlib.error, BadZipFile, RuntimeError) as exc:  # the last: it has a password
        raise Malformed(f"{path} cannot be read: {exc}; {FORM}") from exc
    except (pl.exceptions.PolarsError, ValueError, IndexError, OverflowError) as exc:
        why = str(exc).partition("\n")[0]
        raise Malformed(f"{path} is no tape of trades: {why}; {FORM}") from exc


def _tables(path: Path) -> list[tuple[str, bytes]]:
    """What a file holds, unpacked, by name."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return [(path.stem, gzip.decompress(data))]
    if path.suffix == ".zip":
        with ZipFile(io.BytesIO(data)) as archive:
            return [(name, archive.read(name)) for name in sorted(archive.namelist()) if not name.endswith("/")]
    return [(path.name, data)]


def _frame(name: str, data: bytes) -> pl.DataFrame:
    ending = Path(name).suffix.lower()
    if ending in {".parquet", ".pq"}:
        return pl.read_parquet(data)
    if ending in {".ndjson", ".jsonl"}:
        return pl.read_ndjson(data, infer_schema_length=10_000)
    return pl.read_csv(data, infer_schema_length=10_000)


def _trades(frame: pl.DataFrame, tape: Tape) -> Trades:
    by_name = {name.strip().lower(): name for name in frame.columns}
    found = {
        ours: by_name[name] for ours, names in NAMES.items() if (name := next((n for n in names if n in by_name), None))
    }
    lacking = [name for name in ("time", "price", "size") if name not in found]
    if lacking:
        held = ", ".join(frame.columns[:8])[:200]
        raise Malformed(f"{tape.path} is no tape of trades: no column {' or '.join(lacking)}, only {held}; {FORM}")
    if "symbol" in found:
        frame = _of_symbol(frame, found["symbol"], tape)
    time = _times_us(frame[found["time"]])
    if not ((time >= EARLIEST_US) & (time < END_US)).all():
        raise ValueError("a time is not between 1970 and 2200")
    price, size = (frame[found[name]].cast(pl.Float64).to_numpy() for name in ("price", "size"))
    if not (np.isfinite(price).all() and np.isfinite(size).all()):
        raise ValueError("a price or a size is no number")
    if not len(time):
        raise ValueError("it has no rows")
    side, ids = _sides(frame, found), _ids(frame, found)
    if "flags" in found:
        flags = frame[found["flags"]].cast(pl.Int64).fill_null(0).to_numpy()
        price, size, stands = _amended(price, size, ids, flags)
        time, price, size, side, ids = time[stands], price[stands], size[stands], side[stands], ids[stands]
    order = np.argsort(time, kind="stable")
    return Trades(time[order], price[order], size[order], side[order], ids[order])


def _ids(frame: pl.DataFrame, found: dict[str, str]) -> NDArray[np.int64]:
    """The file's numbers, if every row has one; 0 is none."""
    rows = np.arange(1, len(frame) + 1)
    if "id" not in found or frame[found["id"]].null_count():
        return rows
    ids = frame[found["id"]].cast(pl.Int64).to_numpy()
    return ids if ids.all() else rows


def _amended(
    price: NDArray[np.float64], size: NDArray[np.float64], ids: NDArray[np.int64], flags: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """What was traded in the end: cancels and corrections applied, and which rows stand."""
    price, size, stands = price.copy(), size.copy(), flags == 0
    at = {int(ids[row]): int(row) for row in np.flatnonzero(stands)}
    for row in np.flatnonzero(flags):
        target = at.get(int(ids[row]))
        if target is None:
            continue
        if flags[row] & CANCEL:
            stands[target] = False
        else:
            price[target], size[target] = price[row], size[row]
    return price, size, stands


def _of_symbol(frame: pl.DataFrame, column: str, tape: Tape) -> pl.DataFrame:
    joined = pl.col(column).cast(pl.String).str.to_uppercase().str.replace_all(r"[-/_]", "")
    own = frame.filter(joined == tape.symbol.replace("-", ""))
    if own.is_empty():
        held = ", ".join(map(str, frame[column].unique().sort().head(5)))
        raise SymbolNotFound(f"{tape.path} holds {held}, not {tape.symbol}")
    return own


def _times_us(column: pl.Series) -> NDArray[np.int64]:
    if column.dtype.is_temporal():
        in_utc = column.dt.convert_time_zone("UTC") if getattr(column.dtype, "time_zone", None) else column
        return cast("NDArray[np.int64]", in_utc.cast(pl.Datetime("us")).to_physical().to_numpy())
    if column.dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.null_count():
            parsed = column.str.to_datetime(time_unit="us", time_zone="UTC")
            return cast("NDArray[np.int64]", parsed.to_physical().to_numpy())
        column = numbers
    if column.null_count():
        raise ValueError("a time is missing")
    largest = float(column.max() or 0)  # type: ignore[arg-type]
    factor = next((factor for below, factor in _UNITS_US if largest < below), 1.0)
    if column.dtype.is_integer():
        whole = column.cast(pl.Int64).to_numpy()
        return whole * int(factor) if factor >= 1 else whole // round(1 / factor)
    times = column.to_numpy() * factor
    if not (np.abs(times) < END_US).all():
        raise ValueError("a time is no number")
    return np.rint(times).astype(np.int64)


def _sides(frame: pl.DataFrame, found: dict[str, str]) -> NDArray[np.int64]:
    if "maker" in found:
        is_sell = frame[found["maker"]].cast(pl.String).str.to_lowercase().is_in(["true", "1", "t"])
        return np.where(is_sell.to_numpy(), -1, 1).astype(np.int64)
    if "side" in found:
        words = frame[found["side"]].cast(pl.String).str.to_lowercase()
        return words.replace_strict(SIDES, default=0, return_dtype=pl.Int64).to_numpy()
    return np.zeros(len(frame), np.int64)
