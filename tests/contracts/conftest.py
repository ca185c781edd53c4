"""One escrow, one honest token and five parties on an in-memory EVM; every test starts from the same state.

Digests are made by eth-account, so that the contract is held against an implementation that is not ours. Calls go
through `World.send`, which returns what a client sees: the reason, the events and the gas of the execution.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boa
import eth_abi
import pytest
from Crypto.Hash import keccak
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from vyper.compiler import compile_code

from tests.contracts.zoo import permit2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eth_account.signers.local import LocalAccount

CONTRACTS = Path(__file__).parents[2] / "verifier" / "payment"
ZOO = Path(__file__).parent / "zoo"
NOW = 1_800_000_000
AMOUNT = 3 * 10**18
BIG = 2**256 - 1
NO_REASON = ""
PARTIES = ("payer", "provider", "payee", "stranger", "owner")

RULE_FIELDS = [
    ("verifier", "address"),
    ("code_hash", "bytes32"),
    ("n_instances", "uint256"),
    ("proof_len", "uint256"),
    ("input_offset", "uint256"),
    ("input_len", "uint256"),
    ("job_offset", "uint256"),
    ("gas_cap", "uint256"),
]
TERMS_FIELDS = [
    ("payer", "address"),
    ("provider", "address"),
    ("payee", "address"),
    ("token", "address"),
    ("amount", "uint256"),
    ("circuit_id", "bytes32"),
    ("rule", "ProofRule"),
    ("input_commitment", "bytes32"),
    ("fund_by", "uint256"),
    ("deadline", "uint256"),
    ("salt", "bytes32"),
]
ACCEPTANCE_FIELDS = [("job_id", "bytes32")]
RELEASE_FIELDS = [("job_id", "bytes32"), ("instances_hash", "bytes32")]
PERMIT2_FIELDS = [
    ("permitted", "TokenPermissions"),
    ("spender", "address"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
    ("witness", "JobTerms"),
]
PERMIT_FIELDS = [
    ("owner", "address"),
    ("spender", "address"),
    ("value", "uint256"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
]

# The zoo of verifiers, as bare code. An honest one answers with one word that is 1.
VERIFIERS = {
    "accept": "60015f5260205ff3",
    "reject": "5f5f5260205ff3",
    "two": "60025f5260205ff3",
    "31-bytes": "6101005f52601f5ff3",
    "nothing": "5f5ff3",
    "64-bytes": "60015f52600160205260405ff3",
    "33-bytes": "60015f5260215ff3",
    "1-MiB": "60015f52621000005ff3",
    "high-bit": "600160ff1b6001175f5260205ff3",
    "reverts-with-1": "60015f5260205ffd",
    "invalid": "fe0000",
    "burns-gas": "5b5f56",
    "writes": "60015f5560015f5260205ff3",
    "logs": "5f5fa060015f5260205ff3",
    "calls-with-value": "5f5f5f5f600133612710f150" + "60015f5260205ff3",
    # Accepts the proof whose first word is 7, which stands at byte 100 of the calldata.
    "seven": "6064356007145f5260205ff3",
    # Accepts if it was given at least 700,000 gas, less the dozen until it looks.
    "wants-gas": "620aae505a115f5260205ff3",
}


def keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()


@dataclasses.dataclass(frozen=True)
class Sent:
    """What one call did: `reason` is None where it succeeded, "" where it reverted without a readable reason."""

    reason: str | None
    events: list[tuple[str, dict[str, Any]]]
    gas: int
    output: bytes = b""

    @property
    def skipped(self) -> list[tuple[bytes, str]]:
        """The items of a batch that were not done: job_id and reason, in order."""
        return [(e["job_id"], revert_reason(e["reason"])) for name, e in self.events if name == "Skipped"]

    @property
    def done(self) -> list[bool]:
        """What a batch answered, an item each."""
        return list(eth_abi.decode(["bool[]"], self.output)[0])


class World:
    """The contracts, the parties and how they sign and call."""

    def __init__(self, escrow: Any, token: Any, parties: dict[str, LocalAccount]) -> None:
        self.escrow = escrow
        self.token = token
        self.keys = parties
        self.payer, self.provider, self.payee, self.stranger, self.owner = (
            parties[name].address for name in ("payer", "provider", "payee", "stranger", "owner")
        )
        self._verbs: dict[tuple[str, str], tuple[bytes, list[str]]] = {}
        self._events = {
            keccak256(f"{entry['name']}({','.join(abi_type(i) for i in entry['inputs'])})".encode()): entry
            for contract in (escrow, token)
            for entry in contract.abi
            if entry["type"] == "event"
        }

    # --- the chain

    @property
    def chain_id(self) -> int:
        return int(boa.env.evm.patch.chain_id)

    @property
    def now(self) -> int:
        return int(boa.env.evm.patch.timestamp)

    def at(self, timestamp: int) -> None:
        boa.env.evm.patch.timestamp = timestamp

    def code_at(self, address: str) -> bytes:
        return bytes(boa.env.get_code(boa.util.abi.Address(address)))

    def set_code(self, address: str, code: bytes) -> None:
        boa.env.set_code(boa.util.abi.Address(address), code)

    def read(self, contract: Any, view: str, *arguments: Any) -> Any:
        """What a view of a contract answers."""
        call = self.payload(view, *arguments, to=contract)
        answer = boa.env.execute_code(to_address=contract.address, data=call, is_modifying=False).output
        return self.decoded(contract, view, answer)

    @staticmethod
    def decoded(contract: Any, view: str, answer: bytes) -> Any:
        """The one value that a view answered."""
        entry = next(e for e in contract.abi if e.get("name") == view and e["type"] == "function")
        return eth_abi.decode([abi_type(item) for item in entry["outputs"]], answer)[0]

    # --- state

    def state(self, terms: dict[str, Any]) -> int:
        return int(self.read(self.escrow, "state", self.job_id(terms)))

    def balance(self, account: str) -> int:
        return int(self.read(self.token, "balanceOf", account))

    # --- terms and signatures

    def verifier(self, kind: str) -> str:
        """The address of a verifier of the zoo."""
        return self.code(bytes.fromhex(VERIFIERS[kind]))

    def code(self, code: bytes) -> str:
        """An address with this code, the same for the same code."""
        address = str(boa.util.abi.Address("0x" + keccak256(b"zoo" + code)[12:].hex()))
        self.set_code(address, code)
        return address

    def terms(self, *, verifier: str = "accept", rule: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """Good terms: 18 instances (4 inputs, 11 limbs, 3 outputs), one hour to fund and two to prove."""
        address = (rule or {}).get("verifier") or self.verifier(verifier)
        good_rule = {
            "verifier": address,
            "code_hash": keccak256(self.code_at(address)),
            "n_instances": 18,
            "proof_len": 64,
            "input_offset": 0,
            "input_len": 4,
            "job_offset": 4,
            "gas_cap": 700_000,
        } | (rule or {})
        return {
            "payer": self.payer,
            "provider": self.provider,
            "payee": self.payee,
            "token": str(self.token.address),
            "amount": AMOUNT,
            "circuit_id": b"\xc1" * 32,
            "rule": good_rule,
            "input_commitment": keccak256(b"".join(word(value) for value in self.inputs(good_rule))),
            "fund_by": self.now + 3600,
            "deadline": self.now + 7200,
            "salt": b"\x5a" * 32,
        } | changes

    @staticmethod
    def inputs(rule: dict[str, Any]) -> list[int]:
        return [1000 + i for i in range(rule["input_len"] if rule["input_len"] <= 1024 else 0)]

    def typed(self, name: str, message: dict[str, Any], /, **domain: Any) -> SignableMessage:
        types = {"Acceptance": ACCEPTANCE_FIELDS, "Release": RELEASE_FIELDS, "JobTerms": TERMS_FIELDS}
        used = {name: types[name]} | ({"ProofRule": RULE_FIELDS} if name == "JobTerms" else {})
        return encode_typed_data(
            domain_data={
                "name": "opgate",
                "version": "1",
                "chainId": self.chain_id,
                "verifyingContract": self.escrow.address,
            }
            | domain,
            message_types={key: [{"name": n, "type": t} for n, t in fields] for key, fields in used.items()},
            message_data=message,
        )

    def escrow_digest(self, name: str, message: dict[str, Any]) -> bytes:
        return digest(self.typed(name, message))

    def job_id(self, terms: dict[str, Any], **domain: Any) -> bytes:
        return digest(self.typed("JobTerms", terms, **domain))

    def sign(self, by: str, name: str, message: dict[str, Any], /, **domain: Any) -> bytes:
        return self.signature(by, self.typed(name, message, **domain))

    def signature(self, by: str, message: SignableMessage) -> bytes:
        return bytes(Account.sign_message(message, self.keys[by].key).signature)

    def acceptance(self, terms: dict[str, Any], by: str = "provider", **domain: Any) -> bytes:
        return self.sign(by, "Acceptance", {"job_id": self.job_id(terms, **domain)}, **domain)

    def consent(self, terms: dict[str, Any], by: str = "payer", **domain: Any) -> bytes:
        return self.sign(by, "JobTerms", terms, **domain)

    def release_sig(self, terms: dict[str, Any], instances_hash: bytes, by: str = "payer", **domain: Any) -> bytes:
        message = {"job_id": self.job_id(terms, **domain), "instances_hash": instances_hash}
        return self.sign(by, "Release", message, **domain)

    def permit(self, amount: int = AMOUNT, by: str = "payer", **changes: Any) -> tuple[int, int, bytes, bytes]:
        """A permit to the escrow as (deadline, v, r, s)."""
        message = {
            "owner": self.keys[by].address,
            "spender": self.escrow.address,
            "value": amount,
            "nonce": self.read(self.token, "nonces", self.keys[by].address),
            "deadline": self.now + 600,
        } | changes
        signed = self.keys[by].sign_typed_data(
            domain_data={
                "name": "OpenGradient",
                "version": "1",
                "chainId": self.chain_id,
                "verifyingContract": self.token.address,
            },
            message_types={"Permit": [{"name": n, "type": t} for n, t in PERMIT_FIELDS]},
            message_data=message,
        )
        return message["deadline"], signed.v, word(signed.r), word(signed.s)

    def permit2(self, terms: dict[str, Any], nonce: int = 0, by: str = "payer", **changes: Any) -> bytes:
        """The payer's signature of Permit2's transfer with the terms as witness, as a wallet would make it."""
        return self.signature(by, self.typed_permit2(terms, nonce, **changes))

    def typed_permit2(self, terms: dict[str, Any], nonce: int = 0, **changes: Any) -> SignableMessage:
        token = {"token": str(self.token.address), "amount": terms["amount"]}
        message = {
            "permitted": token,
            "spender": self.escrow.address,
            "nonce": nonce,
            "deadline": terms["fund_by"],
            "witness": terms,
        } | {key: value for key, value in changes.items() if key != "domain"}
        domain = {"name": "Permit2", "chainId": self.chain_id, "verifyingContract": permit2.ADDRESS}
        return encode_typed_data(
            domain_data=domain | changes.get("domain", {}),
            message_types={
                name: [{"name": n, "type": t} for n, t in fields]
                for name, fields in (
                    ("PermitWitnessTransferFrom", PERMIT2_FIELDS),
                    ("TokenPermissions", [("token", "address"), ("amount", "uint256")]),
                    ("JobTerms", TERMS_FIELDS),
                    ("ProofRule", RULE_FIELDS),
                )
            },
            message_data=message,
        )

    # --- the verifier's calldata

    def instances(self, terms: dict[str, Any]) -> list[int]:
        rule = terms["rule"]
        words = [7_000 + i for i in range(rule["n_instances"])]
        words[rule["input_offset"] : rule["input_offset"] + rule["input_len"]] = self.inputs(rule)
        words[rule["job_offset"] : rule["job_offset"] + 11] = limbs(self.job_id(terms))
        return words

    def call(self, terms: dict[str, Any], instances: list[int] | None = None, proof: bytes | None = None) -> bytes:
        """verifyProof(bytes,uint256[]) as every ABI encoder writes it."""
        words = self.instances(terms) if instances is None else instances
        opening = word(7) + bytes(terms["rule"]["proof_len"] - 32) if proof is None else proof
        return bytes.fromhex("1e8e1e13") + eth_abi.encode(["bytes", "uint256[]"], [opening, words])

    # --- calls

    def send(self, verb: str, *arguments: Any, by: str | None = None, gas: int = 20_000_000, to: Any = None) -> Sent:
        """Call a verb of the escrow (or of the contract `to`) as `by`, the stranger unless told."""
        contract = self.escrow if to is None else to
        return self.send_raw(contract, self.payload(verb, *arguments, to=to), by=by, gas=gas)

    def payload(self, verb: str, *arguments: Any, to: Any = None) -> bytes:
        """The calldata of a verb; the lengths of its bytes are not checked, as a hostile caller's are not."""
        selector, kinds = self.kinds(verb, to)
        return selector + eth_abi.encode(kinds, [plain(argument) for argument in arguments])

    def kinds(self, verb: str, to: Any = None) -> tuple[bytes, list[str]]:
        """The selector of a verb and the types of its arguments."""
        contract = self.escrow if to is None else to
        if (contract.address, verb) not in self._verbs:
            entry = next(e for e in contract.abi if e.get("name") == verb and e["type"] == "function")
            kinds = [abi_type(item) for item in entry["inputs"]]
            self._verbs[contract.address, verb] = keccak256(f"{verb}({','.join(kinds)})".encode())[:4], kinds
        return self._verbs[contract.address, verb]

    def send_raw(self, contract: Any, payload: bytes, by: str | None = None, gas: int = 20_000_000) -> Sent:
        computation = boa.env.execute_code(
            to_address=contract.address, sender=by or self.stranger, data=payload, gas=gas, contract=contract
        )
        if computation.is_error:
            return Sent(revert_reason(computation.output), [], computation.get_gas_used(), computation.output)
        events = [self.event(topics, body) for _, topics, body in computation.get_log_entries()]
        known = [event for event in events if event is not None]
        return Sent(None, known, computation.get_gas_used(), computation.output)

    def fund(self, terms: dict[str, Any], by: str | None = None, **signatures: bytes) -> Sent:
        """Fund by allowance, as the payer unless told; both signatures are right unless given."""
        accepted = signatures.get("acceptance", self.acceptance(terms))
        consent = signatures.get("payer_sig", b"")
        return self.send("fund", terms, accepted, consent, by=by or terms["payer"])

    def fund_many(self, jobs: list[tuple[dict[str, Any], bytes, bytes]], **how: Any) -> Sent:
        """Fund jobs, each given with its acceptance and the payer's signature."""
        items = [(plain(terms), len(consent)) for terms, _, consent in jobs]
        signatures = b"".join(accepted + consent for _, accepted, consent in jobs)
        return self.send("fund_many", items, signatures, **how)

    def release_many(self, jobs: list[tuple[dict[str, Any], bytes, bytes]], **how: Any) -> Sent:
        """Release jobs, each given with its instances_hash and the payer's signature."""
        items = [(plain(terms), instances_hash, len(signature)) for terms, instances_hash, signature in jobs]
        return self.send("release_many", items, b"".join(signature for _, _, signature in jobs), **how)

    def funded(self, **changes: Any) -> dict[str, Any]:
        """Terms of a job that is funded."""
        terms = self.terms(**changes)
        assert self.fund(terms).reason is None
        return terms

    def event(self, topics: tuple[int, ...], body: bytes) -> tuple[str, dict[str, Any]] | None:
        entry = self._events.get(word(topics[0]))
        if entry is None:
            return None
        shown = [i for i in entry["inputs"] if i["indexed"]]
        logged = [i for i in entry["inputs"] if not i["indexed"]]
        found = {
            i["name"]: eth_abi.decode([i["type"]], word(topic))[0] for i, topic in zip(shown, topics[1:], strict=True)
        }
        values = eth_abi.decode([abi_type(i) for i in logged], body)
        return entry["name"], found | {i["name"]: value for i, value in zip(logged, values, strict=True)}


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def limbs(job_id: bytes) -> list[int]:
    return [int.from_bytes(job_id, "big") >> (24 * i) & 0xFFFFFF for i in range(11)]


