"""Query strings and bodies become questions, or an error that names what is wrong."""

import base64
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.api import parameters as p
from timebase.api.exchange import Asked
from timebase.api.parse import (
    BACKFILL,
    DATA_OF_ANY,
    DataAsked,
    make_cursor,
    parse_backfill,
    parse_body,
    parse_data,
    parse_query,
    parse_range,
)
from timebase.errors import BadBody, BadParameter
from timebase.model.demand import Question
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, HOUR_US, TimeRange

NOW = 1_700_000_000_000_000  # 2023-11-14 22:13:20
DAY = NOW // DAY_US * DAY_US


def ask(
    symbol: str = "AAPL", slug: str | None = None, accept: str = "", max_bars: int = 1000, **query: object
) -> DataAsked:
    in_path = {"symbol": symbol} | ({"slug": slug} if slug else {})
    asked = Asked("GET", "/", urlencode(query).encode(), {"accept": accept}, in_path)
    return parse_data(asked, now_us=NOW, max_bars=max_bars)


def fault_of(symbol: str = "AAPL", slug: str | None = None, **query: object) -> BadParameter:
    with pytest.raises(BadParameter) as caught:
        ask(symbol, slug, **query)
    return caught.value


def test_a_full_question_is_read_as_asked() -> None:
    asked = ask(
        "btc/usdt", interval="60m", start="2020-01-01", end="2020-01-02", limit=10, adjust="all", provider="demo",
        as_of="2021-01-01", refresh="true", format="csv",
    )  # fmt: skip
    start_us = 1_577_836_800_000_000
    assert asked.question == Question(
        symbol="BTC-USDT", interval=Interval.H1, range=TimeRange(start_us, start_us + DAY_US), limit=10, adjust="all",
        provider="demo", as_of_us=1_609_459_200_000_000, refresh=True,
    )  # fmt: skip
    assert (asked.form.format.name, asked.form.times) == ("csv", "iso")


def test_without_a_range_the_last_year_of_days_is_meant() -> None:
    question = ask().question
    assert (question.interval, question.limit, question.keep) == (Interval.D1, 1000, "oldest")
    assert question.range == TimeRange(DAY + DAY_US - 365 * DAY_US, DAY + DAY_US)


def test_a_question_asked_a_minute_later_is_the_same_question() -> None:
    later = Asked("GET", "/", b"start=-30d", {}, {"symbol": "AAPL"})
    first = parse_data(later, now_us=NOW, max_bars=10)
    assert first.question == parse_data(later, now_us=NOW + 60_000_000, max_bars=10).question


def test_a_limit_without_a_start_keeps_the_newest_bars() -> None:
    question = ask(limit=5).question
    assert (question.limit, question.keep) == (5, "newest")
    far = ask(limit=900).question
    assert far.range.length_us > 900 * DAY_US
    assert ask(limit=5, start="-1y").question.keep == "oldest"


def test_the_provider_of_the_path_is_the_only_one() -> None:
    assert ask(slug="demo").question.provider == "demo"
    fault = fault_of(slug="demo", provider="other")
    assert fault.parameter == "provider"
    assert "interval" in fault.allowed


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("interval", "2m", "1m"),
        ("start", "tomorrow", ""),
        ("end", "x", ""),
        ("limit", "0", ""),
        ("limit", "1000001", ""),
        ("limit", "-5", ""),
        ("limit", "1e3", ""),
        ("limit", "٣", ""),
        ("adjust", "both", "splits"),
        ("provider", "../etc", ""),
        ("as_of", "soon", ""),
        ("refresh", "yes", "true"),
        ("format", "xml", "parquet"),
        ("times", "us", "iso"),
        ("cursor", "!", ""),
        ("cursor", "", ""),
    ],
)
def test_a_bad_value_is_refused_under_its_name(name: str, value: str, allowed: str) -> None:
    fault = fault_of(**{name: value})
    assert fault.parameter == name
    assert not allowed or allowed in fault.allowed


def test_an_unknown_parameter_is_refused_with_the_near_one() -> None:
    fault = fault_of(intervall="1d")
    assert fault.parameter == "intervall"
    assert "did you mean interval?" in str(fault)


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(BadParameter, match="given twice"):
        parse_query(b"interval=1d&interval=1m", DATA_OF_ANY)


@pytest.mark.parametrize(
    "query", [b"interval=%ff", b"q=\xff", b"&".join(b"a%d=1" % n for n in range(40)), b"start=%00"]
)
def test_what_is_not_a_query_string_is_refused(query: bytes) -> None:
    with pytest.raises(BadParameter):
        parse_query(query, DATA_OF_ANY)


@pytest.mark.parametrize(
    "symbol", ["", " ", "A B", "A\0", "Ä", "A" * 65, "<script>", "A,B", "AAPL/", "/AAPL", ".", "..", "-A"]
)
def test_what_is_not_a_symbol_is_refused(symbol: str) -> None:
    assert fault_of(symbol).parameter == "symbol"


