"""The inputs that a model is checked on: those given, random ones, extreme ones. The same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from circuits.model import Tensor
from circuits.samples import Array, Sample

DEFAULT_REACH = 4.0
"""Without samples, floats are drawn between minus and plus this: what normalised data holds."""
DEFAULT_INTEGER = 4
GIVEN, RANDOM, EXTREME = "given", "random", "extreme"


def draw(
    inputs: Sequence[Tensor], given: Sequence[Sample], *, limit: int, wider: float = 0.0
) -> list[tuple[str, Sample]]:
    """About `limit` samples, each with its kind: half of them given, four extreme, the rest random.

    `wider` stretches the range of what is drawn by that share of it on both sides.
    """
    ranges = [
        _stretched(tensor, _range(tensor, [sample[index] for sample in given]), wider)
        for index, tensor in enumerate(inputs)
    ]
    share = max(1, limit // 2)
    chosen: list[int] = np.linspace(0, len(given) - 1, min(share, len(given))).astype(int).tolist() if given else []
    drawn: list[tuple[str, Sample]] = [(GIVEN, given[index]) for index in chosen]
    patterns: list[Callable[[int], float]] = [
        lambda _: 0.0,
        lambda _: 1.0,
        lambda index: float(index % 2),
        lambda index: float((index + 1) % 2),
    ]
    generator = np.random.default_rng(20)
    count = max(2, limit - len(drawn) - len(patterns))
    drawn.extend(
        (
            RANDOM,
            tuple(
                _random(t, r, generator, near_zero=not given and turn % 3 == 2)
                for t, r in zip(inputs, ranges, strict=True)
            ),
        )
        for turn in range(count)
    )
    drawn.extend(
        (EXTREME, tuple(_filled(t, r, pattern) for t, r in zip(inputs, ranges, strict=True))) for pattern in patterns
    )
    return drawn


def _range(tensor: Tensor, given: Sequence[Array]) -> tuple[float, float]:
    if given:
        low, high = min(float(a.min()) for a in given), max(float(a.max()) for a in given)
        return (low, high) if low < high else (low - 1, high + 1) if tensor.dtype.startswith("float") else (low, high)
    if tensor.dtype.startswith("float"):
        return -DEFAULT_REACH, DEFAULT_REACH
    if tensor.dtype == "bool":
        return 0.0, 1.0
    return 0.0, float(DEFAULT_INTEGER)


def _stretched(tensor: Tensor, span: tuple[float, float], wider: float) -> tuple[float, float]:
    """Integers stay: they may be indices, of which there are no more than the samples show."""
    reach = (span[1] - span[0]) * wider if tensor.dtype.startswith("float") else 0.0
    return span[0] - reach, span[1] + reach


def _typed(values: Array, tensor: Tensor) -> Array:
    plain = values if tensor.dtype.startswith("float") else np.rint(values)
    return plain.astype(tensor.dtype).reshape(tensor.shape)


def _filled(tensor: Tensor, span: tuple[float, float], pattern: Callable[[int], float]) -> Array:
    low, high = span
    return _typed(np.array([low + (high - low) * pattern(index) for index in range(tensor.size)]), tensor)


def _random(tensor: Tensor, span: tuple[float, float], generator: np.random.Generator, *, near_zero: bool) -> Array:
    """Uniform in the range; without samples every third is small: near zero is where tables and divisions go wrong."""
    low, high = span
    values = generator.uniform(low, high, tensor.size)
    if near_zero and low < 0 < high:
        values = values / 16
    return _typed(values, tensor)
