"""What the store does for itself: forgetting, compressing, rolling up. Made by the store, and tells it what changed."""

from collections.abc import Callable

from timebase.storage.annex import Annex
from timebase.storage.queries import hypertable, retention, stale_hours
from timebase.storage.queries.hypertable import Compression
from timebase.storage.queries.retention import Cutoffs


class Upkeep:
    """Raises as the store does. `touched` is told the id of every series whose bars were removed."""

    def __init__(self, annex: Annex, touched: Callable[[int], None], *, has_timescale: bool) -> None:
        self._annex = annex
        self._touched = touched
        self._has_timescale = has_timescale

    async def forget_before(self, cutoffs: Cutoffs) -> int:
        """Remove older bars of those intervals, and the claim to have them. Returns: how many series had some."""
        old = await self._annex.run(retention.select_series_with_old, cutoffs)
        try:
            if self._has_timescale:
                await self._annex.run(retention.drop_old_chunks, cutoffs, old)
            for series_id, before_us in old.items():
                await self._annex.run(retention.forget_before, series_id, before_us, has_timescale=self._has_timescale)
        finally:
            for series_id in old:
                self._touched(series_id)
        return len(old)

    async def roll_up(self) -> int:
        """With TimescaleDB: bring the hours up to date in which minutes changed, those that wait longest first.

        Returns: of how many series; 0 when all are.
        """
        return await self._annex.run(stale_hours.roll_up)

    async def compress_now(self) -> None:
        """With TimescaleDB: compress every chunk, whatever its age."""
        await self._annex.run(hypertable.compress_now)

    async def compression(self) -> Compression:
        return await self._annex.run(hypertable.select_compression)
