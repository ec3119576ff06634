"""What a rule is: a name, a sentence, and a question to whole columns."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may know beside the bars. Units: `fetched_us` µs UTC."""

    interval: Interval
    asset_class: AssetClass
    fetched_us: int


@dataclass(frozen=True, slots=True)
class Rule:
    """`bad` answers a mask, True where the row breaks the rule. It sees only rows that every earlier rule let pass.

    `name` is stored in quarantine and never renamed; `says` completes "3 bars refused: …".
    """

    name: str
    says: str
    bad: Callable[[Bars, Context], Mask]
