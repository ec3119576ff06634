"""One message of Yahoo's WebSocket, as yfinance has decoded it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from timebase.model.timerange import to_datetime
from timebase.sdk import Malformed


@dataclass(frozen=True, slots=True)
class Pricing:
    """What is said of one symbol. A number that is not said is 0, which protobuf cannot tell from a 0 that is.

    Units: `time_us` µs UTC; sizes as Yahoo gives them.
    """

    native: str
    time_us: int
    bid: float = 0.0
    bid_size: float = 0.0
    ask: float = 0.0
    ask_size: float = 0.0

    @property
    def is_quote(self) -> bool:
        """One side alone is none: whether the other is gone or has not changed is not said."""
        return self.bid > 0 and self.ask > 0


def parse_pricing(fields: Mapping[str, object]) -> Pricing:
    """Read the fields of one PricingData.

    Source: yfinance, pricing.proto.
    Raw: {"id": "BTC-USD", "price", "time": "ms", "day_volume", "last_size", "bid", "bid_size", "ask", "ask_size", …};
        fields that are 0 are left out. `last_size` is the volume of the day again, so that there are no trades in it.
    Raises: Malformed.
    """
    try:
        native, time_us = str(fields["id"]), int(str(fields["time"])) * 1_000
        to_datetime(time_us)
        bid, bid_size, ask, ask_size = (float(str(fields.get(n, 0))) for n in ("bid", "bid_size", "ask", "ask_size"))
    except (KeyError, ValueError, OverflowError) as exc:
        raise Malformed(f"Yahoo's message cannot be read: {exc!r}: {str(fields)[:200]}") from exc
    return Pricing(native, time_us, bid, bid_size, ask, ask_size)
