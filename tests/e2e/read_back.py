"""What pandas, polars and pyarrow make of each format of the API."""

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import msgpack
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as pa_csv
from pyarrow import feather, parquet
from pyarrow import json as pa_json

NAMES = ("time", "open", "high", "low", "close", "volume", "flags")
Columns = dict[str, NDArray[Any]]
"""By name; `time` in µs UTC as int64."""


def _of_pandas(frame: pd.DataFrame) -> Columns:
    if isinstance(frame.time.dtype, pd.DatetimeTZDtype):
        assert str(frame.time.dtype.tz) == "UTC"
        frame = frame.assign(time=frame.time.dt.tz_localize(None))
    return _columns({name: frame[name].to_numpy() for name in NAMES})


def _of_polars(frame: pl.DataFrame) -> Columns:
    assert not frame["time"].dtype.is_temporal() or frame["time"].dtype.time_zone == "UTC"
    return _columns({name: frame[name].to_numpy() for name in NAMES})


def _of_pyarrow(table: pa.Table) -> Columns:
    kind = table.schema.field("time").type
    assert not pa.types.is_timestamp(kind) or kind.tz == "UTC"
    return _columns({name: table[name].to_numpy() for name in NAMES})


def _columns(columns: Columns) -> Columns:
    """Numbers in `time` are epoch ms, the API's default."""
    time = columns["time"]
    in_us = time.astype("M8[us]").astype(np.int64) if time.dtype.kind == "M" else time.astype(np.int64) * 1_000
    return {**columns, "time": in_us}


def _pandas_csv(raw: bytes) -> pd.DataFrame:
    exact = dict.fromkeys(NAMES[1:-1], float)  # pandas' own way was off by a bit in some versions
    return pd.read_csv(BytesIO(raw), parse_dates=["time"], converters=exact)


def _pandas_ndjson(raw: bytes) -> pd.DataFrame:
    return pd.read_json(BytesIO(raw), lines=True, dtype=False, precise_float=True)


def _pyarrow_json(raw: bytes) -> pa.Table:
    return pa_json.read_json(BytesIO(raw), read_options=pa_json.ReadOptions(block_size=len(raw) + 1))


def _pyarrow_bars(raw: bytes) -> pa.StructArray:
    """Of an envelope: a struct of lists from json, a list of structs from rows."""
    return _pyarrow_json(raw)["bars"].combine_chunks()


def _pyarrow_columns(raw: bytes) -> pa.Table:
    bars = _pyarrow_bars(raw)
    return pa.table({name: bars.field(name).flatten() for name in NAMES})


def _msgpack(raw: bytes) -> Columns:
    reply = msgpack.unpackb(raw)
    return _columns({name: np.frombuffer(reply["bars"][name], reply["dtypes"][name]) for name in NAMES})


READERS: Mapping[str, Mapping[str, Callable[[bytes], Columns]]] = {
    "json": {
        "pandas": lambda raw: _of_pandas(pd.DataFrame(json.loads(raw)["bars"])),
        "polars": lambda raw: _of_polars(pl.read_json(raw)["bars"].struct.unnest().explode(*NAMES)),
        "pyarrow": lambda raw: _of_pyarrow(_pyarrow_columns(raw)),
    },
    "rows": {
        "pandas": lambda raw: _of_pandas(pd.json_normalize(json.loads(raw), "bars")),
        "polars": lambda raw: _of_polars(pl.read_json(raw)["bars"].explode().struct.unnest()),
        "pyarrow": lambda raw: _of_pyarrow(pa.Table.from_struct_array(_pyarrow_bars(raw).flatten())),
    },
    "ndjson": {
        "pandas": lambda raw: _of_pandas(_pandas_ndjson(raw)),
        "polars": lambda raw: _of_polars(pl.read_ndjson(raw)),
        "pyarrow": lambda raw: _of_pyarrow(_pyarrow_json(raw)),
    },
    "csv": {
        "pandas": lambda raw: _of_pandas(_pandas_csv(raw)),
        "polars": lambda raw: _of_polars(pl.read_csv(raw, try_parse_dates=True)),
        "pyarrow": lambda raw: _of_pyarrow(pa_csv.read_csv(BytesIO(raw))),
    },
    "arrow": {
        "pandas": lambda raw: _of_pandas(pd.read_feather(BytesIO(raw))),
        "polars": lambda raw: _of_polars(pl.read_ipc(raw)),
        "pyarrow": lambda raw: _of_pyarrow(feather.read_table(BytesIO(raw))),
    },
    "arrow-stream": {
        "pandas": lambda raw: _of_pandas(pa.ipc.open_stream(raw).read_pandas()),
        "polars": lambda raw: _of_polars(pl.read_ipc_stream(raw)),
        "pyarrow": lambda raw: _of_pyarrow(pa.ipc.open_stream(raw).read_all()),
    },
    "parquet": {
        "pandas": lambda raw: _of_pandas(pd.read_parquet(BytesIO(raw))),
        "polars": lambda raw: _of_polars(pl.read_parquet(raw)),
        "pyarrow": lambda raw: _of_pyarrow(parquet.read_table(BytesIO(raw))),
    },
    "msgpack": {"msgpack": _msgpack},  # none of the three reads it
}
