"""What everything that is held as columns can do."""

from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Columns:
    """Rows as columns of one length: a frozen dataclass whose fields are the columns, and nothing else."""

    __slots__ = ()
    time: NDArray[np.int64]  # the first of them

    def columns(self) -> tuple[NDArray[np.generic], ...]:
        """In the order of the fields."""
        raise NotImplementedError

    @classmethod
    def empty(cls) -> Self:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.time)

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns())

    def pick(self, which: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """The rows that a slice (a view), a mask or positions (copies) name."""
        return type(self)(*(column[which] for column in self.columns()))

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        whole = [part.columns() for part in parts]
        if not whole:
            return cls.empty()
        return cls(*(np.concatenate(columns) for columns in zip(*whole, strict=True)))
