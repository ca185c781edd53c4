"""Steps 5 to 7: what a provider who signs anything would try, on circuits of every kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tests.vectors.base import Case, resign, with_terms
from tests.vectors.changes import bump, flip, with_value
from tests.vectors.models import KINDS
from verifier.instances import claimed_words
from verifier.statement import canonical
from verifier.statement.bundle import ProofBytes
from verifier.statement.scalars import FIELD_MODULUS, Bytes32, FieldElement, TensorInt
from verifier.statement.terms import input_commitment

if TYPE_CHECKING:
    from tests.vectors.base import Base
    from verifier.statement.bundle import ProofBundle

Made = dict[str, tuple["ProofBundle", str]]


def claim_cases(base: Base) -> dict[str, Case]:
    """Every fault signed anew by the provider, so that nothing but the claim is wrong."""
    made = _counts(base) | _proofs(base) | _kinds(base) | _each_value(base)
    cases = {name: Case(canonical.encode(resign(bundle)), code) for name, (bundle, code) in made.items()}
    job, other = base.job, base.other_job
    committed = with_terms(replace(job, inputs=other.inputs), input_commitment=_commitment(base, other))
    cases["6_proved_for_other_input"] = Case(canonical.encode(base.other_input), "V6-commitment")
    cases["7_input_of_other_job_committed"] = Case(canonical.encode(committed), "V7-proof")
    for title in ("hashed", "two_inputs"):
        first, second = base.bundles[title], base.bundles[f"{title}_other_job"]
        moved = replace(first, inputs=second.inputs, input_hash=second.input_hash)
        moved = with_terms(moved, input_commitment=second.terms.input_commitment)
        cases[f"7_{title}_input_of_other_job_committed"] = Case(canonical.encode(moved), "V7-proof")
    for title in ("srs", "weights", "settings"):
        foreign = resign(base.bundles[f"foreign_{title}"])
        cases[f"7_proof_of_other_{title}"] = Case(canonical.encode(foreign), "V7-proof")
        shown = resign(replace(base.small, proof=foreign.proof))
        cases[f"7_proof_of_other_{title}_for_own_outputs"] = Case(canonical.encode(shown), "V7-proof")
    return cases | _beyond_the_field(base)


def _counts(base: Base) -> Made:
    job, manifest = base.job, base.circuit.manifest
    outputs, inputs = job.outputs[0], (job.inputs or ())[0]
    bound = int(manifest.value_bound)
    return {
        "5_output_one_more": (replace(job, outputs=((*outputs, TensorInt(0)),)), "V5-instance-count"),
        "5_output_one_less": (replace(job, outputs=(outputs[:-1],)), "V5-instance-count"),
        "5_output_none": (replace(job, outputs=()), "V5-instance-count"),
        "5_output_empty": (replace(job, outputs=((),)), "V5-instance-count"),
        "5_output_doubled": (replace(job, outputs=(outputs, outputs)), "V5-instance-count"),
        "5_output_and_empty_tensor": (replace(job, outputs=(outputs, ())), "V5-instance-count"),
        "5_output_split": (replace(job, outputs=(outputs[:5], outputs[5:])), "V5-instance-count"),
        "5_output_1024_more": (replace(job, outputs=((*outputs, *[TensorInt(0)] * 1024),)), "V5-instance-count"),
        "5_input_none": (replace(job, inputs=()), "V5-instance-count"),
        "5_input_one_more": (replace(job, inputs=((*inputs, TensorInt(0)),)), "V5-instance-count"),
        "5_input_to_output": (
            replace(job, inputs=(inputs[:-1],), outputs=((inputs[-1], *outputs),)),
            "V5-instance-count",
        ),
        "5_output_to_input": (
            replace(job, inputs=((*inputs, outputs[0]),), outputs=(outputs[1:],)),
            "V5-instance-count",
        ),
        "5_output_beyond_bound": (replace(job, outputs=with_value(job.outputs, 0, 0, bound + 1)), "V5-range"),
        "5_output_below_bound": (replace(job, outputs=with_value(job.outputs, 0, 9, -bound - 1)), "V5-range"),
        "5_input_beyond_bound": (replace(job, inputs=with_value((inputs,), 0, 0, -bound - 1)), "V5-range"),
        "5_output_half_field": (replace(job, outputs=with_value(job.outputs, 0, 0, FIELD_MODULUS // 2)), "V5-range"),
        "7_output_at_bound": (replace(job, outputs=with_value(job.outputs, 0, 0, bound)), "V7-proof"),
        "7_output_at_lower_bound": (replace(job, outputs=with_value(job.outputs, 0, 0, -bound)), "V7-proof"),
        "5_hash_for_public": (replace(job, inputs=None, input_hash=FieldElement(1)), "V5-visibility"),
        "6_input_altered": (replace(job, inputs=bump((inputs,), 3)), "V6-commitment"),
        "6_input_of_other_job": (replace(job, inputs=base.other_job.inputs), "V6-commitment"),
    }


def _proofs(base: Base) -> Made:
    job, other = base.job, base.other_circuit
    outputs, proof = job.outputs[0], job.proof
    swapped = ((outputs[1], outputs[0], *outputs[2:]),)
    made: Made = {
        "7_output_of_other_job": (replace(job, outputs=base.other_job.outputs), "V7-proof"),
        "7_outputs_swapped": (replace(job, outputs=swapped), "V7-proof"),
        "7_outputs_negated": (replace(job, outputs=(tuple(TensorInt(-v) for v in outputs),)), "V7-proof"),
        "7_outputs_zero": (replace(job, outputs=((TensorInt(0),) * len(outputs),)), "V7-proof"),
        "7_proof_of_other_job": (replace(job, proof=base.other_job.proof), "V7-proof"),
        "7_proof_of_other_circuit": (replace(job, proof=other.proof), "V7-proof"),
        "7_claim_of_other_circuit": (replace(job, proof=other.proof, outputs=other.outputs), "V7-proof"),
        "7_proof_of_other_kind": (replace(job, proof=base.bundles["lookups"].proof), "V7-proof-length"),
        "7_proof_trailing_word": (replace(job, proof=ProofBytes(proof + bytes(32))), "V7-proof-length"),
        "7_proof_trailing_byte": (replace(job, proof=ProofBytes(proof + b"\0")), "V7-proof-length"),
        "7_proof_leading_word": (replace(job, proof=ProofBytes(bytes(32) + proof)), "V7-proof-length"),
        "7_proof_64_KiB": (replace(job, proof=ProofBytes(proof + bytes(65536 - len(proof)))), "V7-proof-length"),
        "7_proof_one_word_short": (replace(job, proof=ProofBytes(proof[:-32])), "V7-proof-length"),
        "7_proof_one_byte_short": (replace(job, proof=ProofBytes(proof[:-1])), "V7-proof-length"),
        "7_proof_empty": (replace(job, proof=ProofBytes(b"")), "V7-proof-length"),
        "7_proof_zeros": (replace(job, proof=ProofBytes(bytes(len(proof)))), "V7-proof"),
        "7_proof_ones": (replace(job, proof=ProofBytes(b"\xff" * len(proof))), "V7-proof"),
        "7_proof_words_rotated": (replace(job, proof=ProofBytes(proof[32:] + proof[:32])), "V7-proof"),
        "7_proof_doubled_first_point": (replace(job, proof=ProofBytes(proof[:64] * 2 + proof[128:])), "V7-proof"),
        "7_proof_point_at_infinity": (replace(job, proof=ProofBytes(bytes(64) + proof[64:])), "V7-proof"),
        "7_proof_word_plus_p": (replace(job, proof=_aliased(proof)), "V7-proof"),
    }
    for index in range(len(outputs)):
        made[f"7_output_{index}_plus_one"] = (replace(job, outputs=bump(job.outputs, index)), "V7-proof")
    for part in range(20):
        made[f"7_proof_bit_{part:02}"] = (replace(job, proof=flip(proof, part * len(proof) // 20)), "V7-proof")
    return made


def _aliased(proof: ProofBytes) -> ProofBytes:
    """The last scalar of the proof, r more: the same element of the field in another encoding."""
    words = [int.from_bytes(proof[at : at + 32]) for at in range(0, len(proof), 32)]
    place = next(at for at in range(len(words) - 1, 0, -1) if words[at] + FIELD_MODULUS < 2**256)
    words[place] += FIELD_MODULUS
    return ProofBytes(b"".join(word.to_bytes(32) for word in words))


def _kinds(base: Base) -> Made:
    """Each kind of circuit: another output, another job's proof, another count, another input."""
    made: Made = {}
    for title in KINDS:
        bundle, other = base.bundles[title], base.bundles[f"{title}_other_job"]
        made |= {
            f"7_{title}_output_plus_one": (replace(bundle, outputs=bump(bundle.outputs, 0)), "V7-proof"),
            f"7_{title}_last_output_plus_one": (
                replace(bundle, outputs=bump(bundle.outputs, 2, len(bundle.outputs) - 1)),
                "V7-proof",
            ),
            f"7_{title}_outputs_of_other_job": (replace(bundle, outputs=other.outputs), "V7-proof"),
            f"7_{title}_proof_of_other_job": (replace(bundle, proof=other.proof), "V7-proof"),
            f"7_{title}_proof_bit": (replace(bundle, proof=flip(bundle.proof, 100)), "V7-proof"),
            f"5_{title}_output_dropped": (
                replace(bundle, outputs=with_value(bundle.outputs, 0, 0)),
                "V5-instance-count",
            ),
            f"6_{title}_input_of_other_job": (
                replace(bundle, inputs=other.inputs, input_hash=other.input_hash),
                "V6-commitment",
            ),
        }
    hashed, inputs = base.bundles["hashed"], base.bundles["two_inputs"]
    assert hashed.input_hash is not None
    (first, second), both = inputs.inputs or ((), ()), base.small.outputs
    limbs = claimed_words(hashed)[32:64]
    made |= {
        "6_hash_plus_one": (replace(hashed, input_hash=FieldElement(hashed.input_hash + 1)), "V6-commitment"),
        "6_hash_zero": (replace(hashed, input_hash=FieldElement(0)), "V6-commitment"),
        "6_hash_of_limbs": (replace(hashed, input_hash=FieldElement(int.from_bytes(limbs))), "V6-commitment"),
        "5_inputs_for_hash": (replace(hashed, input_hash=None, inputs=base.small.inputs), "V5-visibility"),
        "5_two_inputs_swapped": (replace(inputs, inputs=(second, first)), "V5-instance-count"),
        "5_two_inputs_boundary_moved": (
            replace(inputs, inputs=(first[:-1], (first[-1], *second))),
            "V5-instance-count",
        ),
        "5_two_inputs_merged": (replace(inputs, inputs=((*first, *second),)), "V5-instance-count"),
        "6_second_input_altered": (replace(inputs, inputs=bump((first, second), 1, 1)), "V6-commitment"),
        "7_two_outputs_swapped": (replace(base.small, outputs=(both[1], both[0])), "V7-proof"),
        "5_two_outputs_merged": (replace(base.small, outputs=((*both[0], *both[1]),)), "V5-instance-count"),
        "5_second_output_missing": (replace(base.small, outputs=both[:1]), "V5-instance-count"),
        "5_second_output_doubled": (replace(base.small, outputs=(*both, both[1])), "V5-instance-count"),
    }
    return made


