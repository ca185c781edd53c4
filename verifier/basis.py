"""What a verdict rests on beside the bundle: a circuit and a policy, and what follows from these two alone."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from verifier.assurance import assurance_of, attesting_owners, fidelity_certificates
from verifier.statement.scalars import Text
from verifier.statement.verdict import CheckedAgainst
from verifier.version import __version__

if TYPE_CHECKING:
    from verifier.circuit import Circuit
    from verifier.policy import Policy
    from verifier.statement.certificates import FidelityCertificate
    from verifier.statement.scalars import Address, Bytes32
    from verifier.statement.verdict import Assurance


class Basis:
    """A circuit and a policy, with what follows from these two alone: kept where many bundles are verified under them.

    Each part is computed when it is first asked for, from the bytes given and by the same code for one bundle as for a
    million; where that fails (an engine), nothing is kept.
    """

    def __init__(self, circuit: Circuit, policy: Policy) -> None:
        """Nothing is hashed or checked yet."""
        self.circuit = circuit
        self.policy = policy

    @cached_property
    def circuit_id(self) -> Bytes32:
        """The sha256 of the manifest."""
        return self.circuit.circuit_id

    @cached_property
    def code_hash(self) -> Bytes32:
        """keccak256 of the code that is here."""
        return self.circuit.code_hash

    @cached_property
    def policy_sha256(self) -> Bytes32:
        """The digest of the policy."""
        return self.policy.digest

    @cached_property
    def assurance(self) -> Assurance:
        """The strongest that a record by the policy's keys gives."""
        return assurance_of(self.circuit, self.policy)

    @cached_property
    def certificates(self) -> tuple[FidelityCertificate, ...]:
        """The fidelity certificates by the policy's owners."""
        return fidelity_certificates(self.circuit, self.policy)

    @cached_property
    def attesting(self) -> frozenset[Address]:
        """The owners of the circuit's rule who attested it."""
        rule = self.policy.rule_for(self.circuit_id)
        return attesting_owners(self.circuit, (rule.owners if rule else None) or ())

    def checked(self, subject: Bytes32) -> CheckedAgainst:
        """The digests of all that a verdict about the subject rests on."""
        return CheckedAgainst(
            subject_sha256=subject,
            circuit_id=self.circuit_id,
            code_hash=self.code_hash,
            policy_sha256=self.policy_sha256,
            evm_revision=self.circuit.manifest.evm.revision,
            package=Text(f"opgate {__version__}"),
        )
