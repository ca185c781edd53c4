"""Verification of a bundle in steps 0-8, a pure function of bundle, circuit, policy and opinions.

0 bytes        regular file, size cap, strict canonical parse: done by whoever reads the bundle (`Bundle.from_bytes`)
1 circuit      the ids agree and are the manifest's sha256; the code is re-hashed; assurance, SRS, visibility, version
2 terms        job_id recomputed; chain, escrow, token, provider, amount as the policy says; the rule derived, compared
3 signatures   Acceptance and Delivery by the provider, or the chain's evidence in place of the Delivery
4 fidelity     a certificate of an owner meets what the policy asks
5 instances    built from the claim: exact count, every value within the circuit's bound
6 input        the commitment over the input's words is the terms'
7 proof        exact length; the pinned code accepts, under the rule's gas cap and the pinned revision
8 opinions     those that the policy asks for are there; none of those given disagrees, of whichever side

Time, single use and the state of a chain are not looked at: they are the gate's and the escrow's. The payer's consent
is not shown by a bundle either: it is the Funded event. INVALID is about a bundle, never about a job.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from verifier.assurance import ORDER, acceptances
from verifier.basis import Basis
from verifier.errors import OpgateError, UndecidedError, VerifierError
from verifier.evm import run_verifier, signed_by
from verifier.instances import calldata, check_claim, claimed_words, input_words
from verifier.keccak import keccak256
from verifier.sentences import shown_and_not
from verifier.srs import srs_kind
from verifier.statement import canonical
from verifier.statement.bundle import delivery_message
from verifier.statement.scalars import Count, Text
from verifier.statement.terms import Acceptance, ProofRule, input_commitment
from verifier.statement.verdict import TermsVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.circuit import Circuit
    from verifier.policy import CircuitRule, Policy
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.eip712 import Domain
    from verifier.statement.scalars import Bytes32
    from verifier.statement.terms import JobTerms
    from verifier.statement.verdict import Assurance, Opinion, Outcome


MAX_GAS = 12_800_000
"""Of a manifest: its gas cap, 5/4 of it, is then the escrow's greatest, 16,000,000 (`escrow.vy`, MAX_GAS_CAP).

