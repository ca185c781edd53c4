"""Verification beside the vectors: circuits that would hang or break the verifier get a verdict."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.vectors.base import signed_record
from tests.vectors.cases import read_base, resign, with_terms
from tests.vectors.keys import OWNER
from verifier.basis import Basis
from verifier.circuit import Circuit
from verifier.errors import VerifierError
from verifier.evm import Answer, run_verifier
from verifier.instances import calldata, claimed_words
from verifier.keccak import keccak256
from verifier.policy import ANY, CircuitRule, Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle
from verifier.statement.certificates import Acceptance as AcceptanceSet
from verifier.statement.certificates import FidelityCertificate
from verifier.statement.scalars import Bytes32, Count, Measure, Text
from verifier.statement.terms import ProofRule
from verifier.statement.verdict import CheckedAgainst, Opinion
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
        "V4-fidelity",
        "the circuit is certified to be less faithful than the policy asks",
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
        assert verdict.code == code
        assert words in (verdict.message or "")
        assert verdict.job_id == bundle.terms.job_id(bundle.domain)
        assert verdict.assurance == Basis(circuit, policy).assurance
        assert verdict.checked == checked(subject, circuit, policy)
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


def test_the_gas_of_an_answer_is_what_the_manifest_pins() -> None:
    bundle, evm = BASE.job, BASE.circuit.manifest.evm
    data = calldata(bundle.proof, claimed_words(bundle))
    answer = run_verifier(BASE.circuit.code, data, gas_cap=int(bundle.terms.rule.gas_cap), revision=evm.revision)
    assert answer == Answer(accepted=True, gas=int(evm.gas))


@pytest.mark.parametrize("cap", [10**5, 16 * 10**6, 10**12])
def test_the_code_gets_its_whole_cap_and_no_more(cap: int) -> None:
    """EIP-150 keeps a 64th of what the caller has: too little for the caller would be a lower cap for the code."""
    for least, accepted in ((cap - 100, True), (cap + 1, False)):
        returns_whether_gas_is_above = bytes.fromhex(f"67{least:016x}5a1160005260206000f3")
        answer = run_verifier(returns_whether_gas_is_above, b"", gas_cap=cap, revision="CANCUN")
        assert answer.accepted == accepted, (cap, least)


def test_calldata_of_a_quarter_mebibyte_is_the_largest() -> None:
    answers_one = bytes.fromhex("600160005260206000f3")
    assert run_verifier(answers_one, bytes(1 << 18), gas_cap=10**7, revision="CANCUN").accepted
    with pytest.raises(VerifierError, match=r"^V7-size: the calldata is too large \(expected at most 262144 bytes\)$"):
        run_verifier(answers_one, bytes((1 << 18) + 1), gas_cap=10**7, revision="CANCUN")


def test_a_revision_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(VerifierError, match=r"^V7-revision: .* \(expected .+ or .+; found x{40}\)$"):
        run_verifier(b"", b"", gas_cap=10**7, revision="x" * 50)


def test_a_refusal_names_all_that_differs() -> None:
    job, circuit = BASE.job, BASE.circuit
    rule = replace(job.terms.rule, gas_cap=Count(1), code_hash=Bytes32(bytes(32)))
    verdict = verify(with_terms(job, rule=rule), circuit, BASE.policy)
    assert (verdict.message or "").endswith("found differs in code_hash, gas_cap)")
    versions = (Text("23.0.6"), Text("23.0.7"))
    verdict = verify(job, circuit, BASE.rule(ezkl_versions=versions))
    assert "expected 23.0.6 or 23.0.7; found 23.0.5" in (verdict.message or "")


def accepted(error: str) -> AcceptanceSet:
    return AcceptanceSet(
        samples_sha256=Bytes32(bytes(32)), samples=Count(9), max_error=Measure(error), agreement=Measure("1")
    )


def test_the_best_acceptance_set_is_the_one_that_is_named() -> None:
    certificate = next(r.record for r in BASE.circuit.records if isinstance(r.record, FidelityCertificate))
    for errors in (("0.5", "0.25"), ("0.25", "0.5")):
        sets = [
            AcceptanceSet(
                samples_sha256=Bytes32(bytes(32)), samples=Count(9), max_error=Measure(e), agreement=Measure("1")
            )
            for e in errors
        ]
        records = tuple(signed_record(replace(certificate, acceptance=each), OWNER) for each in sets)
        circuit = replace(BASE.circuit, records=(*BASE.circuit.records, *records))
        verdict = verify(BASE.job, circuit, BASE.rule(max_acceptance_error=Measure("0.1")))
        assert verdict.code == "V4-acceptance"
        assert "found error 0.25 on 9)" in (verdict.message or "")


def opinion(of: ProofBundle, engine: str, *, accepts: bool) -> Opinion:
    return Opinion(engine=Text(engine), bundle_sha256=canonical.digest(of), accepts=accepts)


def test_each_opinion_that_is_missing_or_disagrees_is_named() -> None:
    job, circuit, policy = BASE.job, BASE.circuit, BASE.policy
    asking = replace(policy, opinions=replace(policy.opinions, required=(Text("ezkl"), Text("other"))))
    verdict = verify(job, circuit, asking)
    assert (verdict.outcome, verdict.code) == ("UNDECIDED", "V8-missing")
    assert "expected ezkl, other; found none" in (verdict.message or "")
    given = (opinion(job, "ezkl", accepts=False), opinion(job, "other", accepts=False))
    verdict = verify(job, circuit, policy, given)
    assert (verdict.outcome, verdict.code) == ("UNDECIDED", "V8-disagreement")
    assert verdict.message == (
        "V8-disagreement: another verifier disagrees with the circuit's code "
        "(found the code accepts what others refuse: ezkl, other). "
        "Keep both inputs and report it: one of the verifiers is wrong"
    )


def test_a_refusal_by_the_code_that_another_accepts_is_undecided() -> None:
    """The trap: INVALID would let nobody look at the one case in which this verifier may be the wrong one."""
    bad = resign(replace(BASE.job, proof=BASE.other_job.proof))
    assert verify(bad, BASE.circuit, BASE.policy).code == "V7-proof"
    for accepts, code in ((True, "V8-disagreement"), (False, "V7-proof")):
        verdict = verify(bad, BASE.circuit, BASE.policy, (opinion(bad, "ezkl", accepts=accepts),))
        assert (verdict.outcome, verdict.code) == ("UNDECIDED" if accepts else "INVALID", code)
    assert "the code refuses what others accept: ezkl" in (
        verify(bad, BASE.circuit, BASE.policy, (opinion(bad, "ezkl", accepts=True),)).message or ""
    )
