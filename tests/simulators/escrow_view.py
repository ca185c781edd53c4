"""The chain as the payer's gate asks it, without one: a job's state, a block time, and how deep the funding lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.errors import EscrowError, UndecidedError
from verifier.payment.gate import Funding
from verifier.payment.states import JobState

if TYPE_CHECKING:
    from verifier.statement.scalars import Address, Bytes32


@dataclass
class SimulatedEscrowView:
    """Set `state`, `time` and `confirmations`; `down` is a silent node, `foreign` an escrow with other code."""

    time: int
    state: JobState = JobState.FUNDED
    confirmations: int = 12
    down: bool = False
    foreign: bool = False
    asked: list[tuple[Address, Bytes32]] = field(default_factory=list)

    def funding(self, escrow: Address, job_id: Bytes32) -> Funding:
        """What the chain says now."""
        self.asked.append((escrow, job_id))
        if self.down:
            raise UndecidedError("E-rpc-unreachable", "the node is silent")
        if self.foreign:
            raise EscrowError("E-escrow-code", "this is not the escrow that we know")
        return Funding(self.state, self.time, self.confirmations)
