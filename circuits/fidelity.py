"""How far a circuit's outputs are from the model's: a measurement on given samples, the refusal, and the certificate.

It compares integers that the circuit computed with floats that onnxruntime computed; no operator list is trusted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from circuits.ezkl_runner import Witness
from circuits.samples import Array, Sample
from verifier.errors import CircuitError
from verifier.statement.certificates import Acceptance, FidelityCertificate, ValueRange
from verifier.statement.scalars import Bytes32, Count, Measure, TensorInt, Text

MAX_SHARE = 0.05
"""Largest error that is accepted, as a share of the span of the model's outputs."""
MIN_AGREEMENT = 0.9
"""Least share of samples with the model's own argmax that is accepted, where an output has several values."""
TIE_SHARE = 1e-4
"""Of the outputs' span: two of the model's own outputs nearer than that, a tenth of the least error that a build asks
for, are a tie, and which of them a circuit puts first says nothing of its faithfulness."""
_DIGITS = 9


class Floats(Protocol):
    """The model's own outputs, by whatever has them."""

    def run(self, sample: Sample) -> tuple[Array, ...]:
        """The outputs for one sample, in the graph's order."""


class Fidelity(NamedTuple):
    """Errors in the outputs' own unit, and the share of samples with equal argmax.

    `span` is that of all of the model's outputs, or their magnitude where there is only one value. `ties` counts the
    samples with another argmax that the model itself puts within a tie of its own; the agreement does not count them.
    """

    samples: int
    max_error: float
    mean_error: float
    agreement: float
    span: float
    worst: int
    ties: int = 0

    @property
    def ranked(self) -> float:
        """The share of samples with equal argmax or a tie of the model's own: what a goal asks of."""
        return self.agreement + self.ties / self.samples


def compare(witnesses: Sequence[Witness], floats: Sequence[tuple[Array, ...]], scales: Sequence[int]) -> Fidelity:
    """Compare the circuit's outputs with the model's on the same samples, sample by sample.

    Raises:
        CircuitError: C-shape where the circuit has other outputs than the model, C-not-finite where the model gives NaN
            or an infinity, which no circuit can.
    """
    errors, means, behind, flat = [], [], [], []
    for index, (witness, outputs) in enumerate(zip(witnesses, floats, strict=True)):
        sizes = [output.size for output in outputs]
        found = [len(tensor) for tensor in witness.outputs]
        if sizes != found:
            raise CircuitError(
                "C-shape", "the circuit has other outputs than the model", expected=f"sizes {sizes}", found=f"{found}"
            )
        wanted = [output.astype(np.float64).reshape(-1) for output in outputs]
        if not all(np.isfinite(values).all() for values in wanted):
            raise CircuitError("C-not-finite", "the model's own output is not finite", where=f"sample {index}")
        got = [
            np.array([int(value) / 2**scale for value in tensor])
            for tensor, scale in zip(witness.outputs, scales, strict=True)
        ]
        gaps = np.concatenate([np.abs(a - b) for a, b in zip(got, wanted, strict=True)])
        errors.append(float(gaps.max()))
        means.append(float(gaps.mean()))
        # how far the value that the circuit puts first is behind the model's own first; None where they are the same
        behind.append(
            max(
                (float(b.max() - b[a.argmax()]) for a, b in zip(got, wanted, strict=True) if a.argmax() != b.argmax()),
                default=None,
            )
        )
        flat.append(np.concatenate(wanted))
    every = np.stack(flat)
    span = float(every.max() - every.min()) or float(np.abs(every).max())
    return Fidelity(
        samples=len(errors),
        max_error=max(errors),
        mean_error=sum(means) / len(means),
        agreement=behind.count(None) / len(behind),
        span=span,
        worst=int(np.argmax(errors)),
        ties=sum(gap is not None and gap <= TIE_SHARE * span for gap in behind),
    )


