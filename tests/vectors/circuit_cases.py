"""Steps 1, 2 and 4: another circuit, or one that is worth less than the policy asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.vectors.base import Case, only, resign, signed_record
from tests.vectors.changes import flipped
from tests.vectors.keys import AUDITOR, OWNER, PROVIDER, STRANGER
from verifier.circuit import Circuit
from verifier.policy import ANY, CircuitRule, Policy
from verifier.statement import canonical
from verifier.statement.certificates import (
    Acceptance,
    CircuitAttestation,
    CompileRecord,
    FidelityCertificate,
    RebuildRecord,
    SignedRecord,
)
from verifier.statement.scalars import Bytes32, Count, Measure, Text, Timestamp, Uint256

if TYPE_CHECKING:
    from tests.vectors.base import Base

OTHER = Bytes32(b"\1" * 32)
PROXY = bytes.fromhex("363d3d373d3d3d363d73" + "be" * 20 + "5af43d82803e903d91602b57fd5bf3")
"""EIP-1167: whatever the address behind it holds."""
DELEGATION = bytes.fromhex("ef0100" + "be" * 20)
"""EIP-7702."""
ONE = "600160005260206000f3"
"""Code that accepts whatever it is called with."""


def without(circuit: Circuit, *kinds: type) -> Circuit:
    """The circuit without records of these types."""
    return replace(circuit, records=tuple(r for r in circuit.records if not isinstance(r.record, kinds)))


def with_records(circuit: Circuit, *records: SignedRecord) -> Circuit:
    """The circuit with more records."""
    return replace(circuit, records=(*circuit.records, *records))


def circuit_cases(base: Base) -> dict[str, Case]:
    """Every case where it is the circuit or what the policy asks of it that differs."""
    return {**_manifests(base), **_records(base), **_fidelity(base), **_policies(base)}


def _manifests(base: Base) -> dict[str, Case]:
    """The manifest or the code in the reader's folder is not what the bundle is about."""
    job, circuit, raw = base.job, base.circuit, canonical.encode(base.job)
    manifest, code, other = circuit.manifest, circuit.code, base.other_circuit

    def changed(**changes: Any) -> Case:
        return Case(raw, "V1-circuit-id", circuits=only(job, replace(circuit, manifest=replace(manifest, **changes))))

    def coded(made: bytes) -> Case:
        return Case(raw, "V1-code-hash", circuits=only(job, replace(circuit, code=made)))

    def renamed(spec: Any) -> Any:
        return replace(spec, name=Text("other"))

    def rescaled(spec: Any) -> Any:
        return replace(spec, scale=Count(spec.scale + 1))

    srs, evm = manifest.srs, manifest.evm
    cases = {
        "1_manifest_output_scale": changed(outputs=tuple(map(rescaled, manifest.outputs))),
        "1_manifest_input_scale": changed(inputs=tuple(map(rescaled, manifest.inputs))),
        "1_manifest_output_name": changed(outputs=tuple(map(renamed, manifest.outputs))),
        "1_manifest_value_bound": changed(value_bound=Uint256(manifest.value_bound * 2)),
        "1_manifest_proof_len": changed(proof_len=Count(manifest.proof_len + 32)),
        "1_manifest_ezkl_version": changed(ezkl_version=Text("23.0.4")),
        "1_manifest_srs_bit": changed(srs=replace(srs, sha256=flipped(srs.sha256))),
        "1_manifest_srs_k1_bit": changed(srs=replace(srs, sha256_k1=flipped(srs.sha256_k1))),
        "1_manifest_logrows": changed(srs=replace(srs, logrows=Count(srs.logrows + 1))),
        "1_manifest_code_hash_bit": changed(evm=replace(evm, code_hash=flipped(evm.code_hash))),
        "1_manifest_gas": changed(evm=replace(evm, gas=Count(evm.gas + 1))),
        "1_manifest_revision": changed(evm=replace(evm, revision=Text("CANCUN"))),
        "1_manifest_of_other_circuit": Case(raw, "V1-circuit-id", circuits=only(job, base.circuits[other.circuit_id])),
        "1_code_last_byte": coded(code[:-1] + bytes([code[-1] ^ 1])),
        "1_code_first_byte": coded(bytes([code[0] ^ 1]) + code[1:]),
        "1_code_middle_byte": coded(code[:5000] + bytes([code[5000] ^ 1]) + code[5001:]),
        "1_code_byte_more": coded(code + b"\0"),
        "1_code_byte_less": coded(code[:-1]),
        "1_code_empty": coded(b""),
        "1_code_proxy": coded(PROXY),
        "1_code_delegation": coded(DELEGATION),
        "1_code_of_other_circuit": coded(base.circuits[other.circuit_id].code),
        "1_code_accepts_all": coded(bytes.fromhex(ONE)),
        "1_circuit_missing": Case(raw, "V1-circuit-missing", circuits=only(other, base.circuits[other.circuit_id])),
        "1_circuit_id_of_other": Case(
            canonical.encode(resign(replace(job, circuit_id=other.circuit_id))), "V1-circuit-id"
        ),
        "1_circuit_id_bit": Case(
            canonical.encode(resign(replace(job, circuit_id=flipped(job.circuit_id)))), "V1-circuit-missing"
        ),
    }
    for field in ("onnx_sha256", "run_args_sha256", "settings_sha256", "vk_sha256"):
        cases[f"1_manifest_{field}_bit"] = changed(**{field: flipped(getattr(manifest, field))})
    return cases


