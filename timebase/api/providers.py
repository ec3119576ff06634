"""GET /providers, /providers/{slug}, POST /providers/{slug}/{enable|disable|restart}; and install, update, remove.

Installing runs code of whoever asks, with the rights of the server: it takes the token, or, on a server without one, a
program on this machine. No page can do it in a user's name: see access.py, and `_package` for what browsers send.
"""

from collections.abc import Awaitable, Callable, Mapping

from timebase.api import parameters as p
from timebase.api.exchange import Asked, Desk, Reply, json_reply
from timebase.api.faults import UnsupportedMedia
from timebase.api.parse import parse_query
from timebase.api.services import ProviderState, Roster
from timebase.api.times import iso, iso_or_none
from timebase.errors import UnknownProvider
from timebase.model.receipt import Attempt

# Nothing that a page can send to another site without asking first (text/plain, forms) is among them.
PACKAGES = ("application/gzip", "application/zip", "application/x-gzip", "application/octet-stream")


async def list_providers(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    roster = desk.services.roster
    return json_reply({
        "providers": [provider_facts(desk, state) for state in roster.all()],
        "broken": [{"folder": str(each.folder), "faults": each.faults} for each in roster.broken()],
    })  # fmt: skip


async def get_provider(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    return json_reply(provider_facts(desk, _find(desk.services.roster, asked)))


def _change(
    change: Callable[[Roster, str], Awaitable[object]],
) -> Callable[[Desk, Asked, list[Attempt]], Awaitable[Reply]]:
    async def post(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
        parse_query(asked.query, ())
        roster = desk.services.roster
        await change(roster, _find(roster, asked).slug)
        return json_reply(provider_facts(desk, _find(roster, asked)))

    return post


ACTIONS = {
    "enable": _change(lambda roster, slug: roster.enable(slug)),
    "disable": _change(lambda roster, slug: roster.disable(slug)),
    "restart": _change(lambda roster, slug: roster.restart(slug)),
}


async def install(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """201 when it is among the providers; `state` says whether its process is up yet."""
    parse_query(asked.query, ())
    slug = await desk.services.installer.install(_package(asked))
    facts = provider_facts(desk, _named(desk.services.roster, slug))
    return json_reply(facts, 201).with_headers(("location", f"/api/v1/providers/{slug}"))


async def update(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    slug = p.SLUG.read(asked.in_path["slug"])
    await desk.services.installer.update(slug, _package(asked))
    return json_reply(provider_facts(desk, _named(desk.services.roster, slug)))


async def remove(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """`kept`: where its folder lies now, in case that was a mistake."""
    parse_query(asked.query, ())
    slug = p.SLUG.read(asked.in_path["slug"])
    return json_reply({"slug": slug, "kept": str(await desk.services.installer.remove(slug))})


def _package(asked: Asked) -> bytes:
    media = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in PACKAGES:
        usual = " or ".join(PACKAGES[:2])
        raise UnsupportedMedia(f"{media or 'nothing'} is no archive; send it with Content-Type: {usual}")
    return asked.body


def _find(roster: Roster, asked: Asked) -> ProviderState:
    return _named(roster, p.SLUG.read(asked.in_path["slug"]))


def _named(roster: Roster, slug: str) -> ProviderState:
    states = roster.all()
    found = next((state for state in states if state.slug == slug), None)
    if found is None:
        raise UnknownProvider(slug, [state.slug for state in states])
    return found


def provider_facts(desk: Desk, state: ProviderState) -> Mapping[str, object]:
    """Everything but its secrets' values, which nobody here holds."""
    manifest = state.manifest
    return {
        "slug": state.slug,
        "name": state.name,
        "version": state.version,
        "description": manifest.description,
        "state": state.state,
        "reason": state.reason,
        "since": iso(state.since_us),
        "pid": state.pid,
        "restarts": state.restarts,
        "next_retry": iso_or_none(state.next_retry_us),
        "memory_bytes": state.memory_bytes,
        "in_flight": state.in_flight,
        "last_error": state.last_error,
        "capabilities": sorted(manifest.capabilities),
        "asset_classes": sorted(manifest.asset_classes),
        "intervals": [i.value for i in sorted(manifest.intervals, key=lambda i: i.us)],
        "rate_limits": [{"requests": w.requests, "seconds": w.window_s} for w in manifest.rate_limits],
        "options": {
            name: {"type": each.type, "description": each.description, "default": each.default}
            for name, each in manifest.options.items()
        },
        "symbols": [instrument.symbol for instrument in manifest.symbols],
        "cost": manifest.cost,
        "priority": manifest.priority,
        "routing": desk.services.routing(state.slug),
    }
