"""bar_extras: the volume-weighted average price and the number of trades of bars that were built from trades."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timebase.storage.queries.query import Query

_UPSERT = """
INSERT INTO bar_extras AS known (series_id, time, vwap, trades)
SELECT series_id, timestamptz 'epoch' + at * interval '1 microsecond', nullif(vwap, 'NaN'), trades
  FROM unnest($1::integer[], $2::bigint[], $3::float8[], $4::bigint[]) AS given (series_id, at, vwap, trades)
    ON CONFLICT (series_id, time) DO UPDATE SET vwap = excluded.vwap, trades = excluded.trades
 WHERE (known.vwap, known.trades) IS DISTINCT FROM (excluded.vwap, excluded.trades)
"""


@dataclass(frozen=True, slots=True, eq=False)
class Extras:
    """Shape: columns of one length, no period of a series twice. Units: `time` µs, opening; `vwap` NaN: unknown."""

    series_id: NDArray[np.int32]
    time: NDArray[np.int64]
    vwap: NDArray[np.float64]
    trades: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)


def extras_upsert(extras: Extras) -> Query[None]:
    columns = (extras.series_id, extras.time, extras.vwap, extras.trades)
    return Query(_UPSERT, tuple(column.tolist() for column in columns))
