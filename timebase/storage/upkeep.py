"""Forgetting, renaming, compressing, rolling up: what is done to the store as a whole. Made by it."""

from collections.abc import Callable

from timebase.model.alias import Aliases
from timebase.storage.annex import Annex
from timebase.storage.queries import hypertable, retention, stale_hours, tick_retention
from timebase.storage.queries.hypertable import Compression
from timebase.storage.queries.retention import Cutoffs
from timebase.storage.rename import apply_aliases


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

    async def apply_aliases(self, aliases: Aliases) -> int:
        """Set aside what was asked for under names that are others in `aliases`. Returns: of how many series."""
        renamed = await self._annex.run(apply_aliases, aliases, has_rollup=self._has_timescale)
        for series in renamed:
            self._touched(series.id)
        return len(renamed)

    async def forget_ticks(self, before_us: int) -> bool:
        """Remove ticks of the days before; `before_us` is a midnight, UTC. Returns: whether there were any."""
        return await self._annex.run(tick_retention.forget_ticks, before_us, self._has_timescale)

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
