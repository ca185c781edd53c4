"""The escrow of one chain as its users see it: states, events, and each verb sent through an outbox.

The verbs may be called again at any time, also after a crash: what a job already is counts as done, whoever did it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from verifier.chain_evidence import TOPICS, EventName
from verifier.errors import EscrowError, UndecidedError
from verifier.payment import artifacts
from verifier.payment.abi import encode_arguments, encode_call
from verifier.payment.chain import Chain, ChainLog, Mined
from verifier.payment.gate import Funding
from verifier.payment.outbox import Call, Outbox
from verifier.payment.states import JobState
from verifier.statement.eip712 import Domain, escrow_domain
from verifier.statement.scalars import Address, Bytes32, Count, Signature, Timestamp, Uint256, WalletSignature
from verifier.statement.terms import JobTerms, ProofRule, SignedRelease

if TYPE_CHECKING:
    from collections.abc import Sequence

RULE_TYPE = "(address,bytes32,uint256,uint256,uint256,uint256,uint256,uint256)"
TERMS_TYPE = f"(address,address,address,address,uint256,bytes32,{RULE_TYPE},bytes32,uint256,uint256,bytes32)"
PROOF_GAS = 200_000
"""Gas beside the rule's gas_cap and the calldata that `release_by_proof` needs (measured; `escrow.vy`)."""
TRANSACTION_GAS_LIMIT = 16_777_216
"""No transaction may have more (EIP-7825)."""
WALLET_GAS = 500_000
"""What the escrow gives a wallet contract to check a signature (`escrow.vy`)."""
DEVELOPMENT_CHAINS = (1337, 31337)
"""Where the test token may be deployed: the ids of geth --dev and Ganache; of anvil, Hardhat and `opgate dev`."""
_MAGIC = bytes.fromhex("1626ba7e") + bytes(28)
_FUNDED_BY = ("fund", "fund_with_permit")
_CLOSED = {"release": JobState.RELEASED, "reclaim": JobState.RECLAIMED, "decline": JobState.DECLINED}


@dataclass(frozen=True)
class EscrowEvent:
    """One event of the escrow; Funded has `terms`, Released `instances_hash`, InstancesShown `instances`."""

    name: EventName
    job_id: Bytes32
    block_number: int
    block_hash: Bytes32
    transaction_hash: Bytes32
    terms: JobTerms | None = None
    instances_hash: Bytes32 | None = None
    instances: bytes | None = None


