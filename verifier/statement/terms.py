"""What payer and provider sign: quote, terms, acceptance, release, delivery. The job_id is the digest of the terms."""

from __future__ import annotations

from typing import Self

import msgspec

from verifier.errors import VerifierError
from verifier.keccak import keccak256
from verifier.statement.eip712 import Domain, hash_struct, signing_digest
from verifier.statement.manifest import CircuitManifest
from verifier.statement.scalars import Address, Bytes32, Count, Signature, Text, Timestamp, Uint256, WalletSignature

GAS_STEP = 10_000
"""The gas cap is rounded up to this step, so that it does not leak how a gas figure was measured."""


class ProofRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the escrow demands of a proof: which code, which shape, where the input and the job id stand.

    Offsets and lengths count 32-byte instance words; `proof_len` counts bytes; `gas_cap` is gas.
    """

    verifier: Address
    code_hash: Bytes32
    n_instances: Count
    proof_len: Count
    input_offset: Count
    input_len: Count
    job_offset: Count
    gas_cap: Count

    @classmethod
    def derive(cls, manifest: CircuitManifest, verifier: Address) -> Self:
        """The one rule of a circuit at an address. Each side derives it; a rule that came from elsewhere is compared.

        It does not check that the address holds the code: that is a question to a chain, or to `code_hash`.
        gas_cap is the manifest's gas x 5/4, rounded up to 10,000.
        """
        return cls(
            verifier=verifier,
            code_hash=manifest.evm.code_hash,
            n_instances=manifest.n_instances,
            proof_len=manifest.proof_len,
            input_offset=Count(0),
            input_len=Count(manifest.input_len),
            job_offset=Count(manifest.job_offset),
            gas_cap=Count(-(-manifest.evm.gas * 5 // (4 * GAS_STEP)) * GAS_STEP),
        )


class JobTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job: who pays whom how much, for which circuit on which input, until when.

    `amount` is in the token's smallest unit (wei); `fund_by` and `deadline` are Unix seconds; `salt` is random.
    """

    payer: Address
    provider: Address
    payee: Address
    token: Address
    amount: Uint256
    circuit_id: Bytes32
    rule: ProofRule
    input_commitment: Bytes32
    fund_by: Timestamp
    deadline: Timestamp
    salt: Bytes32

    def job_id(self, domain: Domain) -> Bytes32:
        """The id of the job at one escrow: the EIP-712 digest of these terms."""
        return signing_digest(domain.separator(), self)

    def rule_hash(self) -> Bytes32:
        """The hash of the rule inside the terms."""
        return hash_struct(self.rule)


class QuoteLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of a price, for people and for bookkeeping; amounts in wei."""

    purpose: Text
    amount: Uint256


class Quote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider's offer for one proof of a circuit, good until `valid_until` (Unix seconds).

    `verifier` is where the circuit's code stands on the escrow's chain, a hint that the payer checks;
    `min_seconds` is the least time between now and the deadline that the provider will take a job with.
    """

    circuit_id: Bytes32
    amount: Uint256
    lines: tuple[QuoteLine, ...]
    provider: Address
    payee: Address
    escrow: Address
    token: Address
    verifier: Address
    min_seconds: Count
    valid_until: Timestamp
    salt: Bytes32

    def digest(self, domain: Domain) -> Bytes32:
        """What the provider signs."""
        return signing_digest(domain.separator(), self)


class SignedQuote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quote with the provider's signature and the domain it holds in."""

    domain: Domain
    quote: Quote
    signature: Signature


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The provider has the input, can prove it, and takes the job; without it nobody can fund."""

    job_id: Bytes32

    def digest(self, domain: Domain) -> Bytes32:
        """What the provider signs."""
        return signing_digest(domain.separator(), self)


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payer's word that the money may go to the payee for exactly these instances."""

    job_id: Bytes32
    instances_hash: Bytes32

    def digest(self, domain: Domain) -> Bytes32:
        """What the payer signs."""
        return signing_digest(domain.separator(), self)


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The provider's word that it delivered exactly these bytes for this job."""

    job_id: Bytes32
    circuit_id: Bytes32
    instances_hash: Bytes32
    proof_hash: Bytes32
    receipt_hash: Bytes32

    def digest(self, domain: Domain) -> Bytes32:
        """What the provider signs."""
        return signing_digest(domain.separator(), self)


class SignedTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Terms on their way between payer, provider and escrow; a signature that is not there yet is left out.

    The signatures are not checked here.
    """

    domain: Domain
    terms: JobTerms
    payer_signature: Signature | None = None
    acceptance: Signature | None = None


class SignedRelease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A release with the payer's signature, as the provider receives and submits it."""

    release: Release
    signature: WalletSignature


def input_commitment(words: bytes) -> Bytes32:
    """keccak256 over the input's instance words: big-endian, 32 bytes each; V6-words for other lengths."""
    if not words or len(words) % 32:
        raise VerifierError("V6-words", "an input is a whole number of 32-byte words", found=f"{len(words)} bytes")
    return keccak256(words)
