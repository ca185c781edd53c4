"""The steps of a purchase, each on its own, each safe to repeat. Nothing is trusted that came from the provider.

quote, check, upload, accept, fund, wait, fetch, release, settle; or reclaim, cancel. The rule is derived
from the manifest and code that the payer holds; the policy speaks before funding; the gate alone signs a release.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from verifier.bundles import parse_bundle
from verifier.circuit import Circuit
from verifier.errors import EscrowError, GateError, UndecidedError, VerifierError
from verifier.evm import signed_by
from verifier.instances import committed_words
from verifier.payer.inputs import decode_tensors, encode_tensors
from verifier.payer.settlement import settle
from verifier.payment.gate import Gate
from verifier.payment.ledger import Evidence, PayerJob
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.eip712 import signing_digest
from verifier.statement.scalars import Bytes32, Timestamp
from verifier.statement.terms import Acceptance, JobTerms, ProofRule, SignedTerms, input_commitment
from verifier.verify import check_terms, verify

if TYPE_CHECKING:
    from verifier.archive.log import Archive
    from verifier.payer.inputs import Tensors
    from verifier.payer.provider import Provider
    from verifier.payment.chain import Chain
    from verifier.payment.escrow import Escrow
    from verifier.payment.gate import Limits, Signer
    from verifier.payment.ledger import Ledger
    from verifier.payment.states import JobState
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.scalars import Address
    from verifier.statement.terms import SignedQuote, SignedRelease
    from verifier.statement.verdict import TermsVerdict, Verdict

FUND_WINDOW_S = 300
"""How long after drafting the terms the money may be locked; a payer that waits longer drafts anew."""
MAX_SECONDS = 7 * 86_400
"""The longest that money is locked, whatever a provider asks for."""
MAX_CLOCK_LEAD_S = 3_600
"""How far a chain's newest block may be ahead of this machine: a lying node must not move a deadline away."""


class Draft(NamedTuple):
    """Terms that nobody has signed yet, with what they were made from."""

    terms: SignedTerms
    tensors: Tensors


