from typing import Any

import msgpack
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.compat.alpaca_session import MAX_SYMBOLS, AlpacaSession
from timebase.model.bars import Bars
from timebase.model.feed import Channel, FeedKind
from timebase.model.interval import Interval
from timebase.model.live import BarStatus
from timebase.model.ticks import Quotes, Side, TradeFlag, Trades
from timebase.streaming.event import BarRows, Event, Fault

AT_US = 1_700_000_000_123_456
TRADES = Channel(FeedKind.TRADES, "BTC-USD")
MINUTES = Channel(FeedKind.BARS, "AAPL", Interval.M1)
DAYS = Channel(FeedKind.BARS, "AAPL", Interval.D1)


def session(token: str | None = None) -> AlpacaSession:
    return AlpacaSession.of("", token)


def say(to: AlpacaSession, **message: object) -> Any:
    """What is answered to one message: the first element, for control messages stand alone."""
    (answer,) = orjson.loads(to.hear(orjson.dumps(message)).reply)
    return answer


def authenticated(**lists: list[str]) -> AlpacaSession:
    made = session()
    say(made, action="auth", key="k", secret="s")
    if lists:
        say(made, action="subscribe", **lists)
    return made


def shown(to: AlpacaSession, *events: Event) -> list[dict[str, Any]]:
    frame = to.shown(events)
    found: list[dict[str, Any]] = orjson.loads(frame) if frame else []
    return found


def minutes(status: BarStatus, channel: Channel = MINUTES) -> Event:
    return Event(BarRows.bare(status, Bars.of([AT_US], [1.0], [2.0], [0.5], [1.5], [10.0])), channel)


def test_a_client_is_greeted_then_authenticated_then_told_its_whole_subscription() -> None:
    client = session()
    assert orjson.loads(client.greeting()) == [{"T": "success", "msg": "connected"}]
    assert say(client, action="auth", key="k", secret="s") == {"T": "success", "msg": "authenticated"}
    first = client.hear(orjson.dumps({"action": "subscribe", "trades": ["BTC/USD"], "bars": ["AAPL"]}))
    assert set(first.join) == {TRADES, MINUTES}
    second = say(client, action="subscribe", quotes=["AMD"])
    assert (second["trades"], second["bars"], second["quotes"]) == (["BTC/USD"], ["AAPL"], ["AMD"])
    assert (second["dailyBars"], second["updatedBars"], second["statuses"]) == ([], [], [])


def test_the_token_is_the_key_or_the_secret_and_who_has_neither_is_hung_up_on() -> None:
    for pair in ({"key": "t", "secret": "x"}, {"key": "x", "secret": "t"}):
        assert say(session("t"), action="auth", **pair)["msg"] == "authenticated"
    said = session("t").hear(b'{"action":"auth","key":"x","secret":"y"}')
    assert (orjson.loads(said.reply)[0]["code"], said.is_over) == (402, True)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"action": "subscribe", "trades": ["AAPL"]}, 401),
        ({"action": "auth", "key": "k", "secret": "s"}, 403),
        ({"action": "subscribe", "trades": "AAPL"}, 400),
        ({"action": "subscribe", "trades": ["A\0B"]}, 400),
        ({"action": "subscribe", "bars": ["É"]}, 400),
        ({"action": "unsubscribe", "trades": ["AAPL", " "]}, 400),
        ({"action": "fly"}, 400),
        ({"action": []}, 400),
        ({"action": {"subscribe": 1}}, 400),
        ({"action": "subscribe", "trades": [f"S{n}" for n in range(MAX_SYMBOLS + 1)]}, 405),
        ({"action": "subscribe", "bars": ["*"]}, 409),
    ],
)
def test_what_cannot_be_done_is_answered_with_its_code_and_changes_nothing(
    message: dict[str, object], code: int
) -> None:
    client = session() if code == 401 else authenticated(trades=["AAPL"])
    answer = say(client, **message)
    assert (answer["T"], answer["code"]) == ("error", code)
    assert list(client.lists["trades"].values()) == ([] if code == 401 else ["AAPL"])


@pytest.mark.parametrize("count", [MAX_SYMBOLS + 1, 2 * MAX_SYMBOLS + 1, 10 * MAX_SYMBOLS])
def test_a_list_that_is_too_long_is_told_by_its_code_in_either_encoding(count: int) -> None:
    message = {"action": "subscribe", "trades": [f"S{n}" for n in range(count)]}
    for packed in (orjson.dumps(message), msgpack.packb(message)):
        (answer,) = orjson.loads(authenticated().hear(packed).reply)
        assert (answer["code"], answer["msg"]) == (405, "symbol limit exceeded")
        (answer,) = orjson.loads(session().hear(packed).reply)
        assert answer["code"] == 401


