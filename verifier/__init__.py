"""Decides whether a proof shows what was paid for. Needs no ezkl, no key file, no network and no clock.

Five names are all that others need; what they raise is in `verifier.errors`.
"""

from __future__ import annotations

from verifier.circuit import Circuit
from verifier.policy import Policy
from verifier.statement.bundle import ProofBundle as Bundle
from verifier.statement.verdict import Verdict
from verifier.verify import verify

__all__ = ["Bundle", "Circuit", "Policy", "Verdict", "verify"]