def _records(base: Base) -> dict[str, Case]:
    """Step 1, assurance: who says what this code computes."""
    job, circuit, raw, policy = base.job, base.circuit, canonical.encode(base.job), base.policy
    rebuilt = next(r for r in circuit.records if isinstance(r.record, RebuildRecord))
    attestation = next(r.record for r in circuit.records if isinstance(r.record, CircuitAttestation))
    bare, manifest = without(circuit, RebuildRecord), circuit.manifest
    compiled = CompileRecord(
        circuit_id=circuit.circuit_id,
        vk_sha256=manifest.vk_sha256,
        code_hash=manifest.evm.code_hash,
        compiled_at=Timestamp(1_700_000_000),
    )
    altered = replace(rebuilt, record=replace(rebuilt.record, machine=Text("elsewhere")))
    foreign = replace(rebuilt.record, circuit_id=base.other_circuit.circuit_id)
    trusting_owner = replace(policy, records=replace(policy.records, keys=(OWNER.address,)))
    nobody = replace(policy, records=replace(policy.records, keys=()))

    def has(made: Circuit, code: str | None = "V1-assurance", under: Policy | None = None) -> Case:
        return Case(raw, code, policy=under, circuits=only(job, made))

    def lacks(record: Any, key: Any = AUDITOR, under: Policy | None = None) -> Case:
        return has(with_records(bare, signed_record(record, key)), under=under)

    def claiming(signer: Any) -> Case:
        return has(with_records(bare, replace(rebuilt, signer=signer)))

    off = {
        "other_code": replace(rebuilt.record, code_hash=flipped(manifest.evm.code_hash)),
        "other_onnx": replace(rebuilt.record, onnx_sha256=flipped(manifest.onnx_sha256)),
        "other_circuit": foreign,
    }
    return {
        **{f"1_rebuild_of_{name}": lacks(record) for name, record in off.items()},
        "1_no_rebuild_record": has(bare),
        "1_no_records": has(replace(circuit, records=())),
        "1_rebuild_by_stranger": lacks(rebuilt.record, STRANGER),
        "1_rebuild_by_owner": lacks(rebuilt.record, OWNER),
        "1_rebuild_signed_by_stranger_in_the_auditors_name": has(
            with_records(bare, replace(signed_record(rebuilt.record, STRANGER), signer=AUDITOR.address))
        ),
        "1_rebuild_in_the_strangers_name": claiming(STRANGER.address),
        "1_rebuild_altered": has(with_records(bare, altered)),
        "1_rebuild_trusted_by_nobody": has(circuit, under=nobody),
        "1_compiled_below_rebuilt": lacks(compiled),
        "1_compiled_of_other_vk": lacks(
            replace(compiled, vk_sha256=flipped(compiled.vk_sha256)), under=base.rule(assurance="compiled")
        ),
        "1_compiled_of_other_code": lacks(
            replace(compiled, code_hash=flipped(compiled.code_hash)), under=base.rule(assurance="compiled")
        ),
        "1_attested_below_compiled": has(bare, under=base.rule(assurance="compiled")),
        "1_attestation_of_other_code": has(
            with_records(
                without(bare, CircuitAttestation),
                signed_record(replace(attestation, code_hash=flipped(attestation.code_hash)), OWNER),
            ),
            under=base.rule(assurance="attested"),
        ),
        "1_attestation_by_auditor": has(
            with_records(without(bare, CircuitAttestation), signed_record(attestation, AUDITOR)),
            under=base.rule(assurance="attested"),
        ),
        "1_unattested_below_attested": has(without(bare, CircuitAttestation), under=base.rule(assurance="attested")),
        "1_owner_is_another": Case(raw, "V1-owner", policy=base.rule(owners=(STRANGER.address,))),
        "1_owner_attests_nothing": has(
            without(circuit, CircuitAttestation), "V1-owner", base.rule(owners=(OWNER.address,))
        ),
        "1_owner_list_empty": Case(raw, "V1-owner", policy=base.rule(owners=())),
        "1_ezkl_version": Case(raw, "V1-ezkl-version", policy=base.rule(ezkl_versions=(Text("23.0.6"),))),
        "1_ezkl_versions_none": Case(raw, "V1-ezkl-version", policy=base.rule(ezkl_versions=())),
        "1_visibility": Case(raw, "V1-visibility", policy=base.rule(visibility=("hashed",))),
        "1_visibility_public_only": Case(
            canonical.encode(base.bundles["hashed"]), "V1-visibility", policy=base.rule(visibility=("public",))
        ),
        "1_not_in_policy": Case(
            raw, "V1-circuit-policy", policy=replace(policy, circuits={str(OTHER): policy.circuits[ANY]})
        ),
        "1_no_circuit_in_policy": Case(raw, "V1-circuit-policy", policy=replace(policy, circuits={})),
        "1_own_rule_before_any": Case(
            raw,
            "V1-visibility",
            policy=replace(
                policy, circuits={**policy.circuits, str(job.circuit_id): CircuitRule(visibility=("hashed",))}
            ),
        ),
        "valid_rebuild_by_owner_trusted": has(
            with_records(bare, signed_record(rebuilt.record, OWNER)), None, trusting_owner
        ),
        "valid_compiled_allowed": has(
            with_records(bare, signed_record(compiled, AUDITOR)), None, base.rule(assurance="compiled")
        ),
        "valid_strangers_record_beside": has(
            with_records(circuit, signed_record(replace(rebuilt.record, code_hash=OTHER), STRANGER)), None
        ),
        "valid_record_of_other_circuit_beside": has(with_records(circuit, signed_record(foreign, AUDITOR)), None),
        "valid_owner_named": Case(raw, None, policy=base.rule(owners=(STRANGER.address, OWNER.address))),
        "valid_owner_named_of_rebuilt_unattested": has(
            circuit, None, base.rule(assurance="unattested", owners=(OWNER.address,))
        ),
    }


