"""Verification beside the vectors: circuits that would hang or break the verifier get a verdict."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.vectors.cases import read_base, with_terms
from verifier.basis import Basis
from verifier.circuit import Circuit
from verifier.keccak import keccak256
from verifier.policy import ANY, CircuitRule, Policy
from verifier.statement import canonical
from verifier.statement.scalars import Bytes32, Count, Measure, Text
from verifier.statement.terms import ProofRule
from verifier.statement.verdict import CheckedAgainst
from verifier.verify import MAX_GAS, check_terms, verify
from verifier.version import __version__

steps = importlib.import_module("verifier.verify")  # the package shows the function under this name
BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
ENDLESS = bytes.fromhex("5b600056")
"""JUMPDEST, PUSH1 0, JUMP: it runs until its gas is used up."""


@pytest.mark.parametrize("gas", [MAX_GAS + 1, 2**50, 2**53 - 1])
def test_code_that_never_ends_is_not_run_for_years(gas: int) -> None:
    """Under a policy that takes unattested circuits, their maker chooses code and gas; 2^53 broke the sums too."""
    manifest = replace(BASE.circuit.manifest, evm=replace(BASE.circuit.manifest.evm, gas=Count(gas)))
    manifest = replace(manifest, evm=replace(manifest.evm, code_hash=keccak256(ENDLESS)))
    circuit = Circuit(manifest=manifest, code=ENDLESS)
    policy = replace(BASE.policy, circuits={ANY: CircuitRule(assurance="unattested")})
    cap = Count(min(-(-gas * 5 // 40_000) * 10_000, 2**53 - 1))
    rule = replace(BASE.job.terms.rule, code_hash=circuit.code_hash, gas_cap=cap)
    bundle = with_terms(replace(BASE.job, circuit_id=circuit.circuit_id), circuit_id=circuit.circuit_id, rule=rule)
    verdict = verify(bundle, circuit, policy)
    assert (verdict.outcome, verdict.code) == ("INVALID", "V2-gas")
    terms = check_terms(bundle.terms, bundle.domain, circuit, policy)
    assert (terms.outcome, terms.code) == ("INVALID", "V2-gas")


def test_the_greatest_gas_is_the_escrows() -> None:
    evm = replace(BASE.circuit.manifest.evm, gas=Count(MAX_GAS))
    rule = ProofRule.derive(replace(BASE.circuit.manifest, evm=evm), BASE.job.terms.rule.verifier)
    assert rule.gas_cap == 16_000_000


def checked(subject: object, circuit: Circuit, policy: Policy) -> CheckedAgainst:
    """The digests that a verdict must name, each from the bytes themselves."""
    return CheckedAgainst(
        subject_sha256=Bytes32(hashlib.sha256(canonical.encode(subject)).digest()),
        circuit_id=Bytes32(hashlib.sha256(canonical.encode(circuit.manifest)).digest()),
        code_hash=keccak256(circuit.code),
        policy_sha256=Bytes32(hashlib.sha256(canonical.encode(policy)).digest()),
        evm_revision=circuit.manifest.evm.revision,
        package=Text(f"opgate {__version__}"),
    )


RULE = BASE.policy.rule_for(BASE.circuit.circuit_id) or CircuitRule()
REFUSALS = (
    (replace(BASE.policy, circuits={}), 1, "V1-circuit-policy", "the policy does not take this circuit"),
    (replace(BASE.policy, chains=replace(BASE.policy.chains, escrows=())), 2, "V2-escrow", "does not name this escrow"),
    (
        replace(BASE.policy, circuits={ANY: replace(RULE, max_error=Measure("0.0001"), owners=None)}),
        4,
        "V4-",
        "certifi",
    ),
)


@pytest.mark.parametrize(("policy", "step", "code", "words"), REFUSALS, ids=["step 1", "step 2", "step 4"])
def test_a_refusal_names_what_was_judged_and_by_what(policy: Policy, step: int, code: str, words: str) -> None:
    bundle, circuit = BASE.job, BASE.circuit
    judged = check_terms(bundle.terms, bundle.domain, circuit, policy)
    proved = verify(bundle, circuit, policy)
    for verdict, subject in ((judged, bundle.terms), (proved, bundle)):
        assert verdict.outcome == "INVALID"
        assert verdict.step == step
        assert (verdict.code or "").startswith(code)
        assert words in (verdict.message or "")
        assert verdict.job_id == bundle.terms.job_id(bundle.domain)
        assert verdict.assurance == Basis(circuit, policy).assurance
        assert verdict.checked == checked(subject, circuit, policy)
    assert judged.code == proved.code
    assert proved.shown == proved.not_shown == ()


def test_a_yes_names_what_was_judged_and_by_what() -> None:
    bundle, circuit, policy = BASE.job, BASE.circuit, BASE.policy
    judged = check_terms(bundle.terms, bundle.domain, circuit, policy)
    proved = verify(bundle, circuit, policy)
    for verdict, subject in ((judged, bundle.terms), (proved, bundle)):
        assert (verdict.outcome, verdict.step, verdict.code, verdict.message) == ("VALID", None, None, None)
        assert verdict.job_id == bundle.terms.job_id(bundle.domain)
        assert verdict.assurance == Basis(circuit, policy).assurance != "unattested"
        assert verdict.checked == checked(subject, circuit, policy)
    assert proved.shown
    assert proved.not_shown


def test_what_fails_in_us_is_undecided_with_all_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: a fault of ours that reads INVALID costs the provider its money, and VALID costs the payer's."""

    def fails(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(steps, "STEPS", (fails,))
    monkeypatch.setattr(steps, "TERMS_STEPS", (fails,))
    bundle, circuit, policy = BASE.job, BASE.circuit, BASE.policy
    judged = check_terms(bundle.terms, bundle.domain, circuit, policy)
    for verdict in (judged, verify(bundle, circuit, policy)):
        assert (verdict.outcome, verdict.step, verdict.code) == ("UNDECIDED", None, "V-internal")
        assert verdict.message == "an internal error kept us from deciding: ZeroDivisionError"
        assert verdict.job_id == bundle.terms.job_id(bundle.domain)
        assert verdict.assurance == Basis(circuit, policy).assurance
    monkeypatch.setattr("verifier.basis.assurance_of", fails)
    for verdict in (check_terms(bundle.terms, bundle.domain, circuit, policy), verify(bundle, circuit, policy)):
        assert (verdict.outcome, verdict.code, verdict.assurance) == ("UNDECIDED", "V-internal", None)