class Payer:
    """One payer: its key, ledger, archive and policy, and the circuits that it holds."""

    def __init__(  # noqa: PLR0913 - the parts of a payer, each by keyword
        self,
        *,
        key: Signer,
        address: Address,
        ledger: Ledger,
        archive: Archive,
        chain: Chain,
        escrow: Escrow,
        policy: Policy,
        limits: Limits,
    ) -> None:
        """Take the parts; nothing is read or sent."""
        self.ledger = ledger
        self.archive = archive
        self.chain = chain
        self.escrow = escrow
        self.policy = policy
        self._key = key
        self._address = address
        self.limits = limits
        self._gate = Gate(ledger=ledger, archive=archive, escrow=escrow, signer=key, limits=limits)

    def quote(self, provider: Provider, circuit: Circuit, *, now: int) -> SignedQuote:
        """Ask for a quote and check it: signature, circuit, escrow of the policy, still good.

        Raises:
            EscrowError: E-price-cap without a cap in the policy, E-quote-… where it cannot be dealt with.
        """
        if self.policy.amounts.per_job is None:
            raise EscrowError(
                "E-price-cap",
                "the policy does not say how much one job may cost, and a provider could ask for all there is",
                do='Add to the policy: [amounts] per_job = "<wei>"',
            )
        signed = provider.quote(circuit.circuit_id)
        quote, where = signed.quote, provider.url
        if not signed_by(quote.provider, quote.digest(signed.domain), signed.signature):
            raise EscrowError("E-quote-signature", "the quote is not signed by its provider", where=where)
        if quote.circuit_id != circuit.circuit_id:
            raise EscrowError("E-quote-circuit", "the quote is for another circuit", where=where)
        if signed.domain != self.escrow.domain or quote.escrow != self.escrow.address:
            raise EscrowError(
                "E-quote-escrow",
                "the quote is for another escrow than the policy's on this chain",
                where=where,
                expected=str(self.escrow.address),
                found=str(quote.escrow),
            )
        if quote.valid_until <= now:
            raise EscrowError("E-quote-expired", "the quote is no longer good", where=where, do="Ask again")
        return signed

    def draft(self, signed: SignedQuote, circuit: Circuit, tensors: Tensors, *, seconds: int, now: int) -> Draft:
        """Terms for a quote and an input; the rule is derived from the manifest here, the verifier's code compared.

        Args:
            signed: a quote that `quote` checked.
            circuit: the circuit that the payer holds.
            tensors: the quantised input.
            seconds: time from now to the deadline.
            now: Unix seconds; the later of it and the chain's time counts.

        Raises:
            EscrowError: E-verifier-code where the address of the quote does not hold the circuit's code,
                E-deadline where the provider asks for more time, or the money would be locked for too long.
            UndecidedError: E-rpc-time where clock and chain are far apart.
        """
        quote = signed.quote
        if self.chain.code_hash(quote.verifier) != circuit.manifest.evm.code_hash:
            raise EscrowError(
                "E-verifier-code",
                "the quote's verifier does not hold the circuit's code",
                where=str(quote.verifier),
                expected=str(circuit.manifest.evm.code_hash),
            )
        if seconds < quote.min_seconds:
            raise EscrowError(
                "E-deadline",
                "the provider asks for more time",
                expected=f"{quote.min_seconds} s or more",
                found=f"{seconds} s",
            )
        if seconds > MAX_SECONDS:
            raise EscrowError(
                "E-deadline",
                "the money would be locked for too long",
                expected=f"at most {MAX_SECONDS} s",
                found=f"{seconds} s",
            )
        start = max(now, self.chain.block_time())
        if start > now + MAX_CLOCK_LEAD_S:
            raise UndecidedError(
                "E-rpc-time",
                "the chain's time is far ahead of this machine's",
                expected=f"at most {now + MAX_CLOCK_LEAD_S}",
                found=str(start),
                do="Set this machine's clock, or ask another node",
            )
        terms = JobTerms(
            payer=self._address,
            provider=quote.provider,
            payee=quote.payee,
            token=quote.token,
            amount=quote.amount,
            circuit_id=circuit.circuit_id,
            rule=ProofRule.derive(circuit.manifest, quote.verifier),
            input_commitment=input_commitment(committed_words(tensors, circuit.manifest)),
            fund_by=Timestamp(start + min(FUND_WINDOW_S, max(1, seconds // 2))),
            deadline=Timestamp(start + seconds),
            salt=Bytes32(secrets.token_bytes(32)),
        )
        return Draft(SignedTerms(domain=signed.domain, terms=terms), tensors)

    def check(self, draft: Draft, circuit: Circuit, provider_url: str, *, now: int) -> PayerJob:
        """Steps 1, 2 and 4 under the policy; the job and all that it was judged by are kept.

        Raises:
            VerifierError: with the code of the step that fails; nothing was kept.
            UndecidedError: the terms could not be judged.
        """
        verdict = self._judge_terms(draft.terms, circuit)
        evidence = Evidence(
            policy=self.archive.store(canonical.encode(self.policy)),
            manifest=self.archive.store(canonical.encode(circuit.manifest)),
            code=self.archive.store(circuit.code),
            records=tuple(self.archive.store(canonical.encode(record)) for record in circuit.records),
            terms_verdict=self.archive.store(canonical.encode(verdict)),
        )
        job = PayerJob(
            job_id=draft.terms.terms.job_id(draft.terms.domain),
            created_at=now,
            provider_url=provider_url,
            terms=draft.terms,
            inputs=encode_tensors(draft.tensors),
            evidence=evidence,
        )
        self.ledger.add(job)
        return self.ledger.job(job.job_id)

    def upload(self, provider: Provider, job: PayerJob) -> None:
        """Give the provider the input."""
        terms = job.terms.terms
        provider.upload(terms.input_commitment, terms.circuit_id, decode_tensors(job.inputs, where="ledger"))

    def accept(self, provider: Provider, job: PayerJob) -> PayerJob:
        """Get the provider's Acceptance and check that it is over exactly these terms.

        Raises:
            EscrowError: E-acceptance where it is not the provider's signature over this job.
        """
        if job.terms.acceptance is not None:
            return job
        answer = provider.accept(SignedTerms(domain=job.terms.domain, terms=job.terms.terms))
        digest = Acceptance(job_id=job.job_id).digest(job.terms.domain)
        if answer.acceptance is None or not signed_by(job.terms.terms.provider, digest, answer.acceptance):
            raise EscrowError(
                "E-acceptance", "the answer holds no Acceptance of this job by its provider", where=provider.url
            )
        signed = SignedTerms(domain=job.terms.domain, terms=job.terms.terms, acceptance=answer.acceptance)
        self.ledger.sign_terms(job.job_id, signed)
        return self.ledger.job(job.job_id)

    def fund(self, job: PayerJob) -> PayerJob:
        """Sign the terms and lock the money; funded already is success.

        The policy of now is asked once more before the signature: it may have changed since the terms were drafted, and
        afterwards it has no force.

        Raises:
            EscrowError: E-acceptance without the provider's Acceptance, E-other-escrow or E-other-payer where the job
                is not this payer's here, E-… as the escrow refuses.
            VerifierError: with the code of the step that the policy of now refuses.
            GateError: G6-per-job, G6-per-provider, G6-per-day above the policy's cap.
            UndecidedError: the terms could not be judged.
        """
        self._check_mine(job)
        signed = job.terms
        acceptance = signed.acceptance
        if acceptance is None:
            raise EscrowError("E-acceptance", "there is no Acceptance yet", do=f"opgate pay accept {job.job_id}")
        self.escrow.check()
        if signed.payer_signature is None:
            self._judge_terms(signed, self.circuit_of(job))
            signature = self._key.sign_digest(signing_digest(signed.domain.separator(), signed.terms))
            signed = SignedTerms(
                domain=signed.domain, terms=signed.terms, payer_signature=signature, acceptance=signed.acceptance
            )
            signed = self.ledger.sign_terms(job.job_id, signed, caps=self.policy.amounts).terms
        terms, payer = signed.terms, signed.payer_signature or b""
        if self.chain.allowance(terms.token, terms.payer, self.escrow.address) >= terms.amount:
            self.escrow.fund(terms, acceptance=acceptance, payer_signature=payer)
        else:
            until = int(terms.fund_by)
            digest = self.chain.permit_digest(
                terms.token, owner=terms.payer, spender=self.escrow.address, value=int(terms.amount), deadline=until
            )
            self.escrow.fund_with_permit(
                terms,
                acceptance=acceptance,
                permit_deadline=until,
                permit=self._key.sign_digest(digest),
                payer_signature=payer,
            )
        return self.ledger.job(job.job_id)

    def fetch(self, provider: Provider, job: PayerJob) -> Verdict:
        """Get the provider's bundle, judge it, and keep it where it is VALID.

        Raises:
            VerifierError: V0-… where the bytes are no bundle.
        """
        return self.judge(job, provider.bundle(job.job_id))

    def judge(self, job: PayerJob, raw: bytes) -> Verdict:
        """Judge bytes that claim to be the job's bundle; they are kept in the archive only where VALID for this job."""
        unverified_bundle = parse_bundle(raw)
        verdict = verify(unverified_bundle, self.circuit_of(job), self.policy_of(job))
        if verdict.outcome == "VALID" and verdict.job_id == job.job_id:
            self.ledger.set_bundle(job.job_id, self.archive.store(raw))
        return verdict

    def release(self, job: PayerJob, *, now: int) -> SignedRelease:
        """Have the gate sign the release of the kept bundle. It is not sent: hand it to the provider or the chain.

        Raises:
            GateError: G-bundle where no valid bundle was fetched, else as `Gate.release`.
            EscrowError: E-other-escrow, E-other-payer.
        """
        if job.bundle is None:
            raise GateError("G-bundle", "there is no valid bundle of this job yet", do=f"opgate pay fetch {job.job_id}")
        self._check_mine(job)
        return self._gate.release(job.job_id, job.bundle, now=now)

    def reclaim(self, job: PayerJob) -> None:
        """Take the money back; the escrow allows it from the deadline on. E-other-escrow where it is not there."""
        self._check_escrow(job)
        self.escrow.reclaim(job.terms.terms)

    def cancel(self, job: PayerJob) -> None:
        """Make the terms void before anybody funds them; E-other-escrow or E-other-payer where they are not ours."""
        self._check_mine(job)
        self.escrow.cancel(job.terms.terms)

    def state(self, job: PayerJob) -> JobState:
        """Where the escrow says that the job stands; E-other-escrow where it is not that job's."""
        self._check_escrow(job)
        return self.escrow.state(job.job_id)

    def _judge_terms(self, signed: SignedTerms, circuit: Circuit) -> TermsVerdict:
        """Steps 1, 2 and 4 under the policy of now; raises unless VALID."""
        verdict = check_terms(signed.terms, signed.domain, circuit, self.policy)
        if verdict.outcome == "UNDECIDED":
            raise UndecidedError(str(verdict.code), "the terms could not be judged", found=str(verdict.message))
        if verdict.outcome != "VALID":
            raise VerifierError(str(verdict.code), "the terms are not acceptable", found=str(verdict.message))
        return verdict

    def _check_escrow(self, job: PayerJob) -> None:
        """Another escrow does not know the job: it would answer NONE, cancel nothing, or be given an allowance."""
        domain = job.terms.domain
        if domain != self.escrow.domain:
            raise EscrowError(
                "E-other-escrow",
                "the job is at another escrow than the policy's on this chain",
                where=str(job.job_id),
                expected=f"{domain.verifying_contract} on chain {domain.chain_id}",
                found=f"{self.escrow.address} on chain {self.escrow.domain.chain_id}",
                do="Use the policy and the node that the job was made with",
            )

    def _check_mine(self, job: PayerJob) -> None:
        self._check_escrow(job)
        if job.terms.terms.payer != self._address:
            raise EscrowError(
                "E-other-payer",
                "the job is another key's",
                where=str(job.job_id),
                expected=str(job.terms.terms.payer),
                found=str(self._address),
                do="Name that key with --key",
            )

    def settle(self, job: PayerJob, *, now: int) -> PayerJob:
        """Where the chain has closed the job: archive how, with the chain's evidence. Otherwise nothing happens."""
        settle(self, job, now=now)
        return self.ledger.job(job.job_id)

    def kept_bundle(self, job: PayerJob) -> ProofBundle | None:
        """The valid bundle that was fetched, if one was."""
        return parse_bundle(self.archive.blob(job.bundle)) if job.bundle else None

    def circuit_of(self, job: PayerJob) -> Circuit:
        """The circuit that the job was judged by, from the archive."""
        evidence = job.evidence
        return Circuit.from_bytes(
            self.archive.blob(evidence.manifest),
            self.archive.blob(evidence.code),
            tuple(self.archive.blob(record) for record in evidence.records),
        )

    def policy_of(self, job: PayerJob) -> Policy:
        """The policy that the job was judged by, from the archive."""
        return canonical.decode(Policy, self.archive.blob(job.evidence.policy), where="archived policy")
