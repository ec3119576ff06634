"""GET and PUT /replay: the tapes that are played, and the hand on them."""

from pathlib import Path

from timebase.api import parameters as p
from timebase.api.exchange import Asked, Desk, Reply, json_reply
from timebase.api.parse import parse_body, parse_query, require_json
from timebase.api.services import ReplayDesk
from timebase.clock import now_us
from timebase.errors import BadParameter
from timebase.model.receipt import Attempt
from timebase.model.replay import Tape

BODY = (p.TAPES, p.SPEED, p.POSITION, p.PLAY)


async def get_replay(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    return _reply(desk.services.replay)


async def put_replay(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """What is not given stays as it is. New tapes play from their beginning unless `state` or `position` say else."""
    parse_query(asked.query, ())
    require_json(asked)
    given = parse_body(asked.body, BODY)
    play = given.get(p.PLAY)
    lines = given.get(p.TAPES)
    tapes = () if play == "stopped" else None if lines is None else _tapes(lines)
    desk.services.replay.give(
        tapes=tapes,
        speed=given.get(p.SPEED),
        is_playing=None if play is None else play == "playing",
        position_us=given.time_us(p.POSITION, now_us()),
    )
    return _reply(desk.services.replay)


def _tapes(lines: str) -> tuple[Tape, ...]:
    """Raises: BadParameter, naming the line."""
    tapes: dict[str, Tape] = {}
    for line in filter(None, map(str.strip, lines.splitlines())):
        symbol, mark, path = line.partition("=/")
        if not mark:
            raise BadParameter("tapes", f"{line[:80]!r} is not SYMBOL=PATH with a path from the root on")
        tape = Tape(p.SYMBOL.read(symbol), f"/{path}")
        if not Path(tape.path).is_file():
            raise BadParameter("tapes", f"there is no file {tape.path[:200]} on the server's machine")
        if tape.symbol in tapes:
            raise BadParameter("tapes", f"{tape.symbol} is written twice; one file has one symbol's trades")
        tapes[tape.symbol] = tape
    if not tapes:
        raise BadParameter("tapes", "names no tape; write BTC-USDT=/data/btc.csv")
    return tuple(tapes.values())


def _reply(replay: ReplayDesk) -> Reply:
    order, state = replay.order(), replay.state()
    is_obeyed = state.serial >= order.serial
    return json_reply({
        "state": state.state.value if is_obeyed else "waiting",
        "tapes": [{"symbol": tape.symbol, "path": tape.path} for tape in order.tapes],
        "speed": order.speed,
        "position": _ms(state.position_us if is_obeyed else order.position_us),
        "begin": _ms(state.begin_us if is_obeyed else None),
        "end": _ms(state.end_us if is_obeyed else None),
        "trades": state.trades if is_obeyed else 0,
        "error": state.error if is_obeyed else "",
    })  # fmt: skip


def _ms(at_us: int | None) -> int | None:
    return None if at_us is None else at_us // 1_000
