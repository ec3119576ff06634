"""GET /health: is the server fit to answer, and how is each of its parts?"""

import trio

from timebase.actors import RUNNING
from timebase.api.access import is_trusted
from timebase.api.exchange import Asked, Desk, Reply, json_reply
from timebase.api.parse import parse_query
from timebase.api.services import Spool
from timebase.api.times import iso
from timebase.clock import now_us
from timebase.errors import StoreUnavailable
from timebase.model.receipt import Attempt
from timebase.model.timerange import SECOND_US

PING_S = 2.0  # a database that needs longer than this for `SELECT 1` cannot be said to answer
WELL = frozenset({"ready", "starting", "disabled", "waiting"})  # waiting: for an option or a secret that is not set


async def get_health(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """200 when the database answers and every actor runs (the store opens only after its migrations), else 503.

    "degraded" is a 200 with a provider that is down, a manifest that is broken or a spool that does not work. A server
    with a token keeps its addresses and paths from those who have not got it.
    """
    parse_query(asked.query, ())
    services = desk.services
    is_ours = is_trusted(desk, asked)
    reason = await _reason_down(desk)
    actors = services.actors()
    states = services.roster.all()
    is_up = not reason and all(state == RUNNING for state in actors.values())
    is_spooling = not services.spool.refusal and not services.spool.stuck
    is_whole = is_spooling and not services.roster.broken() and all(each.state in WELL for each in states)
    content = {
        "status": "down" if not is_up else "ok" if is_whole else "degraded",
        "version": services.version,
        "started": iso(services.started_us),
        "uptime_s": (now_us() - services.started_us) // SECOND_US,
        "database": {"is_up": not reason, **({"reason": reason, **services.store.health()} if is_ours else {})},
        "spool": _spool_facts(services.spool, is_ours=is_ours),
        "actors": actors,
        "providers": [{"slug": s.slug, "state": s.state, "reason": s.reason} for s in states],
        "broken": [str(each.folder) if is_ours else each.folder.name for each in services.roster.broken()],
    }
    return json_reply(content, 200 if is_up else 503).with_headers(("cache-control", "no-store"))


def _spool_facts(spool: Spool, *, is_ours: bool) -> dict[str, object]:
    return {
        "waiting": len(spool),
        "bytes": spool.bytes,
        "limit_bytes": spool.max_bytes,
        "is_refusing": bool(spool.refusal),
        **({"reason": spool.refusal} if is_ours else {}),
        "lost": spool.lost,
        "stuck": spool.stuck,
    }


async def _reason_down(desk: Desk) -> str:
    try:
        with trio.fail_after(PING_S):
            await desk.services.store.ping()
    except trio.TooSlowError:
        return f"no answer within {PING_S:g} s"
    except StoreUnavailable as exc:
        return str(exc) or "the database is away"
    return ""
