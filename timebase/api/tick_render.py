"""Trades, quotes and the bars of a tape -> bytes in every format. Pure.

Times keep their microseconds: as milliseconds or seconds they are numbers with a fraction, exact when rounded back.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from timebase.api.negotiate import Form
from timebase.api.render import NUMPY, Receipt
from timebase.history.tape_bars import TapeBars
from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import SECOND_US

COLUMNS: Mapping[type, tuple[str, ...]] = {
    Trades: ("time", "price", "size", "side", "id", "flags"),
    Quotes: ("time", "bid", "bid_size", "ask", "ask_size"),
    TapeBars: ("time", "open", "high", "low", "close", "volume", "trades", "vwap"),
}
_ISO = "%Y-%m-%dT%H:%M:%S%.6fZ"

Ticks = Trades | Quotes | TapeBars


def render(ticks: Ticks, form: Form, receipt: Receipt) -> bytes:
    """The body; of json, rows and msgpack the value of its `trades`, `quotes` or `bars`."""
    return _RENDER[form.format.name](ticks, form.times, receipt)


def dtypes(ticks: Ticks) -> dict[str, str]:
    """Of the msgpack form."""
    return {name: column.dtype.newbyteorder("<").str for name, column in _columns(ticks, "ms").items()}


def instant(at_us: int, times: str) -> float | str:
    """One instant outside of the ticks, in the unit of the reply."""
    if times == "iso":
        return f"{np.datetime64(at_us, 'us')}Z"
    return at_us / (SECOND_US if times == "s" else 1_000)


def _columns(ticks: Ticks, times: str) -> dict[str, NDArray[Any]]:
    columns = {name: np.ascontiguousarray(getattr(ticks, name)) for name in COLUMNS[type(ticks)]}
    if times == "iso":
        columns["time"] = columns["time"].view("M8[us]")
    elif times:
        columns["time"] = columns["time"] / (SECOND_US if times == "s" else 1_000)
    return columns


def _frame(ticks: Ticks, times: str) -> pl.DataFrame:
    if times == "iso":
        return _timed(ticks).with_columns(pl.col("time").dt.to_string(_ISO))
    return pl.DataFrame(_columns(ticks, times)).fill_nan(None)


def _timed(ticks: Ticks) -> pl.DataFrame:
    """For formats with a time type of their own."""
    return pl.DataFrame(_columns(ticks, "")).fill_nan(None).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def _json(ticks: Ticks, times: str, _: Receipt) -> bytes:
    return orjson.dumps(_columns(ticks, times), option=NUMPY)


def _rows(ticks: Ticks, times: str, _: Receipt) -> bytes:
    return _frame(ticks, times).write_json().encode()


def _ndjson(ticks: Ticks, times: str, _: Receipt) -> bytes:
    return _frame(ticks, times).write_ndjson().encode()


def _csv(ticks: Ticks, times: str, _: Receipt) -> bytes:
    return _frame(ticks, times).write_csv().encode()


def _arrow(ticks: Ticks, _: str, __: Receipt) -> bytes:
    out = io.BytesIO()
    _timed(ticks).write_ipc(out)
    return out.getvalue()


def _arrow_stream(ticks: Ticks, _: str, __: Receipt) -> bytes:
    out = io.BytesIO()
    _timed(ticks).write_ipc_stream(out)
    return out.getvalue()


def _parquet(ticks: Ticks, _: str, receipt: Receipt) -> bytes:
    out = io.BytesIO()
    _timed(ticks).write_parquet(out, compression="zstd", compression_level=1, metadata=dict(receipt))
    return out.getvalue()


def _msgpack(ticks: Ticks, times: str, _: Receipt) -> bytes:
    """A map of the columns, each as little-endian binary of its dtype."""
    columns = _columns(ticks, times)
    packed = msgpack.packb({
        name: column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes() for name, column in columns.items()
    })  # fmt: skip
    assert isinstance(packed, bytes)
    return packed


_RENDER: Mapping[str, Callable[[Ticks, str, Receipt], bytes]] = {
    "json": _json,
    "rows": _rows,
    "ndjson": _ndjson,
    "csv": _csv,
    "arrow": _arrow,
    "arrow-stream": _arrow_stream,
    "parquet": _parquet,
    "msgpack": _msgpack,
}
