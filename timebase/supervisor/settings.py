"""What the supervisor is told: where manifests and data lie, and how patient to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """`providers` is the operator's word on each provider, by slug: enabled, priority, rate_limits, options, secrets.

    Units: seconds.
    """

    manifests: tuple[Path, ...]
    data_dir: Path
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    look_s: float = 0.25  # seen twice before it counts: a dropped folder is live within 2 s
    stagger_s: float = 0.1  # between the first starts, so that they do not all import at once
    start_s: float = 30.0  # from spawn to ready: a cold import of a big library on a slow disk, and its setup
    ping_s: float = 5.0
    missed_pings: int = 3
    memory_s: float = 1.0
    grace_s: float = 2.0  # from the shutdown message to the kill
