"""The instance vector that a claim implies, built from the claim and never read from a proof.

Public inputs: inputs | job limbs | outputs. Hashed: H(x || blind) | H(limbs) | outputs | limbs.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from verifier.errors import VerifierError
from verifier.poseidon import poseidon_hash
from verifier.tensors import job_limbs, to_words

if TYPE_CHECKING:
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.manifest import CircuitManifest, TensorSpec
    from verifier.statement.scalars import TensorInt

SELECTOR = bytes.fromhex("1e8e1e13")
"""keccak256("verifyProof(bytes,uint256[])")[:4], the entry of EZKL's verifier contract."""


def claimed_words(bundle: ProofBundle) -> bytes:
    """The words that the claim stands for, big-endian, 32 bytes each; counts and ranges are not checked."""
    limbs = job_limbs(bundle.job_id)
    outputs = to_words(tuple(chain.from_iterable(bundle.outputs)))
    if bundle.input_hash is not None:
        hashed = poseidon_hash([limb.to_field() for limb in limbs])
        return int(bundle.input_hash).to_bytes(32) + int(hashed).to_bytes(32) + outputs + to_words(limbs)
    return to_words(tuple(chain.from_iterable(bundle.inputs or ()))) + to_words(limbs) + outputs


def check_claim(bundle: ProofBundle, manifest: CircuitManifest) -> None:
    """Compare a claim with the manifest: which inputs, how many tensors and values, each within the bound.

    Raises:
        VerifierError: V5-visibility, V5-instance-count, V5-range.
    """
    if (bundle.input_hash is not None) != (manifest.visibility == "hashed"):
        raise VerifierError(
            "V5-visibility",
            "the bundle shows its input in another way than the circuit",
            where="inputs",
            expected=manifest.visibility,
        )
    if bundle.inputs is not None:
        _check_tensors("inputs", bundle.inputs, manifest.inputs, int(manifest.value_bound))
    _check_tensors("outputs", bundle.outputs, manifest.outputs, int(manifest.value_bound))


def calldata(proof: bytes, words: bytes) -> bytes:
    """The verifier's whole calldata, in the one ABI encoding: selector, heads, proof, instances."""
    count = len(words) // 32
    head = (64).to_bytes(32) + (96 + len(proof)).to_bytes(32)
    return SELECTOR + head + len(proof).to_bytes(32) + proof + count.to_bytes(32) + words


def input_words(words: bytes, manifest: CircuitManifest) -> bytes:
    """The part of the instances that the input commitment covers."""
    return words[: 32 * manifest.input_len]


def _check_tensors(
    where: str, tensors: tuple[tuple[TensorInt, ...], ...], specs: tuple[TensorSpec, ...], bound: int
) -> None:
    if len(tensors) != len(specs):
        _count(where, len(specs), len(tensors), "tensors")
    for spec, values in zip(specs, tensors, strict=True):
        if len(values) != spec.size:
            _count(f"{where}.{spec.name}", spec.size, len(values), "values")
        outside = next((i for i, value in enumerate(values) if abs(value) > bound), None)
        if outside is not None:
            raise VerifierError(
                "V5-range",
                "a value is beyond the circuit's bound",
                where=f"{where}.{spec.name}[{outside}]",
                expected=f"at most {bound} in magnitude",
                found=str(int(values[outside])),
            )


def _count(where: str, expected: int, found: int, unit: str) -> None:
    raise VerifierError(
        "V5-instance-count",
        "the claim has another size than the circuit",
        where=where,
        expected=f"{expected} {unit}",
        found=f"{found} {unit}",
    )
