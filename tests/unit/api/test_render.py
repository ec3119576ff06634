"""Bars in every format, read back by those who will read them."""

import io
import json
from collections.abc import Callable

import msgpack
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.api import render
from timebase.api.negotiate import FORMATS, Form
from timebase.model.bars import COLUMNS, Bars
from timebase.model.timerange import MINUTE_US, SECOND_US

START = 1_577_836_800_000_000  # 2020-01-01
RECEIPT = {"timebase": '{"symbol":"AAPL"}'}


def bars_of(count: int, seed: int = 1) -> Bars:
    """Prices of all magnitudes, down to those without a short decimal form."""
    random = np.random.default_rng(seed)
    prices = [random.normal(100, 30, count) * 10.0 ** random.integers(-8, 12, count) for _ in range(5)]
    return Bars.of(START + np.arange(count) * MINUTE_US, *prices, flags=random.integers(0, 16, count))


def rendered(bars: Bars, name: str, times: str = "") -> bytes:
    form = Form(FORMATS[name], times or (FORMATS[name].times or ("",))[0])
    return b"".join(render.pieces(bars, form, RECEIPT))


def of_columns(columns: dict[str, object], unit_us: int = 1) -> Bars:
    """Bars from whatever numpy reads, with times in a unit."""
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    return Bars.of(*(arrays[n] * unit_us if n == "time" else arrays[n] for n in COLUMNS))  # type: ignore[arg-type]


def of_pandas(frame: pd.DataFrame) -> Bars:
    time = frame["time"].astype("datetime64[us, UTC]").astype("int64")
    return of_columns({"time": time, **{name: frame[name] for name in COLUMNS[1:]}})


def of_polars(frame: pl.DataFrame) -> Bars:
    time = frame["time"].cast(pl.Datetime("us", "UTC")).to_physical()
    return of_columns({"time": time, **{name: frame[name] for name in COLUMNS[1:]}})


def of_arrow(table: pa.Table) -> Bars:
    assert table.schema.field("time").type == pa.timestamp("us", "UTC")
    time = table["time"].cast(pa.int64())
    return of_columns({"time": time, **{name: table[name] for name in COLUMNS[1:]}})


def of_json(body: bytes) -> Bars:
    return of_columns(json.loads(body), 1000)


def of_rows(rows: list[dict[str, float]]) -> Bars:
    return of_columns({name: [row[name] for row in rows] for name in COLUMNS}, 1000)


def of_msgpack(body: bytes) -> Bars:
    columns = msgpack.unpackb(body)
    return of_columns({name: np.frombuffer(columns[name], render.DTYPES[name]) for name in COLUMNS}, 1000)


def pandas_json(body: bytes) -> pd.DataFrame:
    frame = pd.read_json(io.BytesIO(body), dtype=False, precise_float=True)
    return frame.assign(time=pd.to_datetime(frame["time"].astype("int64"), unit="ms", utc=True))


