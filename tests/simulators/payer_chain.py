"""Chain and escrow as a payer uses them, without a chain: what it would send is listed, nothing is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from verifier.keccak import keccak256
from verifier.payment.states import JobState
from verifier.statement.scalars import Address, Bytes32

if TYPE_CHECKING:
    from verifier.statement.eip712 import Domain
    from verifier.statement.terms import JobTerms


BLOCK = Bytes32(b"\xb1" * 32)


class SimulatedHead(NamedTuple):
    """The newest block, as far as a payer looks at it."""

    number: int


@dataclass
class SimulatedChain:
    """Set `time` and `verifier_code`."""

    time: int
    verifier_code: Bytes32
    height: int = 1

    def code_hash(self, who: Address) -> Bytes32:  # noqa: ARG002 - the chain's signature
        return self.verifier_code

    def block_time(self) -> int:
        return self.time

    def head(self) -> SimulatedHead:
        return SimulatedHead(self.height)

    def allowance(self, token: Address, owner: Address, spender: Address) -> int:  # noqa: ARG002 - as above
        return 0

    def permit_digest(self, token: Address, *, owner: Address, spender: Address, value: int, deadline: int) -> Bytes32:
        return keccak256(token + owner + spender + value.to_bytes(32) + deadline.to_bytes(32))


class SimulatedEvent(NamedTuple):
    """An event, as far as a payer looks at it."""

    transaction_hash: Bytes32
    block_hash: Bytes32
    block_number: int = 1


@dataclass
class SimulatedPayerEscrow:
    """Each verb that is sent is listed in `sent`; `current` is what the escrow answers."""

    domain: Domain
    current: JobState = JobState.NONE
    sent: list[str] = field(default_factory=list)
    block_hash: Bytes32 = BLOCK

    @property
    def address(self) -> Address:
        return self.domain.verifying_contract

    def check(self) -> None:
        """The code is the known one."""

    def look_again(self) -> None:
        """Nothing is ever taken away here."""

    def state(self, job_id: Bytes32) -> JobState:  # noqa: ARG002 - the escrow's signature
        return self.current

    def events(self, names: tuple[str, ...], *, job_id: Bytes32) -> tuple[SimulatedEvent, ...]:
        """One event of each name that is asked for."""
        return tuple(SimulatedEvent(keccak256(name.encode() + job_id), self.block_hash) for name in names)

    def closed_by_proof(self, job_id: Bytes32) -> bool:  # noqa: ARG002 - the escrow's signature
        return True

    def fund_with_permit(self, terms: JobTerms, **_: Any) -> None:  # noqa: ARG002 - as above
        self.sent.append("fund")

    def reclaim(self, terms: JobTerms) -> None:  # noqa: ARG002 - as above
        self.sent.append("reclaim")

    def cancel(self, terms: JobTerms) -> None:  # noqa: ARG002 - as above
        self.sent.append("cancel")
