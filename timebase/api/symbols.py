"""GET /symbols, /symbols/{symbol} and /symbols/{symbol}/providers: what the store and the manifests know."""

from collections.abc import Mapping
from difflib import get_close_matches

from timebase.api import parameters as p
from timebase.api.exchange import Asked, Desk, Reply, json_reply
from timebase.api.parse import parse_query
from timebase.api.services import ProviderState
from timebase.errors import UnknownSymbol
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.receipt import Attempt

LIST_QUERY = (p.QUERY, p.ASSET_CLASS, p.AFTER, p.PAGE)
PAGE = 100
NEAR = 5


async def list_symbols(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """By symbol, from the store and the manifests' own lists."""
    given = parse_query(asked.query, LIST_QUERY)
    wanted, after, limit = given.get(p.QUERY) or "", given.get(p.AFTER) or "", given.get(p.PAGE) or PAGE
    class_name = given.get(p.ASSET_CLASS)
    asset_class = AssetClass(class_name) if class_name else None
    stored = await desk.services.store.list_symbols(wanted, asset_class, after, limit + 1)
    listed = [
        each for each in desk.services.roster.symbols() if _fits(each, wanted, asset_class) and each.symbol > after
    ]
    known = {each.symbol: each for each in (*listed, *stored)}
    page = [known[symbol] for symbol in sorted(known)[: limit + 1]]
    return json_reply({
        "symbols": [_facts(each) for each in page[:limit]],
        "next": page[limit - 1].symbol if len(page) > limit else None,
    })  # fmt: skip


async def get_symbol(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    instrument = await find_instrument(desk, p.SYMBOL.read(asked.in_path["symbol"]))
    series = await desk.services.store.series_of(instrument.id) if instrument.id else ()
    shown = [{"provider": each.provider, "interval": each.interval.value} for each in series]
    return json_reply({**_facts(instrument), "series": shown})


async def get_symbol_providers(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    instrument = await find_instrument(desk, p.SYMBOL.read(asked.in_path["symbol"]))
    claiming = [state for state in desk.services.roster.all() if _claims(state, instrument)]
    return json_reply({
        "symbol": instrument.symbol,
        "providers": [
            {
                "slug": each.slug,
                "name": each.name,
                "state": each.state,
                "reason": each.reason,
                "intervals": [i.value for i in sorted(each.manifest.intervals, key=lambda i: i.us)],
            }
            for each in claiming
        ],
    })  # fmt: skip


async def find_instrument(desk: Desk, symbol: str) -> Instrument:
    """Raises: UnknownSymbol with near ones, when neither the store nor a manifest knows it."""
    listed = desk.services.roster.symbols()
    stored = await desk.services.store.known_instrument(symbol)
    found = stored or next((each for each in listed if each.symbol == symbol), None)
    if found is None:
        near = get_close_matches(symbol, [each.symbol for each in listed], NEAR)
        stored_near = await desk.services.store.near_symbols(symbol, NEAR)
        raise UnknownSymbol(symbol, tuple(dict.fromkeys((*near, *stored_near)))[:NEAR])
    return found


def _fits(instrument: Instrument, wanted: str, asset_class: AssetClass | None) -> bool:
    text = f"{instrument.symbol} {instrument.name}".casefold()
    return wanted.casefold() in text and asset_class in (None, instrument.asset_class)


def _claims(state: ProviderState, instrument: Instrument) -> bool:
    own = state.manifest.symbols
    if own:
        return any(each.symbol == instrument.symbol for each in own)
    return instrument.asset_class in state.manifest.asset_classes


def _facts(instrument: Instrument) -> Mapping[str, object]:
    return {
        "symbol": instrument.symbol,
        "asset_class": instrument.asset_class,
        "name": instrument.name,
        "currency": instrument.currency,
        "exchange": instrument.exchange,
        "timezone": instrument.timezone,
    }
