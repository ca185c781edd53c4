"""The same world on revm (pyrevm), many times as fast as titanoboa, for the machine, which makes thousands of calls."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import eth_abi
import pyrevm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from eth_account.messages import SignableMessage

from tests.contracts.conftest import (
    AMOUNT,
    BIG,
    NOW,
    RULE_FIELDS,
    TERMS_FIELDS,
    Sent,
    World,
    digest,
    keccak256,
    plain,
    revert_reason,
    word,
)
from tests.contracts.zoo import permit2
from verifier.evm import recover
from verifier.payment import artifacts
from verifier.statement.scalars import Address, Bytes32, Signature

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

CHAIN = 8453
GAS = 16_000_000
STATE, BALANCE_OF = keccak256(b"state(bytes32)")[:4], keccak256(b"balanceOf(address)")[:4]
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of the group secp256k1 (SEC 2)."""
DETERMINISTIC = ec.ECDSA(Prehashed(SHA256()), deterministic_signing=True)
RULE = "(address,bytes32,uint256,uint256,uint256,uint256,uint256,uint256)"
TERMS = f"(address,address,address,address,uint256,bytes32,{RULE},bytes32,uint256,uint256,bytes32)"
QUICK = frozenset({"bytes", "bytes32", "address", "uint256", "uint8"})
PERMISSIONS_TYPE = "TokenPermissions(address token,uint256 amount)"
TOKEN_PERMISSIONS = keccak256(PERMISSIONS_TYPE.encode())
PERMIT2_TYPE = keccak256(
    (
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,"
        "JobTerms witness)"
        + "".join(
            f"{name}({','.join(f'{kind} {field}' for field, kind in fields)})"
            for name, fields in (("JobTerms", TERMS_FIELDS), ("ProofRule", RULE_FIELDS))
        )
        + PERMISSIONS_TYPE
    ).encode()
)
_TYPED: dict[Any, SignableMessage] = {}
Built = tuple[bytes, list[dict[str, Any]]]


def shipped(name: artifacts.ContractName) -> Built:
    """Creation code and ABI of a contract as this package ships it."""
    artifact = artifacts.load(name)
    return bytes(artifact.bytecode), artifact.abi


class Contract:
    """A contract as `World` knows it: where it stands and what it can be asked."""

    def __init__(self, address: str, abi: list[dict[str, Any]]) -> None:
        self.address, self.abi = address, abi