READERS: dict[str, tuple[str, Callable[[bytes], Bars]]] = {
    "json by hand": ("json", of_json),
    "rows by hand": ("rows", lambda body: of_rows(json.loads(body))),
    "rows by pandas": ("rows", lambda body: of_pandas(pandas_json(body))),
    "ndjson by hand": ("ndjson", lambda body: of_rows([json.loads(line) for line in body.splitlines()])),
    "ndjson by polars": ("ndjson", lambda body: of_polars(pl.read_ndjson(body).with_columns(pl.col("time") * 1000))),
    "csv by pandas": ("csv", lambda body: of_pandas(pd.read_csv(io.BytesIO(body), parse_dates=["time"]))),
    "csv by polars": ("csv", lambda body: of_polars(pl.read_csv(body, try_parse_dates=True))),
    "arrow by pandas": ("arrow", lambda body: of_pandas(pd.read_feather(io.BytesIO(body)))),
    "arrow by polars": ("arrow", lambda body: of_polars(pl.read_ipc(body))),
    "arrow by pyarrow": ("arrow", lambda body: of_arrow(pa.ipc.open_file(body).read_all())),
    "arrow stream by polars": ("arrow-stream", lambda body: of_polars(pl.read_ipc_stream(body))),
    "arrow stream by pyarrow": ("arrow-stream", lambda body: of_arrow(pa.ipc.open_stream(body).read_all())),
    "parquet by pandas": ("parquet", lambda body: of_pandas(pd.read_parquet(io.BytesIO(body)))),
    "parquet by polars": ("parquet", lambda body: of_polars(pl.read_parquet(body))),
    "parquet by pyarrow": ("parquet", lambda body: of_arrow(pq.read_table(io.BytesIO(body)))),
    "msgpack by numpy": ("msgpack", of_msgpack),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("count", [1, 390, render.PIECE + 3])
def test_what_is_read_back_is_what_was_sent(reader: str, count: int) -> None:
    name, read = READERS[reader]
    bars = bars_of(count)
    assert read(rendered(bars, name)).equals(bars)


@pytest.mark.parametrize(
    "reader", [r for r in READERS if not r.startswith(("ndjson by polars", "csv", "rows by pandas"))]
)
def test_no_bars_are_a_whole_answer_too(reader: str) -> None:
    name, read = READERS[reader]
    assert len(read(rendered(Bars.empty(), name))) == 0


def test_an_empty_csv_has_its_header() -> None:
    assert rendered(Bars.empty(), "csv") == b"time,open,high,low,close,volume,flags\n"


@pytest.mark.parametrize("name", ["json", "rows", "ndjson", "csv"])
@pytest.mark.parametrize(
    ("times", "expected"), [("ms", 1577836800000), ("s", 1577836800), ("iso", "2020-01-01T00:00:00Z")]
)
def test_times_come_as_asked(name: str, times: str, expected: object) -> None:
    body = rendered(bars_of(2), name, times)
    first = {
        "json": lambda: json.loads(body)["time"][0],
        "rows": lambda: json.loads(body)[0]["time"],
        "ndjson": lambda: json.loads(body.splitlines()[0])["time"],
        "csv": lambda: type(expected)(body.splitlines()[1].split(b",")[0].decode()),
    }[name]()
    assert first == expected


@pytest.mark.parametrize("name", ["json", "rows", "csv", "ndjson"])
def test_a_long_answer_is_the_same_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = bars_of(1000)
    whole = rendered(bars, name)
    monkeypatch.setattr(render, "PIECE", 64)
    in_pieces = list(render.pieces(bars, Form(FORMATS[name], FORMATS[name].times[0]), RECEIPT))
    assert len(in_pieces) > 10
    assert b"".join(in_pieces) == whole


def test_views_and_strided_columns_render_like_copies() -> None:
    bars = bars_of(1000)
    view = bars.pick(slice(100, 200))
    every_other = bars.pick(slice(None, None, 2))
    copies = [Bars(*(np.array(column) for column in each.columns())) for each in (view, every_other)]  # type: ignore[arg-type]
    for name in FORMATS:
        assert rendered(view, name) == rendered(copies[0], name)
        assert rendered(every_other, name) == rendered(copies[1], name)


def test_files_carry_their_receipt() -> None:
    bars = bars_of(3)
    assert pa.ipc.open_file(rendered(bars, "arrow")).schema.metadata == {b"timebase": b'{"symbol":"AAPL"}'}
    assert pl.read_parquet_metadata(io.BytesIO(rendered(bars, "parquet")))["timebase"] == '{"symbol":"AAPL"}'


def test_arrow_is_accepted_by_a_full_validation() -> None:
    table = pa.ipc.open_file(rendered(bars_of(1001), "arrow")).read_all()
    table.validate(full=True)
    assert not any(field.nullable for field in table.schema)


@given(st.integers(-2_000_000_000, 7_000_000_000))
def test_one_instant_is_shown_like_a_column_of_them(second: int) -> None:
    at_us = second * SECOND_US
    bars = Bars.of([at_us], [1], [1], [1], [1], [1])
    for times in ("ms", "s", "iso"):
        assert json.loads(rendered(bars, "json", times))["time"] == [render.instant(at_us, times)]


@given(st.integers(0, 99), st.sampled_from(COLUMNS[1:]))
def test_the_fingerprint_tells_any_changed_value(row: int, name: str) -> None:
    bars = bars_of(100)
    columns = {n: np.array(c) for n, c in zip(COLUMNS, bars.columns(), strict=True)}
    columns[name][row] += 1
    assert render.fingerprint(Bars(**columns)) != render.fingerprint(bars)  # type: ignore[arg-type]
    assert render.fingerprint(bars_of(100)) == render.fingerprint(bars)
    assert render.fingerprint(bars.pick(slice(99))) != render.fingerprint(bars)
