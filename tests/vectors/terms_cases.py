"""Steps 2 and 3: each field of terms, rule and domain twice, signed anew and stale; and signatures of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.vectors.base import Case, resign
from tests.vectors.changes import bump, flip, flipped
from tests.vectors.keys import AUDITOR, OWNER, PAYEE, PAYER, PROVIDER, STRANGER
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.scalars import Address, Bytes32, Count, Text, Timestamp, Uint256
from verifier.statement.terms import Acceptance, Release

if TYPE_CHECKING:
    from tests.vectors.base import Base
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.eip712 import Domain

ADDRESS = Address(b"\x99" * 20)


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
        "input_commitment": ({"input_commitment": flipped(terms.input_commitment)}, None),
        "circuit_id": ({"circuit_id": flipped(terms.circuit_id)}, "V1-circuit-id"),
        "fund_by": ({"fund_by": Timestamp(terms.fund_by - 1)}, None),
        "fund_by_behind": ({"fund_by": Timestamp(terms.deadline + 1)}, "V2-times"),
        "amount_max": ({"amount": Uint256(2**256 - 1)}, None),
        "rule_code_hash_bit": ({"rule": replace(rule, code_hash=flipped(rule.code_hash))}, "V2-rule"),
        "rule_gas_cap_less": ({"rule": replace(rule, gas_cap=Count(rule.gas_cap - 10_000))}, "V2-rule"),
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
        anew = code or ("V6-commitment" if name == "input_commitment" else "V7-proof")
        cases[f"2_{name}_signed"] = Case(canonical.encode(resign(stale)), anew)

    def at(name: str, changed: Domain, code: str) -> None:
        moved = replace(job, domain=changed)
        cases[f"2_{name}_stale"] = Case(canonical.encode(moved), code)
        cases[f"2_{name}_signed"] = Case(canonical.encode(resign(moved)), code)

    known_chain = replace(policy.chains, dev_chains=(Count(31337), Count(31338)))
    at("escrow", replace(domain, verifying_contract=ADDRESS), "V2-escrow")
    at("domain_name", replace(domain, name=Text("opgate2")), "V2-domain")
    at("domain_version", replace(domain, version=Text("2")), "V2-domain")
    for name, chain_id in (("chain", 31338), ("chain_zero", 0)):
        moved = replace(job, domain=replace(domain, chain_id=Count(chain_id)))
        dev = replace(policy, chains=replace(known_chain, dev_chains=(*known_chain.dev_chains, Count(0))))
        cases[f"2_{name}_stale"] = Case(canonical.encode(moved), "V2-escrow", policy=dev)
        cases[f"2_{name}_signed"] = Case(canonical.encode(resign(moved)), "V2-escrow", policy=dev)
    both = replace(policy.chains.escrows[0], chain_id=Count(31338))
    trusted = replace(policy, chains=replace(known_chain, escrows=(*policy.chains.escrows, both)))
    moved = replace(job, domain=replace(domain, chain_id=Count(31338)))
    cases["2_chain_trusted_stale"] = Case(canonical.encode(moved), "V3-acceptance", policy=trusted)
    cases["2_chain_trusted_signed"] = Case(canonical.encode(resign(moved)), "V7-proof", policy=trusted)
    second = replace(policy.chains.escrows[0], escrow=ADDRESS)
    trusted = replace(policy, chains=replace(policy.chains, escrows=(*policy.chains.escrows, second)))
    moved = replace(job, domain=replace(domain, verifying_contract=ADDRESS))
    cases["2_escrow_trusted_stale"] = Case(canonical.encode(moved), "V3-acceptance", policy=trusted)
    cases["2_escrow_trusted_signed"] = Case(canonical.encode(resign(moved)), "V7-proof", policy=trusted)
    token = replace(policy.chains.escrows[0], token=ADDRESS)
    cases["2_token_of_policy"] = Case(
        canonical.encode(job), "V2-token", policy=replace(policy, chains=replace(policy.chains, escrows=(token,)))
    )
    taken = replace(job, terms=replace(terms, provider=STRANGER.address))
    cases["2_provider_stale"] = Case(canonical.encode(taken), "V3-acceptance")
    cases["2_provider_signed"] = Case(
        canonical.encode(resign(taken, acceptance=STRANGER, delivery=STRANGER)), "V7-proof"
    )
    cases["2_provider_zero"] = Case(
        canonical.encode(replace(job, terms=replace(terms, provider=Address(bytes(20))))), "V3-acceptance"
    )
    chosen = replace(policy, providers=replace(policy.providers, allowed=(STRANGER.address,)))
    cases["2_provider_not_in_policy"] = Case(canonical.encode(job), "V2-provider", policy=chosen)
    return cases | _signature_cases(base)


def _signature_cases(base: Base) -> dict[str, Case]:
    """Step 3: signatures of somebody else, over something else, or in another domain."""
    job, other, domain = base.job, base.other_job, base.job.domain
    assert job.receipt is not None
    swapped = replace(job, acceptance=job.delivery, delivery=job.acceptance)
    elsewhere = {
        "chain": replace(domain, chain_id=Count(1)),
        "escrow": replace(domain, verifying_contract=ADDRESS),
        "name": replace(domain, name=Text("opgate records")),
        "version": replace(domain, version=Text("2")),
    }
    instances_hash = keccak256(claimed_words(job))
    message = job.delivery_message(instances_hash)
    release = Release(job_id=job.job_id, instances_hash=instances_hash)
    made: dict[str, tuple[ProofBundle, str]] = {
        "3_acceptance_of_other_job": (replace(job, acceptance=other.acceptance), "V3-acceptance"),
        "3_delivery_of_other_job": (replace(job, delivery=other.delivery), "V3-delivery"),
        "3_signatures_swapped": (swapped, "V3-acceptance"),
        "3_acceptance_for_delivery": (replace(job, delivery=job.acceptance), "V3-delivery"),
        "3_delivery_for_acceptance": (replace(job, acceptance=job.delivery), "V3-acceptance"),
        "3_release_for_delivery": (replace(job, delivery=PROVIDER.sign_digest(release.digest(domain))), "V3-delivery"),
        "3_job_id_signed_bare": (replace(job, acceptance=PROVIDER.sign_digest(job.job_id)), "V3-acceptance"),
        "3_receipt_altered": (replace(job, receipt=replace(job.receipt, device=Text("GPU"))), "V3-delivery"),
        "3_receipt_seconds_altered": (
            replace(job, receipt=replace(job.receipt, peak_memory_bytes=Count(1))),
            "V3-delivery",
        ),
        "3_proof_altered": (replace(job, proof=flip(job.proof, 5)), "V3-delivery"),
        "3_proof_longer": (replace(job, proof=type(job.proof)(job.proof + bytes(32))), "V3-delivery"),
        "3_output_altered": (replace(job, outputs=bump(job.outputs, 0)), "V3-delivery"),
        "3_input_altered": (replace(job, inputs=bump(job.inputs or (), 0)), "V3-delivery"),
    }
    for who, key in (
        ("stranger", STRANGER),
        ("payer", PAYER),
        ("payee", PAYEE),
        ("owner", OWNER),
        ("auditor", AUDITOR),
    ):
        made[f"3_acceptance_by_{who}"] = (resign(job, acceptance=key), "V3-acceptance")
        made[f"3_delivery_by_{who}"] = (resign(job, delivery=key), "V3-delivery")
    for what, wrong in elsewhere.items():
        accepted = PROVIDER.sign_digest(Acceptance(job_id=job.job_id).digest(wrong))
        made[f"3_acceptance_in_other_{what}"] = (replace(job, acceptance=accepted), "V3-acceptance")
        made[f"3_delivery_in_other_{what}"] = (
            replace(job, delivery=PROVIDER.sign_digest(message.digest(wrong))),
            "V3-delivery",
        )
    for field in ("job_id", "circuit_id", "instances_hash", "proof_hash", "receipt_hash"):
        off = replace(message, **{field: flipped(getattr(message, field))})
        made[f"3_delivery_of_other_{field}"] = (
            replace(job, delivery=PROVIDER.sign_digest(off.digest(domain))),
            "V3-delivery",
        )
    return {name: Case(canonical.encode(bundle), code) for name, (bundle, code) in made.items()}