def _fidelity(base: Base) -> dict[str, Case]:
    """Step 4: the certificate and what the policy asks of it, on both sides of each limit."""
    job, circuit, raw, policy = base.job, base.circuit, canonical.encode(base.job), base.policy
    certificate = next(r.record for r in circuit.records if isinstance(r.record, FidelityCertificate))
    bare = without(circuit, FidelityCertificate)
    certified = {"max_error": Measure("0.5"), "agreement": Measure("0.95"), "samples": Count(100)}

    def says(code: str | None, under: dict[str, Any], key: Any = OWNER, **changes: Any) -> Case:
        record = signed_record(replace(certificate, **{**certified, **changes}), key)
        rule = {"max_error": None, "min_agreement": None, **under}
        return Case(raw, code, policy=base.rule(**rule), circuits=only(job, with_records(bare, record)))

    error, agreement = {"max_error": Measure("0.5")}, {"min_agreement": Measure("0.95")}
    better = signed_record(replace(certificate, max_error=Measure("0.01")), OWNER)
    worse = signed_record(replace(certificate, max_error=Measure("7")), OWNER)
    half = {"max_error": Measure("0.01"), "min_agreement": Measure("0.99"), "min_samples": Count(10)}
    split = with_records(
        bare,
        signed_record(replace(certificate, max_error=Measure("0.001"), agreement=Measure("0.1")), OWNER),
        signed_record(replace(certificate, max_error=Measure("3"), agreement=Measure("1")), OWNER),
    )
    accepted = Acceptance(samples_sha256=OTHER, samples=Count(10), max_error=Measure("0.25"), agreement=Measure("0.5"))

    def shows(code: str | None, under: dict[str, Any], key: Any = OWNER, acceptance: Any = accepted) -> Case:
        return says(code, under, key, acceptance=acceptance)

    limit = {"max_acceptance_error": Measure("0.25"), "min_acceptance_samples": Count(10)}
    return {
        "4_no_acceptance_set": Case(raw, "V4-acceptance", policy=base.rule(min_acceptance_samples=Count(1))),
        "4_acceptance_error_just_above": shows("V4-acceptance", {"max_acceptance_error": Measure("0.249")}),
        "4_acceptance_one_sample_too_few": shows("V4-acceptance", {"min_acceptance_samples": Count(11)}),
        "4_acceptance_of_no_samples": shows(
            "V4-acceptance", {"min_acceptance_samples": Count(0)}, acceptance=replace(accepted, samples=Count(0))
        ),
        "4_acceptance_by_stranger": shows("V4-acceptance", limit, STRANGER),
        "4_acceptance_missing_and_error_asked": says(
            "V4-acceptance", {**error, **limit}, max_error=Measure("0.1"), acceptance=None
        ),
        "valid_acceptance_at_limit": shows(None, limit),
        "valid_acceptance_by_auditor": shows(None, limit, AUDITOR),
        "4_no_certificate": Case(raw, "V4-certificate", circuits=only(job, bare)),
        "4_certificate_by_stranger": says("V4-certificate", error, STRANGER),
        "4_certificate_by_auditor": says("V4-certificate", error, AUDITOR),
        "4_certificate_altered": Case(
            raw,
            "V4-certificate",
            circuits=only(
                job,
                with_records(
                    bare,
                    replace(
                        signed_record(certificate, OWNER),
                        record=replace(certificate, samples_sha256=flipped(certificate.samples_sha256)),
                    ),
                ),
            ),
        ),
        "4_certificate_of_other_circuit": says("V4-certificate", error, circuit_id=base.other_circuit.circuit_id),
        "4_owners_nobody": Case(
            raw, "V4-certificate", policy=replace(policy, records=replace(policy.records, owners=()))
        ),
        "4_error_above_policy": Case(raw, "V4-fidelity", policy=base.rule(max_error=Measure("0"))),
        "4_error_just_above": says("V4-fidelity", error, max_error=Measure("0.500000000000000001")),
        "4_error_above_in_digits": says("V4-fidelity", {"max_error": Measure("9")}, max_error=Measure("10")),
        "4_too_few_samples": Case(raw, "V4-fidelity", policy=base.rule(min_samples=Count(1_000_000))),
        "4_one_sample_too_few": says("V4-fidelity", {**error, "min_samples": Count(101)}),
        "4_agreement_below_policy": says("V4-fidelity", {"min_agreement": Measure("0.999999")}),
        "4_agreement_just_below": says("V4-fidelity", agreement, agreement=Measure("0.949999999999999999")),
        "4_each_half_by_another_certificate": Case(
            raw, "V4-fidelity", policy=base.rule(**half), circuits=only(job, split)
        ),
        "valid_error_at_limit": says(None, error),
        "valid_agreement_at_limit": says(None, agreement),
        "valid_samples_at_limit": says(None, {**error, "min_samples": Count(100)}),
        "valid_second_certificate_is_good": Case(
            raw, None, policy=base.rule(max_error=Measure("0.5")), circuits=only(job, with_records(bare, worse, better))
        ),
        "valid_no_fidelity_asked": Case(
            raw, None, policy=base.rule(max_error=None, min_agreement=None), circuits=only(job, bare)
        ),
    }


