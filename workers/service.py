"""The provider's answers, without HTTP: quotes, inputs, acceptances, bundles, releases. Bytes in, canonical bytes out.

Everything that comes in is hostile: it is capped, decoded strictly, compared with what this provider itself knows, and
costs little before it is known to be meant. What is signed here is signed over digests computed here.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from verifier.bundles import parse_bundle
from verifier.errors import ServiceError
from verifier.evm import signed_by
from verifier.instances import claimed_words, committed_words
from verifier.keccak import keccak256
from verifier.payer.inputs import decode_tensors
from verifier.statement import canonical
from verifier.statement.scalars import Bytes32, Count, Signature, Text, Timestamp
from verifier.statement.terms import (
    Acceptance,
    JobTerms,
    Quote,
    QuoteLine,
    SignedQuote,
    SignedRelease,
    SignedTerms,
    input_commitment,
)
from workers import jobs
from workers.catalogue import Catalogue, Offer, check_domain
from workers.health import Health, examine
from workers.jobs import CLOSED, Job, JobState
from workers.workshop import Workshop, keep_valid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.circuit import Circuit
    from verifier.payer.inputs import Tensors
    from verifier.statement.scalars import Address, WalletSignature
    from workers.ports import Broker, EscrowClient, Signer, WitnessRunner

MAX_SMALL_BODY = 1 << 16
"""Bytes of a quote request, of terms, of a release."""
MAX_DEADLINE_SECONDS = 7 * 86_400
_WAIT_SECONDS = 20
"""How long a request waits for its turn at a costly check before it is sent away."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One provider. Methods may be called from any thread."""

    workshop: Workshop
    escrow: EscrowClient
    broker: Broker
    witness: WitnessRunner
    catalogue: Catalogue
    signer: Signer
    payee: Address
    _witness_turn: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(1))
    _verify_turn: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(1))
    _quote_lock: threading.Lock = field(default_factory=threading.Lock)

    def circuits(self) -> dict[str, Any]:
        """What is for sale."""
        good, _ = self.catalogue.offers()
        return {
            "circuits": [
                {
                    "circuit_id": offer.circuit.circuit_id,
                    "amount": offer.amount,
                    "verifier": offer.verifier,
                    "visibility": offer.circuit.manifest.visibility,
                }
                for offer in good
            ],
            "domain": self.escrow.domain,
            "token": self.escrow.token,
            "provider": self.signer.address,
            "payee": self.payee,
        }

    def quote(self, raw: bytes) -> SignedQuote:
        """A signed quote for ``{"circuit_id": …}``; the same one again while more than half of its time is left.

        Raises:
            VerifierError: V0-… for another body.
            ServiceError: W-circuit-… where the circuit is not sold.
        """
        value = canonical.parse(raw, where="quote request", limit=MAX_SMALL_BODY)
        if not isinstance(value, dict) or set(value) != {"circuit_id"}:
            raise ServiceError("W-quote-request", "this is no quote request", expected='{"circuit_id": "0x…"}')
        offer = self.catalogue.offer(parse_id(value["circuit_id"]))
        now, settings, store = self.workshop.clock(), self.workshop.settings, self.workshop.store
        circuit_id = offer.circuit.circuit_id
        with self._quote_lock:
            for known in store.quotes(circuit_id, good_at=now + settings.quote_seconds // 2):
                if self._quotes(known, offer):
                    return known
            quote = Quote(
                circuit_id=circuit_id,
                amount=offer.amount,
                lines=(QuoteLine(purpose=Text("one proved inference"), amount=offer.amount),),
                provider=self.signer.address,
                payee=self.payee,
                escrow=self.escrow.domain.verifying_contract,
                token=self.escrow.token,
                verifier=offer.verifier,
                min_seconds=Count(settings.limits.min_seconds),
                valid_until=Timestamp(now + settings.quote_seconds),
                salt=Bytes32(secrets.token_bytes(32)),
            )
            domain = self.escrow.domain
            signed = SignedQuote(domain=domain, quote=quote, signature=self.signer.sign_digest(quote.digest(domain)))
            store.add_quote(signed, now=now)
        return signed

    def put_input(self, commitment: Bytes32, circuit_id: Bytes32, raw: bytes) -> None:
        """Keep an input that matches its commitment, for a while.

        Raises:
            VerifierError: V0-… for another body.
            ServiceError: W-circuit-…, W-input-shape, W-input-bound, W-input-domain, W-input-commitment, W-inputs-full.
        """
        offer = self.catalogue.offer(circuit_id)
        _check_input(offer.circuit, raw, commitment)
        now, settings = self.workshop.clock(), self.workshop.settings
        self.workshop.store.put_input(
            commitment,
            circuit_id,
            raw,
            now=now,
            expires_at=now + settings.quote_seconds,
            cap=settings.max_pending_inputs,
        )

    def accept(self, raw: bytes) -> SignedTerms:
        """Take a job: everything that could make it unpaid or impossible is checked before the Acceptance is signed.

        The same terms again give the same answer.

        Raises:
            VerifierError: V0-… for another body.
            ServiceError: W-terms-… names the field; W-circuit-…, W-input-…, W-jobs-full, W-busy.
            CircuitError: C-… where the witness cannot be made.
        """
        asked = canonical.decode(SignedTerms, raw, where="terms", limit=MAX_SMALL_BODY)
        terms, domain = asked.terms, self.escrow.domain
        if asked.domain != domain:
            _refuse_terms("domain", domain.verifying_contract, asked.domain.verifying_contract)
        job_id = terms.job_id(domain)
        known = self.workshop.store.job(job_id)
        if known is None:
            known = self._admit(terms, job_id)
        return SignedTerms(domain=domain, terms=terms, acceptance=known.acceptance)

    def job(self, job_id: Bytes32) -> dict[str, Any]:
        """What the provider says of a job; W-job-unknown where it never took it."""
        job = self._job(job_id)
        stored = self.workshop.store.bundle(job_id)
        return describe(job) | ({} if stored is None else {"bundle_sha256": stored.sha256})

    def bundle(self, job_id: Bytes32) -> bytes:
        """The job's bundle; W-bundle-pending while there is none."""
        stored = self.workshop.store.bundle(job_id)
        if stored is None:
            job = self._job(job_id)
            raise ServiceError(
                "W-bundle-pending",
                "the job has no bundle",
                where=f"job {job_id}",
                found=f"state {job.state.value}" + (f", {job.failure}" if job.failure else ""),
                do="Ask again later" if job.state not in CLOSED else "",
            )
        return stored.body

    def deliver(self, job_id: Bytes32, raw: bytes) -> dict[str, Any]:
        """The inbox, open to anyone: only a bundle that is VALID for the funded job becomes its bundle.

        Nothing of a refused one is kept, and it says nothing about the job.

        Raises:
            ServiceError: W-job-unknown, W-bundle-job, W-bundle-exists, W-job-state, W-busy, or the verdict's code.
            VerifierError: V0-… where it is no bundle.
        """
        job = self._job(job_id)
        bundle = parse_bundle(raw, where="posted bundle")
        if bundle.job_id != job_id:
            raise ServiceError(
                "W-bundle-job", "the bundle is for another job", expected=str(job_id), found=str(bundle.job_id)
            )
        stored = self.workshop.store.bundle(job_id)
        if stored is not None and stored.body != raw:
            raise ServiceError("W-bundle-exists", "the job has its bundle already", where=f"job {job_id}")
        if stored is None:
            jobs.deliver(job, now=self.workshop.clock())
            with _turn(self._verify_turn):
                keep_valid(self.workshop, job, raw, rule=lambda row: jobs.deliver(row, now=self.workshop.clock()))
        return self.job(job_id)

    def release(self, job_id: Bytes32, raw: bytes) -> dict[str, Any]:
        """Keep the payer's release for the sweeper to submit; one for a job that is closed already changes nothing.

        Raises:
            VerifierError: V0-… for another body.
            ServiceError: W-release-job, W-release-instances, W-release-signature, W-job-state, W-job-unknown.
        """
        signed = canonical.decode(SignedRelease, raw, where="release", limit=MAX_SMALL_BODY)
        job = self._job(job_id)
        if signed.release.job_id != job_id:
            raise ServiceError("W-release-job", "the release is for another job", expected=str(job_id))
        if job.state not in CLOSED:
            expected = keccak256(claimed_words(parse_bundle(self.bundle(job_id), where="stored bundle")))
            if signed.release.instances_hash != expected:
                raise ServiceError(
                    "W-release-instances",
                    "the release is for other instances than those delivered",
                    expected=str(expected),
                    found=str(signed.release.instances_hash),
                )
            if not self._payer_signed(job.terms.payer, signed.release.digest(job.domain), signed.signature):
                raise ServiceError(
                    "W-release-signature", "the release is not signed by the payer", expected=str(job.terms.payer)
                )
            self.workshop.store.change(job_id, lambda row: jobs.promise(row, signed))
        return self.job(job_id)

    def _payer_signed(self, payer: Address, digest: Bytes32, signature: WalletSignature) -> bool:
        """By a key, or by what a wallet contract at the payer's address says on the chain: as the escrow judges it."""
        try:
            if signed_by(payer, digest, Signature(bytes(signature))):
                return True
        except ValueError:
            pass  # no key's signature, but a wallet may take it
        return self.escrow.wallet_signed(payer, digest, signature)

    def health(self) -> Health:
        """What is wrong, if anything."""
        workshop = self.workshop
        return examine(
            store=workshop.store,
            broker=self.broker,
            escrow=self.escrow,
            limits=workshop.settings.limits,
            now=workshop.clock(),
        )

    def _job(self, job_id: Bytes32) -> Job:
        job = self.workshop.store.job(job_id)
        if job is None:
            raise ServiceError("W-job-unknown", "no such job was accepted here", where=f"job {job_id}")
        return job

    def _quotes(self, known: SignedQuote, offer: Offer) -> bool:
        """Whether a stored quote says what this provider would say now."""
        quote = known.quote
        return known.domain == self.escrow.domain and (quote.amount, quote.payee, quote.token, quote.verifier) == (
            offer.amount,
            self.payee,
            self.escrow.token,
            offer.verifier,
        )

    def _admit(self, terms: JobTerms, job_id: Bytes32) -> Job:
        workshop = self.workshop
        offer = self.catalogue.offer(terms.circuit_id)
        self._check_terms(terms, offer)
        raw = workshop.store.input(terms.input_commitment, terms.circuit_id)
        if raw is None:
            raise ServiceError(
                "W-input-missing",
                "the input of these terms is not here",
                where=str(terms.input_commitment),
                do="Upload it first: PUT /v1/inputs/{commitment}?circuit_id=…",
            )
        tensors = _check_input(offer.circuit, raw, terms.input_commitment)
        self.escrow.check()
        with _turn(self._witness_turn):
            self.witness.check(offer.circuit, tensors, job_id)
        self._check_times(terms)
        signature: Signature = self.signer.sign_digest(Acceptance(job_id=job_id).digest(self.escrow.domain))
        job = Job(
            job_id=job_id,
            domain=self.escrow.domain,
            terms=terms,
            acceptance=signature,
            state=JobState.ACCEPTED,
            changed_at=workshop.clock(),
        )
        keep_until = int(terms.deadline) + workshop.settings.limits.recheck
        return workshop.store.accept(
            job,
            keep_input_until=keep_until,
            cap=workshop.settings.max_open_jobs,
            open_since=workshop.clock() - workshop.settings.limits.recheck,
        )

    def _check_terms(self, terms: JobTerms, offer: Offer) -> None:
        """The terms are those that this provider quoted, field by field."""
        for name, expected in (
            ("provider", self.signer.address),
            ("payee", self.payee),
            ("token", self.escrow.token),
            ("rule", offer.rule),
        ):
            if getattr(terms, name) != expected:
                _refuse_terms(name, expected, getattr(terms, name))
        quotes = self.workshop.store.quotes(terms.circuit_id, good_at=self.workshop.clock())
        if not any(self._same_deal(known, terms) for known in quotes):
            raise ServiceError(
                "W-terms-quote",
                "no quote of ours that is still good says this",
                where="terms.amount",
                found=f"{terms.amount} wei",
                do="Ask for a new quote: POST /v1/quotes",
            )
        self._check_times(terms)

    def _same_deal(self, known: SignedQuote, terms: JobTerms) -> bool:
        quote = known.quote
        return known.domain == self.escrow.domain and (
            quote.amount,
            quote.payee,
            quote.token,
            quote.verifier,
            quote.provider,
        ) == (terms.amount, terms.payee, terms.token, terms.rule.verifier, terms.provider)

    def _check_times(self, terms: JobTerms) -> None:
        """From the last moment of funding on there is time for an attempt and the closing; nothing is for ever."""
        now, limits = max(self.workshop.clock(), self.escrow.now()), self.workshop.settings.limits
        last = now + self.workshop.settings.quote_seconds
        if not now < terms.fund_by <= last:
            _refuse_terms("fund_by", f"after {now}, at most {last}", terms.fund_by)
        first = terms.fund_by + limits.work_seconds
        if not first <= terms.deadline <= now + MAX_DEADLINE_SECONDS:
            expected = f"{first} or later ({limits.work_seconds} s after fund_by), at most {now + MAX_DEADLINE_SECONDS}"
            _refuse_terms("deadline", expected, terms.deadline)


def describe(job: Job) -> dict[str, Any]:
    """A job as JSON for its payer: no input, no owner, no signature."""
    return {
        "job_id": job.job_id,
        "state": job.state.value,
        "circuit_id": job.circuit_id,
        "attempts": job.attempts,
        "fund_by": job.terms.fund_by,
        "deadline": job.terms.deadline,
        "changed_at": job.changed_at,
        "release": job.release is not None,
        "failure": job.failure,
    }


def parse_id(text: object) -> Bytes32:
    """A digest or id of a request; W-id where it is none."""
    try:
        return Bytes32.from_json(text)
    except ValueError as error:
        raise ServiceError("W-id", "this is no id", expected="0x and 64 lower-case hex digits") from error


def _check_input(circuit: Circuit, raw: bytes, commitment: Bytes32) -> Tensors:
    """Shape, bound, admissible domain and commitment of an upload."""
    tensors = decode_tensors(raw, where="input")
    manifest = circuit.manifest
    sizes, found = manifest.wire_sizes, tuple(len(values) for values in tensors)
    if sizes != found:
        raise ServiceError("W-input-shape", "the input has another shape", expected=str(sizes), found=str(found)[:200])
    if any(abs(value) > manifest.value_bound for values in tensors for value in values):
        raise ServiceError(
            "W-input-bound", "a value is beyond the circuit's bound", expected=f"at most {manifest.value_bound}"
        )
    check_domain(circuit, tensors)
    computed = input_commitment(committed_words(tensors, manifest))
    if computed != commitment:
        raise ServiceError(
            "W-input-commitment", "the input is not the committed one", expected=str(commitment), found=str(computed)
        )
    return tensors


@contextmanager
def _turn(semaphore: threading.BoundedSemaphore) -> Iterator[None]:
    """One costly check at a time, or strangers could fill the machine with them."""
    if not semaphore.acquire(timeout=_WAIT_SECONDS):
        raise ServiceError("W-busy", "the provider is busy with other requests", do="Try again in a moment")
    try:
        yield
    finally:
        semaphore.release()


def _refuse_terms(field_name: str, expected: object, found: object) -> None:
    raise ServiceError(
        f"W-terms-{field_name.replace('_', '-')}",
        "the terms are not what this provider takes",
        where=f"terms.{field_name}",
        expected=str(expected)[:400],
        found=str(found)[:400],
    )