def digest(message: SignableMessage) -> bytes:
    return keccak256(b"\x19" + message.version + message.header + message.body)


def abi_type(item: dict[str, Any]) -> str:
    if not item["type"].startswith("tuple"):
        return str(item["type"])
    return f"({','.join(abi_type(inner) for inner in item['components'])}){item['type'].removeprefix('tuple')}"


def plain(argument: Any) -> Any:
    return tuple(plain(value) for value in argument.values()) if isinstance(argument, dict) else argument


def revert_reason(output: bytes) -> str:
    if output[:4] != bytes.fromhex("08c379a0"):
        return NO_REASON
    return str(eth_abi.decode(["string"], output[4:])[0])


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Any]:
    # Without a cache folder titanoboa 0.2.8 misses an attribute; its default one lies in the home folder.
    boa.interpret.set_cache_dir(str(tmp_path_factory.mktemp("titanoboa")))
    sources: dict[Path, Any] = {}

    def deployer(path: Path) -> Any:
        if path not in sources:
            sources[path] = boa.load_partial(str(path))
        return sources[path]

    return deployer


@pytest.fixture(scope="session")
def parties() -> dict[str, LocalAccount]:
    return {name: Account.from_key(keccak256(name.encode())) for name in PARTIES}


@pytest.fixture(scope="session")
def stage(compiled: Callable[[Path], Any], parties: dict[str, LocalAccount]) -> World:
    boa.env.evm.patch.timestamp = NOW
    with boa.env.prank(parties["owner"].address):
        token = compiled(CONTRACTS / "opg_test_token.vy").deploy()
        escrow = compiled(CONTRACTS / "escrow.vy").deploy(token.address)
        token.transfer(parties["payer"].address, 1000 * AMOUNT)
    with boa.env.prank(parties["payer"].address):
        token.approve(escrow.address, 100 * AMOUNT)
    return World(escrow, token, parties)