@given(st.binary(max_size=200))
def test_garbage_is_answered_and_never_an_error_of_ours(data: bytes) -> None:
    assert orjson.loads(authenticated().hear(data).reply)[0]["code"] in {400, 403}


def test_a_channel_is_left_only_when_none_of_its_lists_needs_it() -> None:
    client = authenticated(bars=["AAPL"], updatedBars=["AAPL"])
    assert client.hear(b'{"action":"unsubscribe","bars":["AAPL"]}').leave == ()
    assert client.hear(b'{"action":"unsubscribe","updatedBars":["*"]}').leave == (MINUTES,)


def test_trades_have_their_taker_and_their_id_and_pairs_a_slash() -> None:
    trades = Trades.of([AT_US, AT_US], [1.5, 2.5], [3.0, 4.0], [Side.BUY, Side.UNKNOWN], [7, 0])
    first, second = shown(authenticated(trades=["BTC/USD"]), Event(trades, TRADES))
    assert (first["T"], first["S"], first["i"], first["p"], first["s"], first["tks"]) == (
        "t",
        "BTC/USD",
        7,
        1.5,
        3.0,
        "B",
    )
    assert first["t"] == "2023-11-14T22:13:20.123456Z"
    assert (second["i"], second["tks"]) == (None, "-")


def test_cancelled_and_corrected_trades_are_not_told_as_trades() -> None:
    trades = Trades.of([AT_US, AT_US], [1.0, 2.0], [1.0, 1.0], [0, 0], [1, 2], [TradeFlag.CANCEL, 0])
    assert [row["i"] for row in shown(authenticated(trades=["BTC/USD"]), Event(trades, TRADES))] == [2]


@pytest.mark.parametrize(
    ("status", "channel", "lists", "kind"),
    [
        (BarStatus.CLOSED, MINUTES, {"bars": ["AAPL"]}, ["b"]),
        (BarStatus.CLOSED, MINUTES, {"updatedBars": ["AAPL"]}, []),
        (BarStatus.REVISED, MINUTES, {"updatedBars": ["AAPL"]}, ["u"]),
        (BarStatus.BACKFILLED, MINUTES, {"updatedBars": ["AAPL"]}, ["u"]),
        (BarStatus.REVISED, MINUTES, {"bars": ["AAPL"]}, []),
        (BarStatus.FORMING, MINUTES, {"bars": ["AAPL"], "updatedBars": ["AAPL"]}, []),
        (BarStatus.FORMING, DAYS, {"dailyBars": ["AAPL"]}, ["d"]),
        (BarStatus.MISSING, MINUTES, {"bars": ["AAPL"]}, []),
    ],
)
def test_a_bar_is_shown_as_the_list_says(
    status: BarStatus, channel: Channel, lists: dict[str, list[str]], kind: list[str]
) -> None:
    assert [row["T"] for row in shown(authenticated(**lists), minutes(status, channel))] == kind


def test_what_is_not_known_of_a_bar_is_null_and_there() -> None:
    (row,) = shown(authenticated(bars=["AAPL"]), minutes(BarStatus.CLOSED))
    assert (row["n"], row["vw"]) == (None, None)


def test_words_of_our_own_are_not_shown() -> None:
    assert shown(authenticated(trades=["BTC/USD"]), Event(Fault("x", "y"), TRADES), Event(Fault("x", "y"))) == []


def test_msgpack_frames_hold_all_rows_of_all_events_with_real_timestamps() -> None:
    client = AlpacaSession.of("application/msgpack", None)
    client.hear(msgpack.packb({"action": "auth", "key": "k", "secret": "s"}))
    client.hear(msgpack.packb({"action": "subscribe", "trades": ["BTC/USD"], "quotes": ["BTC/USD"]}))
    trades = Event(Trades.of([AT_US] * 3, np.ones(3), np.ones(3)), TRADES)
    quotes = Event(Quotes.of([AT_US], [1.0], [2.0], [3.0], [4.0]), Channel(FeedKind.QUOTES, "BTC-USD"))
    found = msgpack.unpackb(client.shown([trades, quotes]))
    assert [row["T"] for row in found] == ["t", "t", "t", "q"]
    assert found[0]["t"].to_unix_nano() == AT_US * 1000
    assert (found[3]["bp"], found[3]["as"]) == (1.0, 4.0)