class Escrow:
    """One escrow contract. Without an outbox it only reads."""

    def __init__(
        self, chain: Chain, address: Address, token: Address, outbox: Outbox | None = None, *, since_block: int = 0
    ) -> None:
        """Take the parts; `check` says whether the address holds the escrow that we know.

        `since_block` is where events are searched from: on a long chain, the block that deployed the escrow.
        """
        self._chain, self.address, self.token, self._outbox = chain, address, token, outbox
        self._since_block = since_block

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of what is signed for this escrow."""
        return escrow_domain(self._chain.chain_id, self.address)

    def check(self) -> None:
        """That the nodes are alive and the address holds exactly the escrow code that we ship, for this token.

        Raises:
            EscrowError: E-escrow-code, E-chain-id.
            UndecidedError: E-rpc-stale, E-rpc-disagree, E-rpc-….
        """
        self._chain.check_alive()
        expected, found = artifacts.escrow_code_hash(self.token), self._chain.code_hash(self.address)
        if found != expected:
            raise EscrowError(
                "E-escrow-code",
                "this is not the escrow that we know",
                where=f"{self.address} on chain {self._chain.chain_id}",
                expected=f"code hash {expected}, of the escrow for token {self.token}",
                found=str(found or "no code"),
                do="Send no money there. Compare the address with one that you trust.",
            )

    # --- reading

    def now(self) -> int:
        """The time of the newest block, Unix seconds."""
        return self._chain.block_time()

    def state(self, job_id: Bytes32) -> JobState:
        """Where a job stands."""
        word = self._chain.word(self.address, "state(bytes32)", job_id)
        try:
            return JobState(word)
        except ValueError as error:
            raise UndecidedError("E-escrow-state", "the escrow answers no known state", found=str(word)[:80]) from error

    def funding(self, escrow: Address, job_id: Bytes32) -> Funding:
        """What the payer's gate asks: state, block time, and how many blocks stand on top of the funding."""
        if escrow != self.address:
            raise EscrowError("E-escrow-code", "not this escrow", where=str(escrow), expected=str(self.address))
        self.check()
        state, head = self.state(job_id), self._chain.head()
        if state is not JobState.FUNDED:
            return Funding(state, head.timestamp, 0)
        funded = self.events(("Funded",), job_id=job_id, last=head.number)
        if not funded:
            raise UndecidedError("E-rpc-logs", "the node has no Funded event of a funded job", where=str(job_id))
        event = funded[-1]
        if not self._chain.is_canonical(event.block_number, event.block_hash):
            raise UndecidedError(
                "E-rpc-logs", "the node tells of a funding in a block that is not the chain's", where=str(job_id)
            )
        return Funding(state, head.timestamp, head.number - event.block_number)

    def events(
        self,
        names: Sequence[EventName] = ("Funded", "Released", "InstancesShown", "Reclaimed", "Declined", "Cancelled"),
        *,
        job_id: Bytes32 | None = None,
        first: int | None = None,
        last: int | None = None,
    ) -> tuple[EscrowEvent, ...]:
        """The events in blocks first (None: since_block) to last (None: the newest), of one job or of all, in order."""
        topics = [[TOPICS[name] for name in names], *([[job_id]] if job_id is not None else [])]
        end = self._chain.head().number if last is None else last
        start = self._since_block if first is None else first
        return tuple(_event(log) for log in self._chain.logs(self.address, topics, first=start, last=end))

    def closing(self, job_id: Bytes32) -> EscrowEvent | None:
        """The event that closed a job; None where it is not closed. Its transaction is what evidence is fetched for."""
        found = self.events(("Released", "Reclaimed", "Declined", "Cancelled"), job_id=job_id)
        return found[-1] if found else None

    def closed_by_proof(self, job_id: Bytes32) -> bool:
        """Of a RELEASED job: whether a proof closed it, not a signature."""
        return bool(self.events(("InstancesShown",), job_id=job_id))

    def verifier_accepts(self, verifier: Address, calldata: bytes, *, gas_cap: int) -> bool:
        """What a deployed verifier answers to its calldata, given what a transaction costs beside the gas cap."""
        gas = min(gas_cap + intrinsic_gas(calldata), TRANSACTION_GAS_LIMIT)
        try:
            return self._chain.call(verifier, calldata, gas=gas) == (1).to_bytes(32)
        except EscrowError:
            return False

    def wallet_signed(self, wallet: Address, digest: Bytes32, signature: WalletSignature) -> bool:
        """Whether a contract says by ERC-1271, under the escrow's own gas cap, that it signed a digest.

        False for an account without code. What a wallet says now it may not say when the release is mined: the proof
        closes the job all the same.
        """
        if not self._chain.code(wallet):
            return False
        call = encode_call("isValidSignature(bytes32,bytes)", digest, signature)
        try:
            answer = self._chain.call(wallet, call, sender=self.address, gas=WALLET_GAS + intrinsic_gas(call))
        except EscrowError:
            return False
        return answer[:32] == _MAGIC

    def holds_code(self, address: Address, code: bytes) -> bool:
        """Whether an address of this chain holds exactly this code."""
        return bool(code) and self._chain.code(address) == code

    # --- the verbs

    def look_again(self) -> None:
        """Send again what of ours a node or a reorganisation took away; nothing where this only reads."""
        if self._outbox is not None:
            self._outbox.look_again()

    def approve(self, amount: int) -> Mined | None:
        """Let the escrow take an amount from the outbox's account; None where it may take that much already."""
        outbox = self._sender()
        if self._chain.allowance(self.token, outbox.sender, self.address) >= amount:
            return None
        call = encode_call("approve(address,uint256)", self.address, amount)
        # An allowance is used up by funding, so the next one is another purpose: the account's nonce tells them apart.
        purpose = f"approve:{self.address}:{amount}:{self._chain.nonce(outbox.sender)}"
        return outbox.send(purpose, Call(to=self.token, data=call))

    def fund(self, terms: JobTerms, *, acceptance: Signature, payer_signature: bytes = b"") -> Mined | None:
        """Lock the amount, by an allowance. None where the job was funded or closed already."""
        arguments = (encode_terms(terms), bytes(acceptance), payer_signature)
        return self._send("fund", terms, f"({TERMS_TYPE},bytes,bytes)", arguments)

    def fund_with_permit(
        self,
        terms: JobTerms,
        *,
        acceptance: Signature,
        permit_deadline: int,
        permit: Signature,
        payer_signature: bytes = b"",
    ) -> Mined | None:
        """Lock the amount, by a permit of exactly the amount (`Chain.permit_digest`)."""
        arguments = (
            encode_terms(terms),
            bytes(acceptance),
            payer_signature,
            permit_deadline,
            permit[64],
            bytes(permit[:32]),
            bytes(permit[32:64]),
        )
        kinds = f"({TERMS_TYPE},bytes,bytes,uint256,uint8,bytes32,bytes32)"
        return self._send("fund_with_permit", terms, kinds, arguments)

    def release(self, terms: JobTerms, release: SignedRelease) -> Mined | None:
        """Close by the payer's signature; None where the job is RELEASED already."""
        arguments = (encode_terms(terms), bytes(release.release.instances_hash), bytes(release.signature))
        return self._send("release", terms, f"({TERMS_TYPE},bytes32,bytes)", arguments)

    def release_by_proof(self, terms: JobTerms, calldata: bytes) -> Mined | None:
        """Close by the proof; `calldata` is the verifier's whole one. None where the job is RELEASED already.

        The gas is explicit: an estimate could give the verifier less than its cap, and a good proof would look bad.
        """
        kinds, cap = f"({TERMS_TYPE},bytes)", terms.rule.gas_cap
        arguments = (encode_terms(terms), calldata)
        data = _encode("release_by_proof", kinds, arguments)
        gas = min(intrinsic_gas(data) + cap + cap // 63 + PROOF_GAS, TRANSACTION_GAS_LIMIT)
        return self._send("release_by_proof", terms, kinds, arguments, gas=gas)

    def decline(self, terms: JobTerms) -> Mined | None:
        """The provider gives the money back at once; None where the job is DECLINED already."""
        return self._send("decline", terms, f"({TERMS_TYPE})", (encode_terms(terms),))

    def reclaim(self, terms: JobTerms) -> Mined | None:
        """From the deadline on, the payer gets the money back; None where the job is RECLAIMED already."""
        return self._send("reclaim", terms, f"({TERMS_TYPE})", (encode_terms(terms),))

    def cancel(self, terms: JobTerms) -> Mined | None:
        """Make terms unfundable before they are funded; None where they are CANCELLED already."""
        return self._send("cancel", terms, f"({TERMS_TYPE})", (encode_terms(terms),))

    def _sender(self) -> Outbox:
        if self._outbox is None:
            raise EscrowError("E-no-key", "this escrow was opened for reading", do="Give an outbox with a key.")
        return self._outbox

    def _send(
        self, verb: str, terms: JobTerms, kinds: str, arguments: tuple[Any, ...], *, gas: int | None = None
    ) -> Mined | None:
        """Send a verb once for a job. A job that is where the verb leads is success, whoever brought it there."""
        outbox, job_id = self._sender(), terms.job_id(self.domain)
        self.check()
        if self._reached(verb, self.state(job_id)):
            return None
        try:
            call = Call(to=self.address, data=_encode(verb, kinds, arguments), gas=gas)
            return outbox.send(f"{job_id}:{verb}", call)
        except EscrowError:
            # Two parties may close one job: the loser's transaction reverts, and the job is closed all the same.
            if self._reached(verb, self.state(job_id)):
                return None
            raise

    def _reached(self, verb: str, state: JobState) -> bool:
        if verb in _FUNDED_BY:
            return state in (JobState.FUNDED, JobState.RELEASED, JobState.RECLAIMED, JobState.DECLINED)
        if verb == "cancel":
            return state is JobState.CANCELLED
        return state is _CLOSED["release" if verb == "release_by_proof" else verb]


def deploy_escrow(outbox: Outbox, token: Address) -> Mined:
    """Deploy the escrow for a token, once for each token and key."""
    data = bytes(artifacts.load("escrow").bytecode) + encode_arguments(["address"], [token])
    return outbox.send(f"deploy:escrow:{token}", Call(to=None, data=data))


def deploy_test_token(outbox: Outbox) -> Mined:
    """Deploy the OPG test token, once for each key: its whole supply is the deployer's, and worth nothing.

    Raises:
        EscrowError: E-dev-chain where the chain is none of `DEVELOPMENT_CHAINS`: it could be taken for OPG there.
    """
    if outbox.chain_id not in DEVELOPMENT_CHAINS:
        raise EscrowError(
            "E-dev-chain",
            "the test token is for development chains only",
            where=f"chain {outbox.chain_id}",
            expected="chain id " + " or ".join(str(each) for each in DEVELOPMENT_CHAINS),
            do="Name the token that stands there.",
        )
    return outbox.send("deploy:opg_test_token", Call(to=None, data=bytes(artifacts.load("opg_test_token").bytecode)))


def deploy_code(outbox: Outbox, code: bytes, *, name: str) -> Mined:
    """Deploy exactly these runtime bytes, such as a circuit's verifier; `name` tells them apart in the outbox.

    The creation code is PUSH2 length, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY, RETURNDATASIZE, RETURN and the bytes.

    Raises:
        EscrowError: E-code-size where the code is empty or above the 24,576 bytes of EIP-170.
    """
    if not 0 < len(code) <= 24_576:
        raise EscrowError("E-code-size", "no chain takes this code", expected="1 to 24576 bytes", found=str(len(code)))
    head = b"\x61" + len(code).to_bytes(2) + bytes.fromhex("80600a3d393df3")
    return outbox.send(f"deploy:{name}", Call(to=None, data=head + code))


def encode_terms(terms: JobTerms) -> tuple[Any, ...]:
    """The terms as the ABI's tuple."""
    return tuple(_tuple(getattr(terms, name)) for name in JobTerms.__struct_fields__)


def intrinsic_gas(data: bytes) -> int:
    """What a call with this calldata costs before it runs, at least (EIP-2028 and the floor of EIP-7623)."""
    zeros = data.count(0)
    tokens = zeros + 4 * (len(data) - zeros)
    return 21_000 + 10 * tokens


def _tuple(value: object) -> Any:
    if isinstance(value, ProofRule):
        return tuple(_tuple(getattr(value, name)) for name in ProofRule.__struct_fields__)
    if isinstance(value, Address):
        return str(value)
    return bytes(value) if isinstance(value, bytes) else int(value)  # type: ignore[call-overload]  # ints otherwise


def _encode(verb: str, kinds: str, arguments: tuple[Any, ...]) -> bytes:
    return encode_call(f"{verb}{kinds}", *arguments)


def _event(log: ChainLog) -> EscrowEvent:
    """An event from its log; E-rpc-reply where it is none of the escrow's."""
    name = next((known for known, topic in TOPICS.items() if log.topics[:1] == (topic,)), None)
    if name is None or len(log.topics) < 2:
        raise UndecidedError("E-rpc-reply", "the node's log is no event of the escrow", where=str(log.transaction_hash))
    terms = instances_hash = instances = None
    try:
        if name == "Funded":
            terms = _terms(decode([TERMS_TYPE], log.data)[0])
        elif name == "Released":
            instances_hash = Bytes32(log.data)
        elif name == "InstancesShown":
            instances = bytes(decode(["bytes"], log.data)[0])
    except (DecodingError, ValueError, TypeError, OverflowError) as error:
        raise UndecidedError("E-rpc-reply", "the event cannot be read", where=name, found=str(error)[:100]) from error
    return EscrowEvent(
        name=name,
        job_id=log.topics[1],
        block_number=log.block_number,
        block_hash=log.block_hash,
        transaction_hash=log.transaction_hash,
        terms=terms,
        instances_hash=instances_hash,
        instances=instances,
    )


def _terms(fields: tuple[Any, ...]) -> JobTerms:
    values: dict[str, Any] = dict(zip(JobTerms.__struct_fields__, fields, strict=True))
    rule = dict(zip(ProofRule.__struct_fields__, values["rule"], strict=True))
    return JobTerms(
        payer=_address(values["payer"]),
        provider=_address(values["provider"]),
        payee=_address(values["payee"]),
        token=_address(values["token"]),
        amount=Uint256(values["amount"]),
        circuit_id=Bytes32(values["circuit_id"]),
        rule=ProofRule(
            verifier=_address(rule["verifier"]),
            code_hash=Bytes32(rule["code_hash"]),
            **{name: Count(rule[name]) for name in list(rule)[2:]},
        ),
        input_commitment=Bytes32(values["input_commitment"]),
        fund_by=Timestamp(values["fund_by"]),
        deadline=Timestamp(values["deadline"]),
        salt=Bytes32(values["salt"]),
    )


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text[2:]))