Without a bound, code that never ends would run for years here before its gas is used up.
"""


class _Deal(NamedTuple):
    """What steps 1, 2 and 4 look at: it exists before any money or proof."""

    terms: JobTerms
    domain: Domain
    claimed_id: Bytes32
    basis: Basis

    @property
    def circuit(self) -> Circuit:
        return self.basis.circuit

    @property
    def policy(self) -> Policy:
        return self.basis.policy


class _Case(NamedTuple):
    """What steps 3 and 5 to 8 look at."""

    deal: _Deal
    bundle: ProofBundle
    subject: Bytes32
    job_id: Bytes32
    opinions: tuple[Opinion, ...]
    words: bytes

    def given(self) -> dict[str, Opinion]:
        """The opinions about this very bundle, by their engine."""
        return {str(opinion.engine): opinion for opinion in self.opinions if opinion.bundle_sha256 == self.subject}


def verify(bundle: ProofBundle, circuit: Circuit, policy: Policy, opinions: tuple[Opinion, ...] = ()) -> Verdict:
    """Decide whether a bundle shows that this circuit gave these outputs for this job.

    Pure and timeless: the same bundle, circuit, policy and opinions give the same verdict anywhere, any year.
    It does not look at a chain, a clock or other bundles, and nothing is paid because of its result: the gate runs
    it again itself.

    Returns:
        A Verdict: VALID, INVALID with the first step's code that fails, or UNDECIDED where something on our side
        (the EVM, a missing opinion, an unexpected failure) kept us from deciding.
    """
    return verify_on(Basis(circuit, policy), bundle, opinions)


def verify_on(
    basis: Basis, bundle: ProofBundle, opinions: tuple[Opinion, ...] = (), *, subject: Bytes32 | None = None
) -> Verdict:
    """As `verify`, on a circuit and policy whose own parts need not be computed again for each bundle.

    `subject` is the sha256 of the bytes that the bundle was parsed from: its digest, since it has one encoding.
    """
    job_id, subject = bundle.job_id, subject or canonical.digest(bundle)
    checked = basis.checked(subject)
    assurance: Assurance | None = None
    try:
        assurance = basis.assurance
        deal = _Deal(bundle.terms, bundle.domain, bundle.circuit_id, basis)
        case = _Case(deal, bundle, subject, job_id, opinions, claimed_words(bundle, job_id))
        for step in STEPS:
            step(case)
    except Exception as error:  # noqa: BLE001 - whatever happens, money must see a verdict and never a traceback
        outcome, code, message = _outcome(error)
        return Verdict(
            outcome=outcome,
            job_id=job_id,
            assurance=assurance,
            checked=checked,
            shown=(),
            not_shown=(),
            step=_step_of(code),
            code=Text(code),
            message=message,
        )
    shown, not_shown = shown_and_not(bundle, basis)
    return Verdict(
        outcome="VALID", job_id=job_id, assurance=assurance, checked=checked, shown=shown, not_shown=not_shown
    )


def check_terms(terms: JobTerms, domain: Domain, circuit: Circuit, policy: Policy) -> TermsVerdict:
    """Steps 1, 2 and 4 for terms, before the payer signs them: after funding, a policy has no force any more."""
    job_id = terms.job_id(domain)
    basis = Basis(circuit, policy)
    checked = basis.checked(canonical.digest(terms))
    assurance: Assurance | None = None
    try:
        assurance = basis.assurance
        deal = _Deal(terms, domain, terms.circuit_id, basis)
        for step in TERMS_STEPS:
            step(deal)
    except Exception as error:  # noqa: BLE001 - as in verify
        outcome, code, message = _outcome(error)
        return TermsVerdict(
            outcome=outcome,
            job_id=job_id,
            assurance=assurance,
            checked=checked,
            step=_step_of(code),
            code=Text(code),
            message=message,
        )
    return TermsVerdict(outcome="VALID", job_id=job_id, assurance=assurance, checked=checked)


def check_circuit(deal: _Deal) -> None:
    """Step 1: this is the circuit of the terms, its code is the pinned one, and the policy takes it."""
    manifest, rule, basis = deal.circuit.manifest, _rule(deal), deal.basis
    if deal.terms.circuit_id != basis.circuit_id:
        _no("V1-circuit-id", "the terms name another circuit", basis.circuit_id, deal.terms.circuit_id)
    if deal.claimed_id != basis.circuit_id:
        _no("V1-circuit-id", "the bundle names another circuit", basis.circuit_id, deal.claimed_id)
    if basis.code_hash != manifest.evm.code_hash:
        _no("V1-code-hash", "the code is not the manifest's", manifest.evm.code_hash, basis.code_hash)
    if deal.circuit.code.startswith(b"\xef"):
        _no(
            "V1-code-kind",
            "the code is a delegation or an EOF container",
            "plain EVM code",
            deal.circuit.code[:3].hex(),
        )
    if manifest.visibility not in rule.visibility:
        _no("V1-visibility", "the policy does not take this kind of input", rule.visibility, manifest.visibility)
    if manifest.ezkl_version not in rule.ezkl_versions:
        _no("V1-ezkl-version", "the policy does not take this proof system", rule.ezkl_versions, manifest.ezkl_version)
    _check_trust(deal, rule)


def _check_trust(deal: _Deal, rule: CircuitRule) -> None:
    """Of step 1: who says what the code computes, whose model it is, and who made the SRS."""
    basis, kind = deal.basis, srs_kind(deal.circuit.manifest.srs)
    if ORDER.index(basis.assurance) < ORDER.index(rule.assurance):
        _no("V1-assurance", "no trusted record shows what this code computes", rule.assurance, basis.assurance)
    if rule.owners is not None and not basis.attesting:
        _no("V1-owner", "no owner that the policy asks for says that this circuit is theirs", rule.owners, "nobody")
    if rule.srs is not None and kind not in rule.srs:
        _no("V1-srs", "the policy does not take this kind of SRS", rule.srs, kind)
    if kind != "ceremony" and deal.domain.chain_id not in deal.policy.chains.dev_chains:
        _no("V1-srs", "whoever made the SRS can forge proofs", "a ceremony's SRS on this chain", "a development SRS")


def check_deal(deal: _Deal) -> None:
    """Step 2: the terms hold at an escrow that the policy names, and their rule is the one that the circuit gives."""
    terms, domain, policy = deal.terms, deal.domain, deal.policy
    if (domain.name, domain.version) != ("opgate", "1"):
        _no("V2-domain", "the domain is not an opgate escrow's", "opgate 1", f"{domain.name} {domain.version}")
    escrow = policy.escrow_at(domain.chain_id, domain.verifying_contract)
    if escrow is None:
        where = f"{domain.verifying_contract} on chain {domain.chain_id}"
        _no("V2-escrow", "the policy does not name this escrow", "one of policy.chains.escrows", where)
    if terms.token != escrow.token:
        _no("V2-token", "the terms name another token than the escrow holds", escrow.token, terms.token)
    if policy.providers.allowed and terms.provider not in policy.providers.allowed:
        _no("V2-provider", "the policy does not take this provider", "one of policy.providers.allowed", terms.provider)
    cap = policy.amounts.per_job
    if terms.amount == 0 or (cap is not None and terms.amount > cap):
        _no(
            "V2-amount",
            "the amount is zero or above the policy's cap",
            f"1 to {cap or 'any'} wei",
            f"{terms.amount} wei",
        )
    if terms.fund_by >= terms.deadline:
        _no(
            "V2-times",
            "the job could be funded after its deadline",
            "fund_by < deadline",
            f"{terms.fund_by} >= {terms.deadline}",
        )
    if deal.circuit.manifest.evm.gas > MAX_GAS:
        _no("V2-gas", "the escrow takes no rule with so much gas", f"at most {MAX_GAS}", deal.circuit.manifest.evm.gas)
    derived = ProofRule.derive(deal.circuit.manifest, terms.rule.verifier)
    if terms.rule != derived:
        names = [name for name in derived.__struct_fields__ if getattr(derived, name) != getattr(terms.rule, name)]
        _no(
            "V2-rule",
            "the rule is not the one that the circuit gives",
            "the derived rule",
            f"differs in {', '.join(names)}",
        )


def check_signatures(case: _Case) -> None:
    """Step 3: the provider accepted this job, and delivered exactly these bytes, or the chain shows that it closed."""
    bundle, provider, job_id = case.bundle, case.bundle.terms.provider, case.job_id
    if not signed_by(provider, Acceptance(job_id=job_id).digest(bundle.domain), bundle.acceptance):
        _no("V3-acceptance", "the Acceptance is not the provider's for this job", provider, "another signer")
    instances_hash = keccak256(case.words)
    if bundle.evidence is not None:
        from verifier.chain_evidence import check_released  # noqa: PLC0415 - RLP and tries only where a chain is shown

        check_released(bundle.evidence, bundle.domain, job_id, instances_hash)
        return
    delivery, receipt = bundle.delivery, bundle.receipt  # both or neither: a bundle without evidence has both
    if (
        delivery is None
        or receipt is None
        or not signed_by(
            provider,
            delivery_message(job_id, bundle.circuit_id, instances_hash, bundle.proof, receipt).digest(bundle.domain),
            delivery,
        )
    ):
        _no(
            "V3-delivery",
            "the Delivery is not the provider's for these bytes",
            provider,
            "another signer or other bytes",
        )


def check_fidelity(deal: _Deal) -> None:
    """Step 4: an owner's certificate says that the circuit is as close to the model as the policy asks."""
    rule = _rule(deal)
    _check_acceptance(deal, rule)
    if rule.max_error is None and rule.min_agreement is None:
        return
    certificates = deal.basis.certificates
    if not certificates:
        _no("V4-certificate", "no fidelity certificate by an owner that the policy names", "one", "none")
    for certificate in certificates:
        error, agreement = Decimal(certificate.max_error), Decimal(certificate.agreement)
        if (
            (rule.max_error is None or error <= Decimal(rule.max_error))
            and (rule.min_agreement is None or agreement >= Decimal(rule.min_agreement))
            and certificate.samples >= rule.min_samples
        ):
            return
    best = certificates[0]
    _no(
        "V4-fidelity",
        "the circuit is certified to be less faithful than the policy asks",
        f"error <= {rule.max_error}, agreement >= {rule.min_agreement}, samples >= {rule.min_samples}",
        f"error {best.max_error}, agreement {best.agreement}, samples {best.samples}",
    )


