"""Decides whether a proof shows what was paid for. Needs no ezkl, no key file, no network and no clock."""

from __future__ import annotations

from verifier.circuit import Circuit
from verifier.errors import AuditError, EscrowError, GateError, OpgateError, UndecidedError, VerifierError
from verifier.policy import Policy
from verifier.statement.bundle import ProofBundle as Bundle
from verifier.statement.verdict import Verdict
from verifier.verify import verify

__all__ = [
    "AuditError",
    "Bundle",
    "Circuit",
    "EscrowError",
    "GateError",
    "OpgateError",
    "Policy",
    "UndecidedError",
    "Verdict",
    "VerifierError",
    "verify",
]
