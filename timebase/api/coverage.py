"""GET /coverage/{symbol}: the ledger of everything stored of a symbol, range by range."""

from timebase.api import parameters as p
from timebase.api.exchange import Asked, Desk, Reply, json_reply
from timebase.api.parse import parse_query
from timebase.api.render import instant
from timebase.api.symbols import find_instrument
from timebase.model.receipt import Attempt
from timebase.model.timerange import Ranges

QUERY = (p.INTERVAL, p.PROVIDER, p.TIME_UNIT)


async def get_coverage(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    given = parse_query(asked.query, QUERY)
    interval, provider, times = given.get(p.INTERVAL), given.get(p.PROVIDER), given.get(p.TIME_UNIT) or "ms"
    store = desk.services.store
    instrument = await find_instrument(desk, p.SYMBOL.read(asked.in_path["symbol"]))

    def shown(ranges: Ranges) -> list[list[int | str]]:
        return [[instant(part.start_us, times), instant(part.end_us, times)] for part in ranges.parts]

    found = []
    for series in await store.series_of(instrument.id):
        if interval in (None, series.interval) and provider in (None, series.provider):
            ledger = await store.coverage(series.id)
            outcomes = {
                "complete": shown(ledger.complete),
                "empty": shown(ledger.empty),
                "refused": shown(ledger.refused),
                "partial": shown(ledger.partial),
                "failed": shown(ledger.failed),
            }
            found.append({"provider": series.provider, "interval": series.interval.value, "coverage": outcomes})
    return json_reply({"symbol": instrument.symbol, "series": found})
