"""The escrow as the provider sees it, without a chain: the same pure states, a clock that tests move, failing verbs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.errors import UndecidedError
from verifier.payment.states import JobState, Verb, advance
from verifier.statement.eip712 import Domain, escrow_domain
from verifier.statement.scalars import Address, Bytes32

if TYPE_CHECKING:
    from verifier.circuit import Circuit
    from verifier.statement.evidence import ChainEvidence
    from verifier.statement.terms import JobTerms, SignedRelease

ESCROW = Address(b"\xe5" * 20)
TOKEN = Address(b"\x70" * 20)
VERIFIER = Address(b"\x7e" * 20)


@dataclass
class SimulatedEscrow:
    """Set `time`; `down` makes every verb fail as a silent node does; `calls` lists the verbs that were mined;
    `wallets` are payers that are contracts."""

    time: int
    domain: Domain = field(default_factory=lambda: escrow_domain(31337, ESCROW))
    token: Address = TOKEN
    states: dict[Bytes32, JobState] = field(default_factory=dict)
    proofs: set[Bytes32] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    down: bool = False
    verifier_good: bool = True
    deployed: bool = True
    wallets: dict[Address, bytes] = field(default_factory=dict)

    def check(self) -> None:
        if self.down:
            raise UndecidedError("E-rpc-unreachable", "the node is silent")

    def now(self) -> int:
        return self.time

    def state(self, job_id: Bytes32) -> JobState:
        return self.states.get(job_id, JobState.NONE)

    def closed_by_proof(self, job_id: Bytes32) -> bool:
        return job_id in self.proofs

    def evidence(self, job_id: Bytes32) -> dict[str, ChainEvidence]:  # noqa: ARG002 - a simulator has no blocks
        self.check()
        return {}

    def verifier_address(self, circuit: Circuit) -> Address | None:  # noqa: ARG002 - the port's signature
        return VERIFIER if self.deployed else None

    def verifier_accepts(self, verifier: Address, calldata: bytes, *, gas_cap: int) -> bool:  # noqa: ARG002 - the port's signature
        return self.verifier_good

    def wallet_signed(self, wallet: Address, digest: Bytes32, signature: bytes) -> bool:
        """A wallet takes the one signature that it is set to, over any digest."""
        self.check()
        return len(digest) == 32 and self.wallets.get(wallet) == bytes(signature)

    def fund(self, terms: JobTerms) -> None:
        self._move(terms, Verb.FUND)

    def release(self, terms: JobTerms, release: SignedRelease) -> None:  # noqa: ARG002 - the port's signature
        self._move(terms, Verb.RELEASE)

    def release_by_proof(self, terms: JobTerms, calldata: bytes) -> None:  # noqa: ARG002 - the port's signature
        self._move(terms, Verb.RELEASE)
        self.proofs.add(terms.job_id(self.domain))

    def decline(self, terms: JobTerms) -> None:
        self._move(terms, Verb.DECLINE)

    def _move(self, terms: JobTerms, verb: Verb) -> None:
        self.check()
        job_id = terms.job_id(self.domain)
        self.states[job_id] = advance(
            self.state(job_id), verb, timestamp=self.time, fund_by=terms.fund_by, deadline=terms.deadline
        )
        self.calls.append(verb.value)