def _each_value(base: Base) -> Made:
    """Every value of the small circuit: changed, dropped, doubled, one added behind it."""
    small = base.small
    assert small.inputs is not None
    made: Made = {}
    for title, tensors, altered in (("input", small.inputs, "V6-commitment"), ("output", small.outputs, "V7-proof")):
        for tensor, row in enumerate(tensors):
            for index, value in enumerate(row):
                for change, values, code in (
                    ("minus_one", (value - 1,), altered),
                    ("dropped", (), "V5-instance-count"),
                    ("doubled", (value, value), "V5-instance-count"),
                    ("followed_by_zero", (value, 0), "V5-instance-count"),
                ):
                    changed = with_value(tensors, tensor, index, *values)
                    name = f"{code[1]}_each_{title}_{tensor}_{index}_{change}"
                    made[name] = (replace(small, **{f"{title}s": changed}), code)
    return made


def _beyond_the_field(base: Base) -> dict[str, Case]:
    """Every value of the small circuit as its alias v + p and as p itself: no quantised value, whoever signs it."""
    cases = {}
    for title in ("inputs", "outputs"):
        rows = json.loads(canonical.encode(base.small))[title]
        for tensor, row in enumerate(rows):
            for index, value in enumerate(row):
                for change, other in (("plus_p", int(value) + FIELD_MODULUS), ("p", FIELD_MODULUS)):
                    bundle = json.loads(canonical.encode(base.small))
                    bundle[title][tensor][index] = str(other)
                    cases[f"0_{title[:-1]}_{tensor}_{index}_{change}"] = Case(canonical.encode(bundle), "V0-schema")
    return cases


def _commitment(base: Base, bundle: ProofBundle) -> Bytes32:
    return input_commitment(claimed_words(bundle)[: 32 * base.circuit_of(bundle).manifest.input_len])
