"""The instance vector that a claim implies, built from the claim and never read from a proof.

Public inputs: inputs | job limbs | outputs. Hashed: H(x || blind) | H(limbs) | outputs | limbs.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from verifier.errors import VerifierError
from verifier.poseidon import poseidon_hash
from verifier.statement.manifest import BLIND_WORDS, JOB_LIMB_BITS
from verifier.tensors import job_limbs, to_words

if TYPE_CHECKING:
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.manifest import CircuitManifest, TensorSpec
    from verifier.statement.scalars import Bytes32, TensorInt

SELECTOR = bytes.fromhex("1e8e1e13")
"""keccak256("verifyProof(bytes,uint256[])")[:4], the entry of EZKL's verifier contract."""


def claimed_words(bundle: ProofBundle, job_id: Bytes32 | None = None) -> bytes:
    """The words that the claim stands for, big-endian, 32 bytes each; counts and ranges are not checked.

    `job_id` is the bundle's own, from whoever has computed it already.
    """
    job_id = job_id or bundle.job_id
    if bundle.input_hash is not None:
        return words_of(job_id, int(bundle.input_hash).to_bytes(32), bundle.outputs, hashed=True)
    inputs = to_words(tuple(chain.from_iterable(bundle.inputs or ())))
    return words_of(job_id, inputs, bundle.outputs, hashed=False)


def words_of(job_id: Bytes32, committed: bytes, outputs: tuple[tuple[TensorInt, ...], ...], *, hashed: bool) -> bytes:
    """All words of a job: those that the input commitment covers, and in their order job id and outputs."""
    limbs = job_limbs(job_id)
    shown = to_words(tuple(chain.from_iterable(outputs)))
    if not hashed:
        return committed + to_words(limbs) + shown
    hashed_limbs = poseidon_hash([limb.to_field() for limb in limbs])
    return committed + int(hashed_limbs).to_bytes(32) + shown + to_words(limbs)


def committed_words(tensors: tuple[tuple[TensorInt, ...], ...], manifest: CircuitManifest) -> bytes:
    """The words that an input commitment covers: the input's values, or the hash of ``x || blind``.

    Raises:
        VerifierError: V5-instance-count where the tensors are not the circuit's, V5-blind where a hashed input has no
            blind: its last six integers are out of range or all zero.
    """
    sizes = tuple(len(tensor) for tensor in tensors)
    if sizes != manifest.wire_sizes:
        _count("inputs", list(manifest.wire_sizes), list(sizes), "values")
    if manifest.visibility == "public":
        return to_words(tuple(chain.from_iterable(tensors)))
    blind = tensors[0][-BLIND_WORDS:]
    if not any(blind) or not all(0 <= value < 1 << JOB_LIMB_BITS for value in blind):
        raise VerifierError(
            "V5-blind",
            "a hashed input without a blind could be guessed from its hash",
            where=f"inputs.{manifest.inputs[0].name}",
            expected=f"{BLIND_WORDS} random integers in [0, 2^{JOB_LIMB_BITS}) after the values",
        )
    return int(poseidon_hash([value.to_field() for value in tensors[0]])).to_bytes(32)


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


def _count(where: str, expected: object, found: object, unit: str) -> None:
    raise VerifierError(
        "V5-instance-count",
        "the claim has another size than the circuit",
        where=where,
        expected=f"{expected} {unit}",
        found=f"{found} {unit}",
    )
