"""What the service needs from outside: a chain with an escrow, and a witness of a circuit. Shapes only, no code.

The real ones are wired in `workers.wiring`; tests put simulators in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from verifier.circuit import Circuit
    from verifier.payment.states import JobState as ChainState
    from verifier.statement.eip712 import Domain
    from verifier.statement.evidence import ChainEvidence
    from verifier.statement.scalars import Address, Bytes32, Signature, TensorInt, WalletSignature
    from verifier.statement.terms import JobTerms, SignedRelease
    from workers.store import Message


class EscrowClient(Protocol):
    """One escrow on one chain, seen and used by the provider.

    The verbs return once their transaction is mined, or raise OpgateError; each may be called again at any time: a job
    that somebody else closed in the meantime is success, which the caller sees by `state`.
    """

    @property
    def domain(self) -> Domain:
        """The escrow's EIP-712 domain."""

    token: Address

    def check(self) -> None:
        """E-… where the address does not hold the escrow's known code, or another token than expected."""

    def now(self) -> int:
        """The time of the newest block, Unix seconds."""

    def state(self, job_id: Bytes32) -> ChainState:
        """Where the job stands."""

    def closed_by_proof(self, job_id: Bytes32) -> bool:
        """Of a RELEASED job: whether a proof closed it, not a signature."""

    def evidence(self, job_id: Bytes32) -> dict[str, ChainEvidence]:
        """What shows how a closed job was funded and closed, by role: ``evidence`` and ``evidence.funded``."""

    def verifier_address(self, circuit: Circuit) -> Address | None:
        """An address of this chain that holds the circuit's code, compared byte for byte; None where none is known."""

    def verifier_accepts(self, verifier: Address, calldata: bytes, *, gas_cap: int) -> bool:
        """What the deployed verifier says of a proof under the rule's gas cap, without a transaction."""

    def wallet_signed(self, wallet: Address, digest: Bytes32, signature: WalletSignature) -> bool:
        """Whether a payer that is a contract says by ERC-1271 that it signed a digest; False where it is none."""

    def release(self, terms: JobTerms, release: SignedRelease) -> object:
        """Close by the payer's signature."""

    def release_by_proof(self, terms: JobTerms, calldata: bytes) -> object:
        """Close by the proof; `calldata` is the verifier's whole one."""

    def decline(self, terms: JobTerms) -> object:
        """Give the money back at once."""


class Signer(Protocol):
    """The provider's hot key, wherever it is kept."""

    address: Address

    def sign_digest(self, digest: Bytes32) -> Signature:
        """Sign 32 bytes that this provider computed."""


class StoredProof(Protocol):
    """A proof of each circuit that is known to be good."""

    def calldata(self, circuit: Circuit) -> bytes:
        """The verifier's whole calldata of such a proof; OpgateError where none can be had."""


class Broker(Protocol):
    """Where messages go to the workers. It may lose, repeat and hold back any of them."""

    def send(self, message: Message) -> None:
        """Hand over a message; W-broker where that fails, and the message stays owed."""

    def send_canary(self, *, expires: float) -> None:
        """Send a task that only notes that a worker took it; it is dropped where none does in so many seconds."""

    def depth(self) -> int:
        """How many messages no worker has taken yet; W-broker where the broker does not answer."""


class WitnessRunner(Protocol):
    """Runs a circuit's witness, without a proof, in a child process."""

    def check(self, circuit: Circuit, inputs: tuple[tuple[TensorInt, ...], ...], job_id: Bytes32) -> None:
        """C-… where the circuit cannot take the input, or a lookup would leave its table so that proving never ends."""