def _check_acceptance(deal: _Deal, rule: CircuitRule) -> None:
    """Float model against circuit on a set chosen by somebody the policy names: against quantisation backdoors."""
    if rule.max_acceptance_error is None and rule.min_acceptance_samples is None:
        return
    limit = None if rule.max_acceptance_error is None else Decimal(rule.max_acceptance_error)
    fewest = int(rule.min_acceptance_samples or 1)
    found = acceptances(deal.basis.circuit, deal.basis.policy)
    if any(each.samples >= fewest and (limit is None or Decimal(each.max_error) <= limit) for each in found):
        return
    best = min(found, key=lambda each: Decimal(each.max_error), default=None)
    _no(
        "V4-acceptance",
        "no acceptance set by a key that the policy names meets it",
        f"error <= {rule.max_acceptance_error} on {fewest} samples or more",
        f"error {best.max_error} on {best.samples}" if best is not None else "none",
    )


def check_instances(case: _Case) -> None:
    """Step 5: the claim has exactly the circuit's values, each within its bound; the words hold nothing else."""
    check_claim(case.bundle, case.deal.circuit.manifest)
    expected = int(case.deal.circuit.manifest.n_instances)
    if len(case.words) != 32 * expected:
        _no("V5-instance-count", "the claim has another size than the circuit", expected, len(case.words) // 32)


def check_input(case: _Case) -> None:
    """Step 6: the input is the one that the payer committed to when it funded."""
    commitment = input_commitment(input_words(case.words, case.deal.circuit.manifest))
    if commitment != case.deal.terms.input_commitment:
        _no("V6-commitment", "the input is not the one of the terms", case.deal.terms.input_commitment, commitment)


def check_proof(case: _Case) -> None:
    """Step 7: the pinned code accepts the proof for these instances, as the escrow would ask it."""
    manifest, proof = case.deal.circuit.manifest, case.bundle.proof
    if len(proof) != manifest.proof_len:
        _no("V7-proof-length", "the proof has another length than the circuit's", manifest.proof_len, len(proof))
    answer = run_verifier(
        case.deal.circuit.code,
        calldata(proof, case.words),
        gas_cap=int(case.deal.terms.rule.gas_cap),
        revision=manifest.evm.revision,
    )
    if not answer.accepted:
        accepting = [name for name, opinion in case.given().items() if opinion.accepts]
        if accepting:
            _disagreement("the code refuses what others accept", accepting)
        found = "the code refuses: the output is not shown to be the model's"
        _no("V7-proof", "the proof does not open against the circuit", "the code answers 1", found)


def check_opinions(case: _Case) -> None:
    """Step 8: other verifiers, where the policy asks for them or somebody gave their word, agree."""
    given = case.given()
    missing = [name for name in case.deal.policy.opinions.required if name not in given]
    if missing:
        raise UndecidedError(
            "V8-missing",
            "the policy asks for another opinion",
            expected=", ".join(missing),
            found="none",
            do=f"Ask for it: --second-opinion {missing[0]}",
        )
    refusing = [name for name, opinion in given.items() if not opinion.accepts]
    if refusing:
        _disagreement("the code accepts what others refuse", refusing)


def _of_deal(step: Callable[[_Deal], None]) -> Callable[[_Case], None]:
    def run(case: _Case) -> None:
        step(case.deal)

    return run


TERMS_STEPS: tuple[Callable[[_Deal], None], ...] = (check_circuit, check_deal, check_fidelity)
STEPS: tuple[Callable[[_Case], None], ...] = (
    _of_deal(check_circuit),
    _of_deal(check_deal),
    check_signatures,
    _of_deal(check_fidelity),
    check_instances,
    check_input,
    check_proof,
    check_opinions,
)
"""Steps 1 to 8 in their order; the first that fails names the verdict."""


def _rule(deal: _Deal) -> CircuitRule:
    rule = deal.policy.rule_for(deal.terms.circuit_id)
    if rule is None:
        _no(
            "V1-circuit-policy",
            "the policy does not take this circuit",
            "a rule for it or for *",
            deal.terms.circuit_id,
        )
    return rule


def _no(code: str, message: str, expected: object, found: object) -> NoReturn:
    raise VerifierError(code, message, where=f"step {code[1]}", expected=_said(expected), found=_said(found))


def _said(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _disagreement(found: str, engines: list[str]) -> NoReturn:
    """One of two verifiers is wrong, whichever it is: nobody should act on either."""
    raise UndecidedError(
        "V8-disagreement",
        "another verifier disagrees with the circuit's code",
        found=f"{found}: {', '.join(engines)}",
        do="Keep both inputs and report it: one of the verifiers is wrong",
    )


def _outcome(error: Exception) -> tuple[Outcome, str, Text]:
    if isinstance(error, UndecidedError):
        return "UNDECIDED", error.code, Text.shown(str(error))
    if isinstance(error, OpgateError):
        return "INVALID", error.code, Text.shown(str(error))
    return "UNDECIDED", "V-internal", Text.shown(f"an internal error kept us from deciding: {type(error).__name__}")


def _step_of(code: str) -> Count | None:
    match = re.match(r"V([0-8])-", code)
    return Count(int(match[1])) if match else None
