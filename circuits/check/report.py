"""What a check says about a model: the verdict, the first node in the way, why, and what to do about it."""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["faithful", "rewritten", "raise-scale", "refused"]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs of a tensor between these, both included, were run and their constraints checked. Decimal strings.

    A table whose columns differ has a span for each of them, by the name `tensor[column]`.
    """

    name: str
    least: str
    greatest: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `opgate circuit check`.

    `max_error` is in the outputs' own unit, over the samples given, random and extreme ones, at `scale`; empty where
    nothing was computed. `code` is the C-… code of a refusal, `seconds` what the check took.
    """

    verdict: Verdict
    node: str = ""
    operator: str = ""
    reason: str = ""
    advice: str = ""
    code: str = ""
    rewrites: tuple[str, ...] = ()
    max_error: str = ""
    domain: tuple[Span, ...] = ()
    scale: int | None = None
    samples: int = 0
    compared_with: str = ""
    seconds: str = ""

    @property
    def is_yes(self) -> bool:
        """Whether a circuit can be built of this model as it is."""
        return self.verdict in {"faithful", "rewritten"}
