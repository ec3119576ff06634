"""Forms and encodings, chosen as the client prefers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.api.negotiate import FORMATS, choose_encoding, choose_form


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("application/vnd.apache.arrow.file", "arrow"),
        ("application/vnd.apache.arrow.stream", "arrow-stream"),
        ("application/vnd.apache.parquet", "parquet"),
        ("application/x-msgpack", "msgpack"),
        ("application/x-ndjson", "ndjson"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "json"),
        ("text/csv;q=0.5, application/vnd.msgpack", "msgpack"),
        ("text/csv;q=0, */*;q=0.1", "json"),
        ("image/png", "json"),
        ("text/csv;q=x", "json"),
    ],
)
def test_the_accept_header_chooses(accept: str, expected: str) -> None:
    assert choose_form(None, None, accept).format.name == expected


def test_the_format_parameter_wins() -> None:
    assert choose_form("rows", "iso", "text/csv").format.name == "rows"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, zstd;q=0", "gzip"),
        ("br", None),
    ],
)
def test_the_best_encoding_that_the_client_knows_is_taken(accept: str, expected: str | None) -> None:
    assert choose_encoding(accept) == expected


@given(st.text(max_size=60))
def test_no_header_breaks_the_choice(header: str) -> None:
    assert choose_form(None, None, header).format in FORMATS.values()
    assert choose_encoding(header) in {None, "gzip", "zstd"}
