"""``opgate escrow``: deploy an escrow for a token, or compare the one that stands on a chain with what opgate ships."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from verifier.errors import EscrowError, UsageError
from verifier.payment import artifacts
from verifier.payment.chain import Chain
from verifier.payment.escrow import Escrow, deploy_escrow
from verifier.payment.keys import load_key
from verifier.payment.outbox import Outbox
from verifier.statement import canonical
from verifier.statement.scalars import Address

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Deploy or check the escrow contract.")

Rpc = Annotated[str, typer.Option("--rpc", envvar="OPGATE_RPC_URL", help="JSON-RPC of the chain.")]
ChainId = Annotated[int, typer.Option("--chain-id", help="The chain that you mean; another one is refused.")]
Token = Annotated[str, typer.Option("--token", help="Address of the OPG token.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]


@app.command()
def check(
    address: Annotated[str, typer.Argument(help="Address of the escrow.")],
    *,
    rpc: Rpc,
    chain_id: ChainId,
    token: Token,
    as_json: AsJson = False,
) -> None:
    """Compare the code at an address with the escrow of this installation, by its hash. Exit 1 where they differ."""
    with Chain(rpc, chain_id=chain_id) as chain:
        escrow, of_token = _address(address, "address"), _address(token, "--token")
        Escrow(chain, escrow, of_token).check()
        kind = "OPG test token" if chain.code_hash(of_token) == artifacts.token_code_hash() else "another contract"
        found = {
            "escrow": str(escrow),
            "token": str(of_token),
            "token_kind": kind,
            "chain_id": chain_id,
            "code_hash": str(artifacts.escrow_code_hash(of_token)),
        }
    _show(found, as_json=as_json)


@app.command()
def deploy(
    *,
    rpc: Rpc,
    chain_id: ChainId,
    token: Token,
    key: Annotated[Path, typer.Option("--key", envvar="OPGATE_KEYFILE", help="Key file of the account that pays.")],
    home: Annotated[Path, typer.Option(envvar="OPGATE_HOME", help="Where opgate keeps its state.")] = Path(".opgate"),
    as_json: AsJson = False,
) -> None:
    """Deploy the escrow for a token, once for each token and key: a second call finds the first one's contract."""
    of_token = _address(token, "--token")
    with (
        Chain(rpc, chain_id=chain_id) as chain,
        closing(Outbox(home / "owner" / "outbox.sqlite", chain, load_key(key))) as outbox,
    ):
        if chain.code_hash(of_token) is None:
            raise EscrowError("E-token-code", "the token has no code on this chain", where=str(of_token))
        mined = deploy_escrow(outbox, of_token)
        if mined.contract is None:
            raise EscrowError("E-escrow-code", "the deployment made no contract", where=str(mined.transaction_hash))
        Escrow(chain, mined.contract, of_token).check()
        found = {
            "escrow": str(mined.contract),
            "token": str(of_token),
            "chain_id": chain_id,
            "code_hash": str(artifacts.escrow_code_hash(of_token)),
            "block": mined.block_number,
            "transaction": str(mined.transaction_hash),
            "gas": mined.gas_used,
        }
    _show(found, as_json=as_json)


def _show(found: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        typer.echo(canonical.encode(found))
        return
    for name, value in found.items():
        typer.echo(f"{name:<12}{value}")


def _address(text: str, where: str) -> Address:
    try:
        return Address.from_json(text.lower())
    except ValueError as error:
        raise UsageError("U-address", "this is no address", where=where, expected="0x and 40 hex digits") from error
