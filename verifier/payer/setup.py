"""Opens a payer from its settings: key, archive, ledger, chain, the policy's escrow, the circuits that it holds."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from verifier.archive.keyfile import load_or_create_signing_key
from verifier.archive.log import Archive
from verifier.circuit import Circuit, find_circuit
from verifier.errors import EscrowError, OpgateError, UsageError
from verifier.files import read_regular
from verifier.payer.purchase import Payer
from verifier.payment.chain import Chain
from verifier.payment.escrow import Escrow
from verifier.payment.gate import Limits
from verifier.payment.keys import load_key
from verifier.payment.ledger import Ledger
from verifier.payment.outbox import Limits as Patience
from verifier.payment.outbox import Outbox
from verifier.policy import Policy
from verifier.statement.scalars import Bytes32

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARCHIVE_ORIGIN = "opgate/payer"


class PayerSettings(NamedTuple):
    """Where a payer keeps things; every path has a place below `home` where it is not named.

    `second_rpc_url` may be empty; `max_fee` is wei per gas, 0 for the outbox's own cap; `finalized` lets the chain's
    ``finalized`` tag say what is final.
    """

    home: Path
    rpc_url: str
    policy: Path
    keyfile: Path
    circuits: Path
    second_rpc_url: str = ""
    max_fee: int = 0
    finalized: bool = False


@contextmanager
def open_payer(settings: PayerSettings, limits: Limits) -> Iterator[Payer]:
    """A payer, ready to buy.

    Raises:
        EscrowError: E-key-… for its key, E-no-escrow where the policy names no escrow on the node's chain, E-rpc-….
        UsageError: where the policy cannot be read.
        AuditError: where its archive is damaged.
    """
    key = load_key(settings.keyfile)
    policy = Policy.load(settings.policy)
    folder = settings.home / "payer"
    signing_key = load_or_create_signing_key(folder / "keys" / "archive", ARCHIVE_ORIGIN)
    archive = Archive.open_or_create(folder / "archive", signing_key)
    with Chain(settings.rpc_url, second_url=settings.second_rpc_url or None) as chain:
        trusted = next((escrow for escrow in policy.chains.escrows if escrow.chain_id == chain.chain_id), None)
        if trusted is None:
            raise EscrowError(
                "E-no-escrow",
                "the policy names no escrow on this chain",
                where=settings.rpc_url,
                found=f"chain {chain.chain_id}",
            )
        patience = Patience()
        if settings.max_fee:
            patience = replace(patience, max_fee=settings.max_fee)
        if settings.finalized:
            patience = replace(patience, confirmations=None)
        outbox = Outbox(folder / "outbox.sqlite", chain, key, limits=patience)
        ledger = Ledger(folder / "ledger.sqlite")
        try:
            yield Payer(
                key=key,
                address=key.address,
                ledger=ledger,
                archive=archive,
                chain=chain,
                escrow=Escrow(chain, trusted.escrow, trusted.token, outbox),
                policy=policy,
                limits=limits,
            )
        finally:
            ledger.close()
            outbox.close()


def held_circuit(settings: PayerSettings, name: str) -> Circuit:
    """The circuit of an id, or of the beginning of one, among those that the payer holds.

    Raises:
        UsageError: U-circuit where none or more than one fits.
    """
    held = sorted(folder.name for folder in settings.circuits.glob("0x*")) if settings.circuits.is_dir() else []
    fitting = [circuit for circuit in held if circuit.startswith(name)]
    if len(fitting) != 1:
        raise UsageError(
            "U-circuit",
            "no such circuit is held here" if not fitting else "more than one circuit begins so",
            where=str(settings.circuits),
            expected=", ".join(held) or "a folder <circuit_id> from its owner",
            found=name,
        )
    return find_circuit(settings.circuits, Bytes32.from_json(fitting[0]))


def dev_rpc(home: Path) -> str:
    """The URL of the node that `opgate dev` started in this home.

    Raises:
        UsageError: U-rpc where there is none, or its file cannot be read.
    """
    network = home / "dev" / "network.json"
    if not network.is_file():
        raise UsageError("U-rpc", "no chain is named", do="Set OPGATE_RPC_URL, or start opgate dev in this home")
    try:
        return str(json.loads(read_regular(network, limit=1 << 16))["rpc"])
    except (OpgateError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            "U-rpc", "opgate dev's file cannot be read", where=str(network), found=str(error)[:200], do="--rpc-url URL"
        ) from error
