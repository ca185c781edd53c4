"""In what range inputs of a tensor are drawn: one for all of it, or one for each column of a table.

Features of a table have units of their own, and some are categories: a range over all of them says nothing about any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from circuits.model import Tensor
from circuits.samples import Array, Sample

LEAST_SAMPLES = 4
"""Of fewer samples each column shows so little that the range of them all is the better guess."""
MAX_COLUMNS = 64
"""Wider tensors are images or sequences, of which each element could take what another one shows."""
NARROW = 0.1
"""Columns have ranges of their own where one of them spans less than this share of what all of them span."""


class Range(NamedTuple):
    """The least and greatest value of each element, flat; `whole` tells the elements that take whole numbers.

    `columns` counts the columns that have ranges of their own; 0 where one range holds for the tensor.
    """

    low: Array
    high: Array
    whole: Array
    columns: int = 0

    @classmethod
    def of_tensor(cls, tensor: Tensor, low: float, high: float) -> Self:
        """One range for all elements."""
        least, greatest = (np.full(tensor.size, float(each)) for each in (low, high))
        return cls(least, greatest, np.full(tensor.size, not tensor.dtype.startswith("float")))

    @classmethod
    def of_samples(cls, tensor: Tensor, samples: Sequence[Array]) -> Self:
        """What samples span: column by column where the tensor is a table whose columns differ, else as a whole."""
        one = cls.of_tensor(tensor, min(float(a.min()) for a in samples), max(float(a.max()) for a in samples))
        count = tensor.shape[-1] if tensor.shape else 0
        if len(samples) < LEAST_SAMPLES or not 1 < count <= MAX_COLUMNS or len(tensor.shape) > 2:
            return one
        table = np.concatenate([each.reshape(-1, count) for each in samples]).astype(np.float64)
        low, high = table.min(axis=0), table.max(axis=0)
        whole = np.asarray((table == np.rint(table)).all(axis=0))
        if not _differ(low, high, whole):
            return one._replace(whole=np.full(tensor.size, whole.all()))
        rows = tensor.size // count
        return cls(np.tile(low, rows), np.tile(high, rows), np.tile(whole, rows), count)

    def stretched(self, share: float) -> Self:
        """The range with that share of it more on both sides."""
        reach = (self.high - self.low) * share
        return self._replace(low=self.low - reach, high=self.high + reach)

    def doubled(self, times: int) -> tuple[Array, Array]:
        """Least and greatest values of the range doubled so often; a table's column of whole numbers stays."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        grown = np.where(self.whole & bool(self.columns), half, half * 2**times)
        return middle - grown, middle + grown

    def shaped(self, values: Array, tensor: Tensor) -> Array:
        """Flat values as the tensor's, whole where samples are."""
        return typed(np.where(self.whole, np.rint(values), values), tensor)


def corner(inputs: Sequence[Tensor], ranges: Sequence[Range], pattern: int, step: int) -> Sample:
    """All low (pattern 0), all high (1), or both in turn (2, 3); each step doubles the range about its middle."""
    made = []
    for tensor, span in zip(inputs, ranges, strict=True):
        low, high = span.doubled(step)
        index = np.arange(tensor.size)
        chosen = {0: index < 0, 1: index >= 0, 2: index % 2 == 0, 3: index % 2 == 1}[pattern]
        made.append(typed(np.where(chosen, high, low), tensor))
    return tuple(made)


def typed(values: Array, tensor: Tensor) -> Array:
    """Flat values as the tensor's; whole for a tensor of integers."""
    plain = values if tensor.dtype.startswith("float") else np.rint(values)
    return plain.astype(tensor.dtype).reshape(tensor.shape)


def _differ(low: Array, high: Array, whole: Array) -> bool:
    """Whether some column is much narrower than all of them together, or only some hold whole numbers.

    Columns of one value show neither.
    """
    moving = high > low
    if not moving.any():
        return False
    narrow = (high - low)[moving].min() < NARROW * (high.max() - low.min())
    kinds = whole[moving]
    return bool(narrow or (kinds.any() and not kinds.all()))