class RevmWorld(World):
    """A fresh chain with a token, an escrow for it, Permit2, and a payer that is a wallet contract."""

    def __init__(
        self,
        parties: dict[str, LocalAccount],
        *,
        token: Built,
        escrow: Built,
        wallet: Built,
        chain_id: int = CHAIN,
    ) -> None:
        self.timestamp, self._chain_id = NOW, chain_id
        self.codes: dict[str, bytes] = {}
        self.evm = pyrevm.EVM(pyrevm.Env(cfg=pyrevm.CfgEnv(chain_id=chain_id)), gas_limit=2**60, spec_id="PRAGUE")
        self.at(NOW)
        owner = parties["owner"].address
        self.wallet = Contract(self.evm.deploy(owner, wallet[0]), wallet[1])
        made = Contract(self.evm.deploy(owner, token[0]), token[1])
        creation = escrow[0] + bytes(12) + bytes.fromhex(made.address[2:])
        super().__init__(Contract(self.evm.deploy(owner, creation), escrow[1]), made, parties)
        self.set_code(permit2.ADDRESS, permit2.runtime(chain_id))
        for holder in (self.payer, self.wallet.address):
            assert self.send("transfer", holder, 1000 * AMOUNT, to=made, by=owner).reason is None
            for spender in (self.escrow.address, permit2.ADDRESS):
                assert self.send("approve", spender, BIG, to=made, by=holder).reason is None

    @property
    def chain_id(self) -> int:
        return self._chain_id

    @property
    def now(self) -> int:
        return self.timestamp

    def at(self, timestamp: int) -> None:
        self.timestamp = timestamp
        self.evm.set_block_env(pyrevm.BlockEnv(timestamp=timestamp, number=1, prevrandao=bytes(32)))

    def code_at(self, address: str) -> bytes:
        # What pyrevm gives is padded, so that its hash is another one.
        return self.codes[address]

    def set_code(self, address: str, code: bytes) -> None:
        self.codes[address] = code
        self.evm.insert_account_info(address, pyrevm.AccountInfo(code=code))

    def set_storage(self, address: str, slot: int, value: int) -> None:
        self.evm.insert_account_storage(address, slot, value)

    def read(self, contract: Any, view: str, *arguments: Any) -> Any:
        answer = self._call(contract, self.payload(view, *arguments, to=contract), self.stranger, GAS)
        return self.decoded(contract, view, answer)

    def send_raw(self, contract: Any, payload: bytes, by: str | None = None, gas: int = GAS) -> Sent:
        if by == self.wallet.address:  # no account with code may send (EIP-3607): somebody makes the wallet call
            return self.send("call", contract.address, payload, to=self.wallet, gas=gas)
        try:
            output = self._call(contract, payload, by or self.stranger, min(gas, GAS))
        except RuntimeError as error:
            said = str(error)
            raw = bytes.fromhex(said.rpartition("0x")[2].rstrip(" })")) if "output: 0x" in said else b""
            return Sent(revert_reason(raw), [], 0, raw)
        result = self.evm.result
        logs = [(tuple(int.from_bytes(topic) for topic in log.data[0]), bytes(log.data[1])) for log in result.logs]
        known = [event for event in (self.event(topics, body) for topics, body in logs) if event is not None]
        return Sent(None, known, int(result.gas_used), output)

    def state(self, terms: dict[str, Any]) -> int:
        return int.from_bytes(self._call(self.escrow, STATE + self.job_id(terms), self.stranger, GAS))

    def balance(self, account: str) -> int:
        payload = BALANCE_OF + bytes(12) + bytes.fromhex(account[2:])
        return int.from_bytes(self._call(self.token, payload, self.stranger, GAS))

    def payload(self, verb: str, *arguments: Any, to: Any = None) -> bytes:
        """As eth-abi encodes it; without eth-abi where the first argument is terms, which are encoded once."""
        kinds = self.kinds(verb, to)[1]
        if kinds[:1] != [TERMS] or not QUICK.issuperset(kinds[1:]):
            return super().payload(verb, *arguments, to=to)
        at, tails = len(_terms(plain(arguments[0]))) + 32 * len(arguments[1:]), b""
        head = self.kinds(verb, to)[0] + _terms(plain(arguments[0]))
        for kind, value in zip(kinds[1:], arguments[1:], strict=True):
            if kind == "bytes":
                head += word(at + len(tails))
                tails += word(len(value)) + value + bytes(-len(value) % 32)
            elif kind == "bytes32":
                head += value
            else:
                head += word(int(value, 16) if kind == "address" else value)
        return head + tails

    def typed_permit2(self, terms: dict[str, Any], nonce: int = 0, **changes: Any) -> SignableMessage:
        """As eth-account encodes it; here from the terms' own hash, which is known already."""
        chain_id = changes.get("domain", {}).get("chainId", self.chain_id)
        spender, deadline = changes.get("spender", self.escrow.address), changes.get("deadline", terms["fund_by"])
        permitted = keccak256(TOKEN_PERMISSIONS + _address(self.token.address) + word(terms["amount"]))
        body = keccak256(
            PERMIT2_TYPE
            + permitted
            + _address(spender)
            + word(nonce)
            + word(deadline)
            + self.typed("JobTerms", terms).body
        )
        return SignableMessage(b"\x01", permit2.domain_separator(chain_id), body)

    def typed(self, name: str, message: dict[str, Any], /, **domain: Any) -> SignableMessage:
        # Encoding takes ten times as long as a call, and the same few messages are asked for again and again.
        key = (self.chain_id, self.escrow.address, name, plain(message), tuple(domain.items()))
        if key not in _TYPED:
            _TYPED[key] = super().typed(name, message, **domain)
        return _TYPED[key]

    def signature(self, by: str, message: SignableMessage) -> bytes:
        return _signature(self.keys[by], digest(message))

    def _call(self, contract: Any, payload: bytes, by: str, gas: int) -> bytes:
        self.evm.reset_transient_storage()
        return bytes(self.evm.message_call(by, contract.address, calldata=payload, gas=gas))


def _address(text: str) -> bytes:
    return bytes(12) + bytes.fromhex(text[2:])


@lru_cache(maxsize=10_000)
def _terms(values: tuple[Any, ...]) -> bytes:
    return eth_abi.encode([TERMS], [values])


@lru_cache(maxsize=100_000)
def _signature(key: LocalAccount, hashed: bytes) -> bytes:
    """What eth-account signs, a hundred times as fast: it is RFC 6979 for both."""
    r, s = decode_dss_signature(_private(key).sign(hashed, DETERMINISTIC))
    signatures = [word(r) + word(min(s, ORDER - s)) + bytes([v]) for v in (27, 28)]
    address = Address(bytes.fromhex(key.address[2:]))
    return next(each for each in signatures if recover(Bytes32(hashed), Signature(each)) == address)


@lru_cache
def _private(key: LocalAccount) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(key.key), ec.SECP256K1())