@pytest.fixture
def world(stage: World) -> Iterator[World]:
    with boa.env.anchor():
        yield stage


@pytest.fixture
def hostile(world: World, compiled: Callable[[Path], Any]) -> World:
    """The same world on a token of the zoo, which is honest until `misbehave` is called."""
    with boa.env.prank(world.owner):
        token = compiled(ZOO / "hostile_token.vy").deploy()
        escrow = compiled(CONTRACTS / "escrow.vy").deploy(token.address)
    with boa.env.prank(world.payer):
        token.approve(escrow.address, 100 * AMOUNT)
    other = World(escrow, token, world.keys)
    assert other.send("transfer", world.payer, 1000 * AMOUNT, to=token, by=world.owner).reason is None
    return other


@pytest.fixture(scope="session")
def zoo() -> dict[str, tuple[bytes, list[dict[str, Any]]]]:
    """Creation code and ABI of the hostile token and of the wallet, compiled without titanoboa."""
    made = {}
    for name in ("hostile_token", "wallet"):
        built = compile_code((ZOO / f"{name}.vy").read_text(), output_formats=("bytecode", "abi"))
        made[name] = (bytes.fromhex(built["bytecode"][2:]), built["abi"])
    return made


@pytest.fixture
def base(world: World) -> World:
    """The world on Base's chain id, with Permit2 in its place and the payer's allowance for it, not for the escrow."""
    boa.env.evm.patch.chain_id = 8453
    world.set_code(permit2.ADDRESS, permit2.runtime(8453))
    for spender, amount in ((permit2.ADDRESS, BIG), (world.escrow.address, 0)):
        assert world.send("approve", spender, amount, to=world.token, by=world.payer).reason is None
    return world


@pytest.fixture
def wallet(world: World, compiled: Callable[[Path], Any]) -> Any:
    """A wallet contract of the zoo with tokens and an allowance for the escrow."""
    contract = compiled(ZOO / "wallet.vy").deploy()
    with boa.env.prank(world.payer):
        world.token.transfer(contract.address, 10 * AMOUNT)
    with boa.env.prank(contract.address):
        world.token.approve(world.escrow.address, 10 * AMOUNT)
    return contract