def test_an_end_before_the_start_is_refused() -> None:
    assert fault_of(start="2020-01-02", end="2020-01-01").parameter == "start"
    assert fault_of(start="2020-01-01T10:00:10", end="2020-01-01T10:00:50", interval="1m").parameter == "start"


@pytest.mark.parametrize(("form", "times"), [("arrow", "ms"), ("parquet", "iso"), ("msgpack", "iso")])
def test_times_that_a_format_has_no_place_for_are_refused(form: str, times: str) -> None:
    assert fault_of(format=form, times=times).parameter == "times"


def test_a_cursor_carries_the_whole_question() -> None:
    question = ask(
        interval="1h",
        start="2020-01-01",
        end="2020-02-01",
        limit=10,
        adjust="splits",
        provider="demo",
        as_of="2021-01-01",
    ).question
    cursor = make_cursor(question, question.range.start_us + HOUR_US)
    resumed = ask(cursor=cursor, format="rows")
    later = TimeRange(question.range.start_us + HOUR_US, question.range.end_us)
    assert resumed.question == Question(
        symbol="AAPL", interval=Interval.H1, range=later, limit=10, adjust="splits", provider="demo",
        as_of_us=question.as_of_us,
    )  # fmt: skip
    assert resumed.form.format.name == "rows"


def test_a_cursor_of_another_question_is_refused() -> None:
    cursor = make_cursor(ask(start="2020").question, NOW)
    assert fault_of("MSFT", cursor=cursor).parameter == "cursor"
    assert fault_of("AAPL", slug="demo", cursor=cursor).parameter == "cursor"


@given(st.one_of(st.binary(max_size=80), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=12)))
def test_no_forged_cursor_breaks_the_reader(content: object) -> None:
    try:
        raw = content if isinstance(content, bytes) else orjson.dumps(content)
    except TypeError:
        return  # a number that JSON does not hold
    cursor = base64.urlsafe_b64encode(raw).decode()
    assert fault_of(cursor=cursor).parameter == "cursor"


@given(st.lists(st.tuples(st.sampled_from([each.name for each in DATA_OF_ANY]), st.text(max_size=20)), max_size=4))
def test_no_query_breaks_the_reader(pairs: list[tuple[str, str]]) -> None:
    query = urlencode(pairs, errors="replace").encode()
    try:
        parse_data(Asked("GET", "/", query, {}, {"symbol": "AAPL"}), now_us=NOW, max_bars=10)
    except BadParameter as exc:
        assert exc.parameter  # noqa: PT017 - that it is this error, and names something, is the point


def test_a_body_is_read_like_a_query() -> None:
    body = b'{"symbol": "aapl", "start": 1577836800, "end": "2020-01-03", "refresh": true, "provider": null}'
    question = parse_backfill(Asked("POST", "/", b"", {}, {}, body), now_us=NOW)
    start_us = 1_577_836_800_000_000
    assert question == Question("AAPL", Interval.D1, TimeRange(start_us, start_us + 2 * DAY_US), refresh=True)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'"a"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        parse_body(body, BACKFILL)


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"{}", "symbol"),
        (b'{"symbol": []}', "symbol"),
        (b'{"symbol": "A\\u0000"}', "symbol"),
        (b'{"symbol": "AAPL", "intervall": "1d"}', "intervall"),
        (b'{"symbol": "AAPL", "start": {}}', "start"),
    ],
)
def test_a_bad_body_is_refused_under_the_parameters_name(body: bytes, parameter: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse_backfill(Asked("POST", "/", b"", {}, {}, body), now_us=NOW)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    "change",
    [
        {0: 2},
        {1: "not a symbol"},
        {2: "2m"},
        {3: True},
        {3: 10**18},
        {4: 0},
        {5: 0},
        {6: "both"},
        {7: "../etc"},
        {8: "soon"},
        {9: "yes"},
    ],
)
def test_a_cursor_changed_in_any_part_is_refused(change: dict[int, object]) -> None:
    cursor = make_cursor(ask(start="2020-01-01", end="2020-02-01").question, 1_578_000_000_000_000)
    parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=="))
    for at, value in change.items():
        parts[at] = value
    forged = base64.urlsafe_b64encode(orjson.dumps(parts)).decode()
    assert fault_of(cursor=forged).parameter == "cursor"
    assert fault_of(cursor="A" * 1001).parameter == "cursor"


def test_a_question_about_a_range_takes_no_form() -> None:
    asked = Asked("GET", "/", b"format=csv", {}, {"symbol": "AAPL"})
    with pytest.raises(BadParameter, match="format"):
        parse_range(asked, now_us=NOW, known=(p.INTERVAL, p.START))
