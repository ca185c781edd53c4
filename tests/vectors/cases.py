"""Every vector: a name, the code that it must get, and the one change that makes it. Signatures are made anew where the
fault is not in them, so that no earlier step can hide the one that is meant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.vectors.keys import OWNER, PAYER, PROVIDER, STRANGER
from verifier.bundles import parse_bundle
from verifier.circuit import Circuit
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.policy import ANY, Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, ProofBytes
from verifier.statement.certificates import FidelityCertificate, RebuildRecord, SignedRecord, record_digest
from verifier.statement.eip712 import Domain, escrow_domain
from verifier.statement.scalars import (
    FIELD_MODULUS,
    Address,
    Bytes32,
    Count,
    FieldElement,
    Measure,
    TensorInt,
    Text,
    Timestamp,
    Uint256,
)
from verifier.statement.terms import Acceptance, input_commitment
from verifier.tensors import to_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.payment.keys import Key

ADDRESS = Address(b"\x99" * 20)
FIELD_ONE = FieldElement(1)


@dataclass(frozen=True)
class Base:
    """The real bundles, circuits and policy that all cases start from."""

    job: ProofBundle
    other_job: ProofBundle
    other_circuit: ProofBundle
    other_input: ProofBundle
    circuits: dict[Bytes32, Circuit]
    policy: Policy

    @property
    def circuit(self) -> Circuit:
        """The circuit of `job` and `other_job`."""
        return self.circuits[self.job.circuit_id]


@dataclass(frozen=True)
class Case:
    """What is judged: bundle bytes, under a policy, with circuits; None is the base's."""

    bundle: bytes
    code: str | None
    policy: Policy | None = None
    circuit: Circuit | None = None


def read_base(folder: Path) -> Base:
    """The base as `prove.py` wrote it."""
    bundles = {path.stem: parse_bundle(path.read_bytes()) for path in (folder / "bundles").glob("*.json")}
    circuits = [Circuit.load(path) for path in sorted((folder / "circuits").iterdir())]
    return Base(
        job=bundles["job"],
        other_job=bundles["other_job"],
        other_circuit=bundles["other_circuit"],
        other_input=bundles["other_input"],
        circuits={circuit.circuit_id: circuit for circuit in circuits},
        policy=Policy.load(folder / "policy.json"),
    )


def write_cases(base_folder: Path, out: Path) -> int:
    """Write every case below `out`; gives their number."""
    base = read_base(base_folder)
    cases = {**passing(base), **bytes_cases(base), **circuit_cases(base), **terms_cases(base), **claim_cases(base)}
    for name, case in cases.items():
        folder = out / (f"{name}_fail" if case.code else name)
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_bytes(case.bundle)
        expected = {"outcome": "INVALID" if case.code else "VALID", "code": case.code}
        (folder / "expected.json").write_text(json.dumps(expected) + "\n")
        if case.policy is not None:
            (folder / "policy.json").write_bytes(canonical.encode(case.policy))
        if case.circuit is not None:
            _write_circuit(folder / "circuits" / str(parse_bundle(case.bundle).circuit_id), case.circuit)
    return len(cases)


def resign(bundle: ProofBundle, *, acceptance: Key = PROVIDER, delivery: Key = PROVIDER) -> ProofBundle:
    """The bundle with both provider signatures made anew over what it now says."""
    accepted = acceptance.sign_digest(Acceptance(job_id=bundle.job_id).digest(bundle.domain))
    message = bundle.delivery_message(keccak256(claimed_words(bundle)))
    return replace(bundle, acceptance=accepted, delivery=delivery.sign_digest(message.digest(bundle.domain)))


def with_terms(bundle: ProofBundle, **changes: Any) -> ProofBundle:
    """The bundle for changed terms, signed anew."""
    return resign(replace(bundle, terms=replace(bundle.terms, **changes)))


