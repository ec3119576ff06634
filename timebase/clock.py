"""The only reading of the wall clock."""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)


def now_us() -> int:
    """Units: µs since 1970-01-01 UTC."""
    return time.time_ns() // 1_000
