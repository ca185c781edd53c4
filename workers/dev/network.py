"""What the dev network is: accounts, token, escrow, and ``network.json``, which tells the actors where they are.

Nothing here starts a process. Each step of setting up is decided by what the chain already holds, so that a run killed
between any two of them is finished by the next.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING

import msgspec
import rlp  # type: ignore[import-untyped]  # it has no types

from verifier.errors import OpgateError, ServiceError
from verifier.keccak import keccak256
from verifier.payment import artifacts
from verifier.payment.keys import Signer, Transaction, create_key, load_key
from verifier.statement import canonical
from verifier.statement.scalars import Address, Bytes32, Count
from workers.dev.rpc import DEV_CHAIN_ID, ask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ACCOUNTS = ("owner", "provider", "payee", "payer", "stranger")
OPG_SHARE = 1_000_000 * 10**18
"""OPG wei that the owner, who holds the whole supply, gives to payer and stranger."""
_MAX_FEE = 1_000_000_000_000
_TIP = 1_000_000_000
_DEPLOY_GAS = 8_000_000
_TRANSFER_GAS = 120_000
_TRANSFER = bytes.fromhex("a9059cbb")
_ROOM = 1 << 16
_MINED_SECONDS = 30.0


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``dev/network.json``: URLs, contracts, and each account's key file and address."""

    rpc: str
    redis: str
    chain_id: Count
    token: Address
    escrow: Address
    accounts: dict[str, str]
    addresses: dict[str, Address]

    def port(self, url: str) -> int:
        """The port in one of the URLs, 0 where there is none."""
        digits = url.rsplit(":", 1)[-1].split("/", 1)[0]
        return int(digits) if digits.isdecimal() and int(digits) < _ROOM else 0


def read_network(folder: Path) -> Network | None:
    """The network that was written last, None where none was; W-dev-network where the file is damaged."""
    path = folder / "network.json"
    try:
        return canonical.decode(Network, path.read_bytes(), where=str(path))
    except FileNotFoundError:
        return None
    except (OpgateError, OSError) as error:
        raise ServiceError(
            "W-dev-network", "network.json cannot be read", where=str(path), found=str(error)[:200]
        ) from error


def write_network(folder: Path, network: Network) -> None:
    """Write ``network.json``, whole or not at all, synced."""
    draft = folder / f".network.{secrets.token_hex(8)}"
    with draft.open("xb") as file:
        file.write(canonical.encode(network))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / "network.json")


def open_accounts(folder: Path) -> dict[str, tuple[Path, Signer]]:
    """The key file and key of every account by its role; a file that is not there yet is made."""
    accounts = {}
    for name in ACCOUNTS:
        path = (folder / "keys" / f"{name}.key").absolute()
        accounts[name] = (path, load_key(path) if path.exists() else create_key(path))
    return accounts


def contract_address(sender: Address, nonce: int) -> Address:
    """Where the contract that a sender creates with a nonce stands (Yellow Paper, 7)."""
    return Address(keccak256(rlp.encode([bytes(sender), nonce]))[12:])


def set_up(port: int, accounts: Mapping[str, tuple[Path, Signer]]) -> tuple[Address, Address]:
    """Deploy token and escrow and hand out OPG, each once; the two addresses.

    The owner's first four transactions are the four steps, so its nonce says which are done.

    Raises:
        ServiceError: W-dev-contract where the chain holds other code than this installation ships.
    """
    owner = accounts["owner"][1]
    token, escrow = contract_address(owner.address, 0), contract_address(owner.address, 1)
    steps: tuple[tuple[Address | None, bytes], ...] = (
        (None, bytes(artifacts.load("opg_test_token").bytecode)),
        (None, bytes(artifacts.load("escrow").bytecode) + bytes(12) + token),
        *((token, _transfer(accounts[name][1].address)) for name in ("payer", "stranger")),
    )
    done = int(ask(port, "eth_getTransactionCount", str(owner.address), "latest"), 16)
    for nonce, (to, code_or_call) in enumerate(steps):
        if nonce >= done:
            _send(port, owner, nonce, to, code_or_call)
    expected = {token: artifacts.token_code_hash(), escrow: artifacts.escrow_code_hash(token)}
    for address, code_hash in expected.items():
        if keccak256(bytes.fromhex(ask(port, "eth_getCode", str(address), "latest")[2:])) != code_hash:
            raise ServiceError(
                "W-dev-contract",
                "the dev chain holds another version of token or escrow",
                where=str(address),
                expected=f"code with hash {code_hash}",
                do="Stop the dev network, delete its folder `dev`, start it again.",
            )
    return token, escrow


def _transfer(to: Address) -> bytes:
    return _TRANSFER + bytes(12) + to + OPG_SHARE.to_bytes(32)


def _send(port: int, owner: Signer, nonce: int, to: Address | None, code_or_call: bytes) -> None:
    transaction = Transaction(
        chain_id=DEV_CHAIN_ID,
        nonce=nonce,
        to=to,
        data=code_or_call,
        gas=_TRANSFER_GAS if to else _DEPLOY_GAS,
        max_fee_per_gas=_MAX_FEE,
        max_priority_fee_per_gas=_TIP,
    )
    raw, transaction_hash = owner.sign_transaction(transaction)
    ask(port, "eth_sendRawTransaction", "0x" + raw.hex())
    _check_status(port, transaction_hash)


def _check_status(port: int, transaction_hash: Bytes32) -> None:
    until = time.monotonic() + _MINED_SECONDS
    while (receipt := ask(port, "eth_getTransactionReceipt", str(transaction_hash))) is None:
        if time.monotonic() > until:
            raise ServiceError("W-dev-setup", "a transaction is not mined", where=str(transaction_hash))
        time.sleep(0.02)
    if receipt["status"] != "0x1":
        raise ServiceError(
            "W-dev-setup", "a transaction that sets up the dev chain failed", where=str(transaction_hash)
        )