def passing(base: Base) -> dict[str, Case]:
    """Vectors that are VALID, so that a verifier cannot pass by refusing."""
    encode = canonical.encode
    everywhere = replace(base.policy, circuits={str(base.job.circuit_id): base.policy.circuits[ANY]})
    loose = replace(base.policy, circuits={ANY: replace(base.policy.circuits[ANY], assurance="unattested")})
    attested = replace(base.policy, circuits={ANY: replace(base.policy.circuits[ANY], assurance="attested")})
    named = replace(base.policy, providers=replace(base.policy.providers, allowed=(PROVIDER.address,)))
    return {
        "valid": Case(encode(base.job), None),
        "valid_other_job": Case(encode(base.other_job), None),
        "valid_other_circuit": Case(encode(base.other_circuit), None),
        "valid_circuit_named": Case(encode(base.job), None, policy=everywhere),
        "valid_unattested_allowed": Case(encode(base.job), None, policy=loose),
        "valid_attested_allowed": Case(encode(base.job), None, policy=attested),
        "valid_provider_named": Case(encode(base.job), None, policy=named),
    }


def bytes_cases(base: Base) -> dict[str, Case]:
    """Step 0: bytes that are not the one encoding of a bundle."""
    raw = canonical.encode(base.job)
    value = json.loads(raw)

    def changed(edit: Callable[[dict[str, Any]], object]) -> bytes:
        copy = json.loads(raw)
        edit(copy)
        return canonical.encode(copy)

    def nested(path: str, content: object) -> bytes:
        def edit(copy: dict[str, Any]) -> None:
            *parents, last = path.split(".")
            for name in parents:
                copy = copy[name]
            copy[last] = content

        return changed(edit)

    signature = bytes.fromhex(value["delivery"][2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = signature[:32] + (order - int.from_bytes(signature[32:64])).to_bytes(32) + bytes([55 - signature[64]])
    cases = {
        "0_empty": (b"", "V0-json"),
        "0_truncated": (raw[:-1], "V0-json"),
        "0_trailing_newline": (raw + b"\n", "V0-canonical"),
        "0_trailing_bytes": (raw + b"\0", "V0-json"),
        "0_duplicate_key": (raw[:-1] + b',"origin":"delivered"}', "V0-json"),
        "0_white_space": (raw.replace(b'":', b'": ', 1), "V0-canonical"),
        "0_key_order": (json.dumps(dict(reversed(value.items())), separators=(",", ":")).encode(), "V0-canonical"),
        "0_not_utf8": (raw.replace(b"delivered", b"deliver\xff\xff"), "V0-json"),
        "0_byte_order_mark": (b"\xef\xbb\xbf" + raw, "V0-json"),
        "0_deep": (b"[" * 50_000, "V0-depth"),
        "0_float": (raw.replace(b'"chain_id":31337', b'"chain_id":31337.0'), "V0-json"),
        "0_exponent": (raw.replace(b'"chain_id":31337', b'"chain_id":1e21'), "V0-json"),
        "0_big_number": (raw.replace(b'"chain_id":31337', b'"chain_id":123456789012345678'), "V0-json"),
        "0_nan": (raw.replace(b'"chain_id":31337', b'"chain_id":NaN'), "V0-json"),
        "0_gzip": (b"\x1f\x8b\x08\x00" + raw[:100], "V0-json"),
        "0_list": (b"[]", "V0-schema"),
        "0_unknown_field": (changed(lambda v: v.update(extra=1)), "V0-schema"),
        "0_missing_proof": (changed(lambda v: v.pop("proof")), "V0-schema"),
        "0_missing_acceptance": (changed(lambda v: v.pop("acceptance")), "V0-schema"),
        "0_missing_delivery": (changed(lambda v: v.pop("delivery")), "V0-schema"),
        "0_missing_receipt": (changed(lambda v: v.pop("receipt")), "V0-schema"),
        "0_missing_inputs": (changed(lambda v: v.pop("inputs")), "V0-schema"),
        "0_inputs_and_hash": (nested("input_hash", "1"), "V0-schema"),
        "0_input_hash_p": (nested("input_hash", str(FIELD_MODULUS)), "V0-schema"),
        "0_other_schema": (nested("schema", "opgate/bundle/2"), "V0-schema"),
        "0_other_origin": (nested("origin", "elsewhere"), "V0-schema"),
        "0_chain_without_evidence": (nested("origin", "chain"), "V0-schema"),
        "0_amount_number": (nested("terms.amount", 5), "V0-schema"),
        "0_amount_leading_zero": (nested("terms.amount", "05"), "V0-schema"),
        "0_amount_negative": (nested("terms.amount", "-5"), "V0-schema"),
        "0_amount_hex": (nested("terms.amount", "0x5"), "V0-schema"),
        "0_amount_2_256": (nested("terms.amount", str(2**256)), "V0-schema"),
        "0_deadline_text": (nested("terms.deadline", "1700000900"), "V0-schema"),
        "0_deadline_true": (nested("terms.deadline", True), "V0-schema"),
        "0_address_upper": (nested("terms.payee", value["terms"]["payee"].upper().replace("0X", "0x")), "V0-schema"),
        "0_address_short": (nested("terms.payee", value["terms"]["payee"][:-2]), "V0-schema"),
        "0_address_newline": (nested("terms.payee", value["terms"]["payee"] + "\n"), "V0-schema"),
        "0_proof_odd_hex": (nested("proof", value["proof"][:-1]), "V0-schema"),
        "0_proof_huge": (nested("proof", "0x" + "00" * 70_000), "V0-schema"),
        "0_signature_high_s": (nested("delivery", "0x" + high_s.hex()), "V0-schema"),
        "0_signature_v_0": (nested("delivery", value["delivery"][:-2] + "00"), "V0-schema"),
        "0_signature_64_bytes": (nested("delivery", value["delivery"][:-2]), "V0-schema"),
        "0_output_half_field": (nested("outputs", [[str(FIELD_MODULUS // 2 + 1)]]), "V0-schema"),
        "0_output_number": (nested("outputs", [[1]]), "V0-schema"),
        "0_receipt_float": (nested("receipt.prove_seconds", "1e3"), "V0-schema"),
        "0_unicode_engine": (raw.replace(b'"engine":"', b'"engine":"\\u0000'), "V0-schema"),
    }
    return {name: Case(made, code) for name, (made, code) in cases.items()}


def circuit_cases(base: Base) -> dict[str, Case]:
    """Steps 1 and 4: the circuit is another one, or worth less than the policy asks."""
    raw, circuit, policy = canonical.encode(base.job), base.circuit, base.policy
    manifest, code = circuit.manifest, circuit.code
    real = replace(policy.chains.escrows[0], chain_id=Count(8453))
    abroad = replace(base.job, domain=escrow_domain(8453, base.job.domain.verifying_contract))

    def rule(**changes: Any) -> Policy:
        return replace(policy, circuits={ANY: replace(policy.circuits[ANY], **changes)})

    def without(kind: type) -> Circuit:
        return replace(circuit, records=tuple(r for r in circuit.records if not isinstance(r.record, kind)))

    def rescaled(spec: Any) -> Any:
        return replace(spec, scale=Count(spec.scale + 1))

    swapped = replace(circuit, manifest=replace(manifest, outputs=tuple(map(rescaled, manifest.outputs))))
    swapped_inputs = replace(circuit, manifest=replace(manifest, inputs=tuple(map(rescaled, manifest.inputs))))
    worse = next(r.record for r in circuit.records if isinstance(r.record, FidelityCertificate))
    forged = _signed(replace(worse, max_error=Measure("0")), STRANGER)
    rebuilt = next(r for r in circuit.records if isinstance(r.record, RebuildRecord))
    altered = replace(rebuilt, record=replace(rebuilt.record, machine=Text("elsewhere")))
    other_code = replace(rebuilt.record, code_hash=Bytes32(b"\1" * 32))
    return {
        "1_manifest_output_scale": Case(raw, "V1-circuit-id", circuit=swapped),
        "1_manifest_input_scale": Case(raw, "V1-circuit-id", circuit=swapped_inputs),
        "1_code_last_byte": Case(raw, "V1-code-hash", circuit=replace(circuit, code=code[:-1] + bytes([code[-1] ^ 1]))),
        "1_code_first_byte": Case(raw, "V1-code-hash", circuit=replace(circuit, code=bytes([code[0] ^ 1]) + code[1:])),
        "1_code_empty": Case(raw, "V1-code-hash", circuit=replace(circuit, code=b"")),
        "1_code_of_other_circuit": Case(
            raw, "V1-code-hash", circuit=replace(circuit, code=base.circuits[base.other_circuit.circuit_id].code)
        ),
        "1_code_accepts_all": Case(
            raw, "V1-code-hash", circuit=replace(circuit, code=bytes.fromhex("600160005260206000f3"))
        ),
        "1_circuit_id_of_other": Case(
            canonical.encode(resign(replace(base.job, circuit_id=base.other_circuit.circuit_id))), "V1-circuit-id"
        ),
        "1_not_in_policy": Case(
            raw, "V1-circuit-policy", policy=replace(policy, circuits={str(Bytes32(b"\1" * 32)): policy.circuits[ANY]})
        ),
        "1_no_rebuild_record": Case(raw, "V1-assurance", circuit=without(RebuildRecord)),
        "1_no_records": Case(raw, "V1-assurance", circuit=replace(circuit, records=())),
        "1_rebuild_by_stranger": Case(
            raw,
            "V1-assurance",
            circuit=replace(without(RebuildRecord), records=(_signed(rebuilt.record, STRANGER),)),
        ),
        "1_rebuild_altered": Case(
            raw, "V1-assurance", circuit=replace(circuit, records=(*without(RebuildRecord).records, altered))
        ),
        "1_rebuild_of_other_code": Case(
            raw,
            "V1-assurance",
            policy=replace(policy, records=replace(policy.records, keys=(OWNER.address,))),
            circuit=replace(circuit, records=(*without(RebuildRecord).records, _signed(other_code, OWNER))),
        ),
        "1_ezkl_version": Case(raw, "V1-ezkl-version", policy=rule(ezkl_versions=(Text("23.0.6"),))),
        "1_visibility": Case(raw, "V1-visibility", policy=rule(visibility=("hashed",))),
        "1_development_srs": Case(
            canonical.encode(resign(abroad)),
            "V1-srs",
            policy=replace(policy, chains=replace(policy.chains, escrows=(real,))),
        ),
        "4_no_certificate": Case(raw, "V4-certificate", circuit=without(FidelityCertificate)),
        "4_certificate_by_stranger": Case(
            raw,
            "V4-certificate",
            circuit=replace(circuit, records=(*without(FidelityCertificate).records, forged)),
        ),
        "4_error_above_policy": Case(raw, "V4-fidelity", policy=rule(max_error=Measure("0"))),
        "4_too_few_samples": Case(raw, "V4-fidelity", policy=rule(min_samples=Count(1_000_000))),
        "4_agreement_below_policy": Case(
            raw,
            "V4-fidelity",
            policy=replace(
                rule(min_agreement=Measure("0.999999")), records=replace(policy.records, owners=(STRANGER.address,))
            ),
            circuit=replace(
                circuit,
                records=(
                    *without(FidelityCertificate).records,
                    _signed(replace(worse, agreement=Measure("0.5")), STRANGER),
                ),
            ),
        ),
    }


def terms_cases(base: Base) -> dict[str, Case]:
    """Steps 2 and 3, each fault of the terms twice: signed anew (step 2 finds it) and stale (a signature breaks)."""
    job, policy = base.job, base.policy
    terms, rule, domain = job.terms, job.terms.rule, job.domain
    changes: dict[str, tuple[dict[str, Any], str | None]] = {
        "token": ({"token": ADDRESS}, "V2-token"),
        "amount_zero": ({"amount": Uint256(0)}, "V2-amount"),
        "times": ({"fund_by": terms.deadline}, "V2-times"),
        "rule_code_hash": ({"rule": replace(rule, code_hash=Bytes32(b"\1" * 32))}, "V2-rule"),
        "rule_n_instances": ({"rule": replace(rule, n_instances=Count(rule.n_instances + 1))}, "V2-rule"),
        "rule_proof_len": ({"rule": replace(rule, proof_len=Count(rule.proof_len + 32))}, "V2-rule"),
        "rule_input_offset": ({"rule": replace(rule, input_offset=Count(1))}, "V2-rule"),
        "rule_input_len": ({"rule": replace(rule, input_len=Count(rule.input_len - 1))}, "V2-rule"),
        "rule_job_offset": ({"rule": replace(rule, job_offset=Count(rule.job_offset + 1))}, "V2-rule"),
        "rule_gas_cap": ({"rule": replace(rule, gas_cap=Count(rule.gas_cap + 1))}, "V2-rule"),
        "payer": ({"payer": ADDRESS}, None),
        "payee": ({"payee": ADDRESS}, None),
        "amount": ({"amount": Uint256(terms.amount + 1)}, None),
        "deadline": ({"deadline": Timestamp(terms.deadline + 1)}, None),
        "salt": ({"salt": Bytes32(b"\1" * 32)}, None),
        "rule_verifier": ({"rule": replace(rule, verifier=ADDRESS)}, None),
    }
    cases: dict[str, Case] = {}
    for name, (change, code) in changes.items():
        stale = replace(job, terms=replace(terms, **change))
        cases[f"2_{name}_stale"] = Case(canonical.encode(stale), code or "V3-acceptance")
        # signed anew, such terms are another job's: then only the proof, which holds the job id, is wrong
        cases[f"2_{name}_signed"] = Case(canonical.encode(resign(stale)), code or "V7-proof")

    def at(name: str, changed: Domain, code: str) -> None:
        moved = replace(job, domain=changed)
        cases[f"2_{name}_stale"] = Case(canonical.encode(moved), code)
        cases[f"2_{name}_signed"] = Case(canonical.encode(resign(moved)), code)

    known_chain = replace(policy.chains, dev_chains=(Count(31337), Count(31338)))
    at("escrow", replace(domain, verifying_contract=ADDRESS), "V2-escrow")
    at("domain_name", replace(domain, name=Text("opgate2")), "V2-domain")
    at("domain_version", replace(domain, version=Text("2")), "V2-domain")
    other_chain = canonical.encode(resign(replace(job, domain=replace(domain, chain_id=Count(31338)))))
    cases["2_chain"] = Case(other_chain, "V2-escrow", policy=replace(policy, chains=known_chain))
    capped = replace(policy, amounts=replace(policy.amounts, per_job=Uint256(terms.amount - 1)))
    cases["2_amount_cap"] = Case(canonical.encode(job), "V2-amount", policy=capped)
    chosen = replace(policy, providers=replace(policy.providers, allowed=(STRANGER.address,)))
    cases["2_provider"] = Case(canonical.encode(job), "V2-provider", policy=chosen)
    swapped = replace(job, acceptance=job.delivery, delivery=job.acceptance)
    other = base.other_job
    cases |= {
        "3_acceptance_by_stranger": Case(canonical.encode(resign(job, acceptance=STRANGER)), "V3-acceptance"),
        "3_acceptance_by_payer": Case(canonical.encode(resign(job, acceptance=PAYER)), "V3-acceptance"),
        "3_acceptance_of_other_job": Case(canonical.encode(replace(job, acceptance=other.acceptance)), "V3-acceptance"),
        "3_delivery_by_stranger": Case(canonical.encode(resign(job, delivery=STRANGER)), "V3-delivery"),
        "3_delivery_of_other_job": Case(canonical.encode(replace(job, delivery=other.delivery)), "V3-delivery"),
        "3_signatures_swapped": Case(canonical.encode(swapped), "V3-acceptance"),
        "3_receipt_altered": Case(
            canonical.encode(replace(job, receipt=replace(job.receipt, device=Text("GPU")))), "V3-delivery"
        ),
        "3_proof_altered": Case(canonical.encode(replace(job, proof=_flip(job.proof, 5))), "V3-delivery"),
        "3_output_altered": Case(canonical.encode(replace(job, outputs=_bump(job.outputs, 0))), "V3-delivery"),
    }
    return cases


def claim_cases(base: Base) -> dict[str, Case]:
    """Steps 5 to 7: what a provider who signs anything would try."""
    job, manifest = base.job, base.circuit.manifest
    outputs = job.outputs[0]
    inputs = (job.inputs or ())[0]
    too_large = TensorInt(int(manifest.value_bound) + 1)
    made: dict[str, tuple[ProofBundle, str]] = {
        "5_output_one_more": (replace(job, outputs=((*outputs, TensorInt(0)),)), "V5-instance-count"),
        "5_output_one_less": (replace(job, outputs=(outputs[:-1],)), "V5-instance-count"),
        "5_output_none": (replace(job, outputs=()), "V5-instance-count"),
        "5_output_doubled": (replace(job, outputs=(outputs, outputs)), "V5-instance-count"),
        "5_output_split": (replace(job, outputs=(outputs[:5], outputs[5:])), "V5-instance-count"),
        "5_input_one_more": (replace(job, inputs=((*inputs, TensorInt(0)),)), "V5-instance-count"),
        "5_input_to_output": (
            replace(job, inputs=(inputs[:-1],), outputs=((inputs[-1], *outputs),)),
            "V5-instance-count",
        ),
        "5_output_beyond_bound": (replace(job, outputs=((too_large, *outputs[1:]),)), "V5-range"),
        "5_input_beyond_bound": (replace(job, inputs=((TensorInt(-int(too_large)), *inputs[1:]),)), "V5-range"),
        "5_hash_for_public": (replace(job, inputs=None, input_hash=FIELD_ONE), "V5-visibility"),
        "6_input_altered": (replace(job, inputs=_bump((inputs,), 3)), "V6-commitment"),
        "6_input_of_other_job": (replace(job, inputs=base.other_job.inputs), "V6-commitment"),
        "7_output_of_other_job": (replace(job, outputs=base.other_job.outputs), "V7-proof"),
        "7_outputs_swapped": (replace(job, outputs=((outputs[1], outputs[0], *outputs[2:]),)), "V7-proof"),
        "7_proof_of_other_job": (replace(job, proof=base.other_job.proof), "V7-proof"),
        "7_proof_of_other_circuit": (replace(job, proof=base.other_circuit.proof), "V7-proof"),
        "7_claim_of_other_circuit": (
            replace(job, proof=base.other_circuit.proof, outputs=base.other_circuit.outputs),
            "V7-proof",
        ),
        "7_proof_trailing_word": (replace(job, proof=ProofBytes(job.proof + bytes(32))), "V7-proof-length"),
        "7_proof_trailing_byte": (replace(job, proof=ProofBytes(job.proof + b"\0")), "V7-proof-length"),
        "7_proof_one_word_short": (replace(job, proof=ProofBytes(job.proof[:-32])), "V7-proof-length"),
        "7_proof_empty": (replace(job, proof=ProofBytes(b"")), "V7-proof-length"),
        "7_proof_zeros": (replace(job, proof=ProofBytes(bytes(len(job.proof)))), "V7-proof"),
    }
    for index in range(len(outputs)):
        made[f"7_output_{index}_plus_one"] = (replace(job, outputs=_bump(job.outputs, index)), "V7-proof")
    for part in range(20):
        at = part * len(job.proof) // 20
        made[f"7_proof_bit_{part:02}"] = (replace(job, proof=_flip(job.proof, at)), "V7-proof")
    cases = {name: Case(canonical.encode(resign(bundle)), code) for name, (bundle, code) in made.items()}
    committed = with_terms(replace(job, inputs=base.other_job.inputs), input_commitment=_commitment(base.other_job))
    cases["6_proved_for_other_input"] = Case(canonical.encode(base.other_input), "V6-commitment")
    cases["7_input_of_other_job_committed"] = Case(canonical.encode(committed), "V7-proof")
    return cases


def _commitment(bundle: ProofBundle) -> Bytes32:
    return input_commitment(to_words((bundle.inputs or ())[0]))


def _bump(tensors: tuple[tuple[TensorInt, ...], ...], index: int) -> tuple[tuple[TensorInt, ...], ...]:
    first = tensors[0]
    return ((*first[:index], TensorInt(first[index] + 1), *first[index + 1 :]), *tensors[1:])


def _flip(proof: ProofBytes, index: int) -> ProofBytes:
    return ProofBytes(proof[:index] + bytes([proof[index] ^ 1]) + proof[index + 1 :])


def _signed(record: Any, key: Key) -> SignedRecord:
    return SignedRecord(record=record, signer=key.address, signature=key.sign_digest(record_digest(record)))


def _write_circuit(folder: Path, circuit: Circuit) -> None:
    folder.mkdir(parents=True)
    if circuit.records:  # git keeps no empty folder, so none may be part of a vector
        (folder / "records").mkdir()
    (folder / "manifest.json").write_bytes(canonical.encode(circuit.manifest))
    (folder / "verifier.bin").write_bytes(circuit.code)
    for index, record in enumerate(circuit.records):
        (folder / "records" / f"{index}.json").write_bytes(canonical.encode(record))