def _policies(base: Base) -> dict[str, Case]:
    """Policies that take the bundle in other words, and the limits of their amounts and opinions."""
    job, policy, raw = base.job, base.policy, canonical.encode(base.job)
    anyone = policy.circuits[ANY]
    per_job = replace(policy, amounts=replace(policy.amounts, per_job=job.terms.amount))
    asking = replace(policy, opinions=replace(policy.opinions, required=(Text("ezkl"),)))
    escrow = policy.chains.escrows[0]
    several = (replace(escrow, chain_id=Count(1)), replace(escrow, token=OWNER.address, escrow=OWNER.address), escrow)

    def providers(*allowed: Any) -> Policy:
        return replace(policy, providers=replace(policy.providers, allowed=allowed))

    return {
        "valid_circuit_named": Case(raw, None, policy=replace(policy, circuits={str(job.circuit_id): anyone})),
        "valid_own_rule_before_any": Case(
            raw,
            None,
            policy=replace(policy, circuits={ANY: CircuitRule(visibility=()), str(job.circuit_id): anyone}),
        ),
        "valid_unattested_allowed": Case(raw, None, policy=base.rule(assurance="unattested")),
        "valid_attested_allowed": Case(raw, None, policy=base.rule(assurance="attested")),
        "valid_provider_named": Case(raw, None, policy=providers(PROVIDER.address)),
        "valid_provider_second_in_list": Case(raw, None, policy=providers(STRANGER.address, PROVIDER.address)),
        "valid_amount_at_cap": Case(raw, None, policy=per_job),
        "valid_day_cap_below_amount": Case(
            raw, None, policy=replace(policy, amounts=replace(policy.amounts, per_day=Uint256(1)))
        ),
        "valid_escrow_third_in_list": Case(
            raw, None, policy=replace(policy, chains=replace(policy.chains, escrows=several))
        ),
        "valid_escrow_code_hash_named": Case(
            raw,
            None,
            policy=replace(policy, chains=replace(policy.chains, escrows=(replace(escrow, code_hash=OTHER),))),
        ),
        "valid_several_dev_chains": Case(
            raw, None, policy=replace(policy, chains=replace(policy.chains, dev_chains=(Count(1), Count(31337))))
        ),
        "2_amount_cap": Case(
            raw,
            "V2-amount",
            policy=replace(policy, amounts=replace(policy.amounts, per_job=Uint256(job.terms.amount - 1))),
        ),
        "2_amount_cap_zero": Case(
            raw, "V2-amount", policy=replace(policy, amounts=replace(policy.amounts, per_job=Uint256(0)))
        ),
        "2_no_escrow_in_policy": Case(
            raw, "V2-escrow", policy=replace(policy, chains=replace(policy.chains, escrows=()))
        ),
        "2_escrow_of_other_chain": Case(
            raw, "V2-escrow", policy=replace(policy, chains=replace(policy.chains, escrows=several[:2]))
        ),
        "8_opinion_missing": Case(raw, "V8-missing", policy=asking),
        "7_opinion_missing_and_proof_bad": Case(
            canonical.encode(resign(replace(job, proof=base.other_job.proof))), "V7-proof", policy=asking
        ),
    }