def check_faithful(fidelity: Fidelity, *, where: str, ranked: bool = True) -> None:
    """Refuse a circuit that is not the model: C-unfaithful, with the error and the sample where it is largest.

    Where it is `ranked`, the argmax counts too, ties apart; random inputs have many, where it says little.
    """
    limit = max(MAX_SHARE * fidelity.span, 1e-6)
    if fidelity.max_error > limit:
        raise CircuitError(
            "C-unfaithful",
            "the circuit's outputs are not the model's",
            where=f"{where}, sample {fidelity.worst}",
            expected=f"an error of at most {limit:.3g} ({MAX_SHARE:.0%} of the outputs' span)",
            found=f"{fidelity.max_error:.3g}",
            do="Some operator is computed differently or too coarsely: raise the scale, or leave it out.",
        )
    if ranked and fidelity.ranked < MIN_AGREEMENT:
        raise CircuitError(
            "C-unfaithful",
            "the circuit ranks the outputs differently from the model",
            where=where,
            expected=f"equal argmax on {MIN_AGREEMENT:.0%} of the samples",
            found=f"{fidelity.ranked:.1%}",
            do="Raise the scale.",
        )


def check_not_constant(floats: Sequence[tuple[Array, ...]]) -> None:
    """Refuse samples on which the model always says the same: any circuit would look faithful (C-constant)."""
    first = floats[0]
    if len(floats) > 1 and all(np.array_equal(a, b) for outputs in floats for a, b in zip(outputs, first, strict=True)):
        raise CircuitError(
            "C-constant",
            "the model gives the same output for every sample, so that these samples show nothing",
            do="Give samples that differ, or a model that looks at its input.",
        )


def samples_sha256(samples: Sequence[Sample]) -> Bytes32:
    """The digest of samples: over dtype, shape and little-endian bytes of every array, in order."""
    digest = hashlib.sha256()
    for sample in samples:
        for array in sample:
            plain = np.ascontiguousarray(array)
            head = json.dumps([plain.dtype.str.lstrip("<>|="), list(plain.shape)])
            digest.update(head.encode() + plain.astype(plain.dtype.newbyteorder("<")).tobytes())
    return Bytes32(digest.digest())


def value_ranges(names: Sequence[str], tensors: Sequence[Sequence[Sequence[TensorInt]]]) -> tuple[ValueRange, ...]:
    """The least and greatest integer of each tensor over samples; `tensors` holds one list of tensors a sample."""
    return tuple(
        ValueRange(
            name=Text(name),
            least=TensorInt(min(min(sample[index]) for sample in tensors)),
            greatest=TensorInt(max(max(sample[index]) for sample in tensors)),
        )
        for index, name in enumerate(names)
    )


def certify(  # noqa: PLR0913 - a certificate states many things, each by keyword
    *,
    circuit_id: Bytes32,
    fidelity: Fidelity,
    samples: Sequence[Sample],
    domain: tuple[ValueRange, ...],
    outputs: tuple[ValueRange, ...],
    headroom_bits: int,
    rewrites: tuple[str, ...],
    acceptance: Acceptance | None = None,
) -> FidelityCertificate:
    """The certificate of a measurement."""
    max_error, mean_error, agreement = measures(fidelity)
    return FidelityCertificate(
        circuit_id=circuit_id,
        samples_sha256=samples_sha256(samples),
        samples=Count(fidelity.samples),
        max_error=max_error,
        mean_error=mean_error,
        agreement=agreement,
        domain=domain,
        outputs=outputs,
        headroom_bits=Count(headroom_bits),
        rewrites=tuple(Text(rewrite) for rewrite in rewrites),
        acceptance=acceptance,
    )


def measures(fidelity: Fidelity) -> tuple[Measure, Measure, Measure]:
    """Largest and mean error and agreement as decimals; errors rounded up, agreement down, to promise no more."""
    step = 10.0**-_DIGITS
    return (
        Measure.of(fidelity.max_error + step / 2, _DIGITS),
        Measure.of(fidelity.mean_error + step / 2, _DIGITS),
        Measure.of(int(fidelity.agreement * 1e6) / 1e6),
    )
