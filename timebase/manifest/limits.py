"""The `rate_limits` section, of a manifest or of the operator's own, as windows."""

from collections.abc import Mapping
from typing import Any

from timebase.manifest.manifest import RateWindow

WINDOWS_S = {
    "requests_per_second": 1.0,
    "requests_per_minute": 60.0,
    "requests_per_hour": 3_600.0,
    "requests_per_day": 86_400.0,
}


def rate_windows(limits: Mapping[str, Any]) -> tuple[RateWindow, ...]:
    windows = [RateWindow(int(limits[key]), length_s) for key, length_s in WINDOWS_S.items() if key in limits]
    windows += [RateWindow(int(w["requests"]), float(w["seconds"])) for w in limits.get("windows", ())]
    return tuple(sorted(windows, key=lambda window: (window.window_s, window.requests)))
