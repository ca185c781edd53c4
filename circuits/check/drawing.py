"""The inputs that a model is checked on: those given, random ones, extreme ones. The same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from circuits.model import Tensor
from circuits.ranges import Range
from circuits.samples import Array, Sample

DEFAULT_REACH = 4.0
"""Without samples, floats are drawn between minus and plus this: what normalised data holds."""
DEFAULT_INTEGER = 4
GIVEN, RANDOM, EXTREME = "given", "random", "extreme"


def draw(
    inputs: Sequence[Tensor], given: Sequence[Sample], *, limit: int, wider: float = 0.0
) -> list[tuple[str, Sample]]:
    """About `limit` samples, each with its kind: half of them given, four extreme, the rest random.

    `wider` stretches the range of what is drawn by that share of it on both sides. Integers stay: they may be indices,
    of which there are no more than the samples show.
    """
    ranges = [
        _range(tensor, [sample[index] for sample in given]).stretched(
            wider if tensor.dtype.startswith("float") else 0.0
        )
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


def _range(tensor: Tensor, given: Sequence[Array]) -> Range:
    if given:
        found = Range.of_samples(tensor, given)
        is_point = tensor.dtype.startswith("float") and bool((found.low == found.high).all())
        return found._replace(low=found.low - 1, high=found.high + 1) if is_point else found
    if tensor.dtype.startswith("float"):
        return Range.of_tensor(tensor, -DEFAULT_REACH, DEFAULT_REACH)
    return Range.of_tensor(tensor, 0.0, 1.0 if tensor.dtype == "bool" else float(DEFAULT_INTEGER))


def _filled(tensor: Tensor, span: Range, pattern: Callable[[int], float]) -> Array:
    shares = np.array([pattern(index) for index in range(tensor.size)])
    return span.shaped(span.low + (span.high - span.low) * shares, tensor)


def _random(tensor: Tensor, span: Range, generator: np.random.Generator, *, near_zero: bool) -> Array:
    """Uniform in the range; without samples every third is small: near zero is where tables and divisions go wrong."""
    values = generator.uniform(span.low, span.high)
    if near_zero:
        values = np.where((span.low < 0) & (span.high > 0), values / 16, values)
    return span.shaped(values, tensor)
