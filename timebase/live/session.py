"""Whether an instrument's market is open at an instant: from its class, time zone and exchange. Pure.

New York's holidays and half days are known by rule; other exchanges' are not: a calendar library that knows them takes
0.7 s to import, 0.25 s for each exchange and, with pandas, 53 MB (measured with exchange_calendars 4.13.2 and four
exchanges, numpy being there already), to tell a quiet holiday from a quiet hour. On a holiday there a feed is therefore
called quiet, or mute when its vendor sends no pulses. Where nothing is known, nothing is claimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from timebase.model.holidays import new_york_half_days, new_york_holidays
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.timerange import to_datetime, to_us

Hours = tuple[tuple[time, time], ...]  # of one day, from and to

SATURDAY, SUNDAY, FRIDAY = 5, 6, 4
NEW_YORK, HALF_DAY_ENDS = "America/New_York", time(13)
FOREX_TURN = time(17)  # in New York
LISTED = frozenset({AssetClass.STOCK, AssetClass.ETF, AssetClass.INDEX})  # traded in an exchange's hours

# Source: the exchanges' own pages on trading hours; continuous trading on Monday to Friday, local time.
HOURS: Mapping[str, Hours] = {
    NEW_YORK: ((time(9, 30), time(16)),),
    "America/Toronto": ((time(9, 30), time(16)),),
    "Europe/London": ((time(8), time(16, 30)),),
    "Europe/Berlin": ((time(9), time(17, 30)),),
    "Europe/Paris": ((time(9), time(17, 30)),),
    "Europe/Amsterdam": ((time(9), time(17, 30)),),
    "Europe/Zurich": ((time(9), time(17, 30)),),
    "Asia/Tokyo": ((time(9), time(11, 30)), (time(12, 30), time(15, 30))),
    "Asia/Hong_Kong": ((time(9, 30), time(12)), (time(13), time(16))),
    "Asia/Kolkata": ((time(9, 15), time(15, 30)),),
    "Australia/Sydney": ((time(10), time(16)),),
}
# Names of exchanges, and Yahoo's short ones.
ZONES: Mapping[str, str] = {
    **dict.fromkeys(("NASDAQ", "NYSE", "AMEX", "ARCA", "NMS", "NGM", "NCM", "NYQ", "PCX", "ASE"), NEW_YORK),
    **dict.fromkeys(("TSX", "TOR"), "America/Toronto"),
    **dict.fromkeys(("LSE",), "Europe/London"),
    **dict.fromkeys(("XETRA", "GER", "FRA"), "Europe/Berlin"),
    **dict.fromkeys(("EURONEXT PARIS", "PAR"), "Europe/Paris"),
    **dict.fromkeys(("TSE", "JPX"), "Asia/Tokyo"),
    **dict.fromkeys(("HKEX", "HKG"), "Asia/Hong_Kong"),
    **dict.fromkeys(("NSE", "NSI", "BSE"), "Asia/Kolkata"),
    **dict.fromkeys(("ASX",), "Australia/Sydney"),
}


@dataclass(frozen=True, slots=True)
class Session:
    """`since_us`: when an open one opened, µs UTC; None: it never closes, or it is closed."""

    is_open: bool
    since_us: int | None = None


ALWAYS = Session(True)
CLOSED = Session(False)


def session_at(instrument: Instrument, at_us: int) -> Session | None:
    """None: nobody knows."""
    if instrument.asset_class is AssetClass.CRYPTO:
        return ALWAYS
    if instrument.asset_class is AssetClass.FOREX:
        return _forex(to_datetime(at_us).astimezone(_zone(NEW_YORK)))
    zone = _zone_of(instrument)
    if zone is None:
        return None
    local = to_datetime(at_us).astimezone(_zone(zone))
    return _listed(local, _new_york_hours(local.date()) if zone == NEW_YORK else HOURS[zone])


def _zone_of(instrument: Instrument) -> str | None:
    if instrument.asset_class not in LISTED:
        return None
    if instrument.timezone in HOURS:
        return instrument.timezone
    return None if instrument.timezone else ZONES.get(instrument.exchange.upper())


def _new_york_hours(day: date) -> Hours:
    if day in new_york_holidays(day.year):
        return ()
    if day in new_york_half_days(day.year):
        return tuple((opens, HALF_DAY_ENDS) for opens, _ in HOURS[NEW_YORK])
    return HOURS[NEW_YORK]


def _listed(local: datetime, hours: Hours) -> Session:
    if local.weekday() in (SATURDAY, SUNDAY):
        return CLOSED
    for opens, closes in hours:
        if opens <= local.time() < closes:
            return Session(True, to_us(datetime.combine(local.date(), opens, local.tzinfo)))
    return CLOSED


def _forex(local: datetime) -> Session:
    """Sunday 17:00 to Friday 17:00 in New York."""
    day, is_late = local.weekday(), local.time() >= FOREX_TURN
    if day == SATURDAY or (day == SUNDAY and not is_late) or (day == FRIDAY and is_late):
        return CLOSED
    opened = local.date() - timedelta(days=(local.weekday() + 1) % 7)
    return Session(True, to_us(datetime.combine(opened, FOREX_TURN, local.tzinfo)))


@lru_cache(maxsize=32)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
