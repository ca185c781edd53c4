"""``opgate escrow``: deploy an escrow for a token, or compare the one that stands on a chain with what opgate ships."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from verifier.errors import EscrowError, UsageError
from verifier.files import write_atomic
from verifier.payment import artifacts
from verifier.payment.chain import Chain, Mined
from verifier.payment.escrow import Escrow, deploy_escrow, deploy_test_token
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
    if not as_json:
        typer.echo("The escrow of this installation stands there, for this token.")
    _show(found, as_json=as_json)


@app.command()
def deploy(
    *,
    rpc: Rpc,
    chain_id: ChainId,
    token: Annotated[str, typer.Option("--token", help="Address of the OPG token.")] = "",
    test_token: Annotated[
        bool, typer.Option("--test-token", help="Deploy the OPG test token first; on development chains only.")
    ] = False,
    key: Annotated[Path, typer.Option("--key", envvar="OPGATE_KEYFILE", help="Key file of the account that pays.")],
    home: Annotated[Path, typer.Option(envvar="OPGATE_HOME", help="Where opgate keeps its state.")] = Path(".opgate"),
    as_json: AsJson = False,
) -> None:
    """Deploy the escrow for a token, once for each token and key: a second call finds the first one's contract.

    What stands where is written to HOME/owner/escrows/CHAIN/ESCROW.json.
    """
    if bool(token) == test_token:
        raise UsageError("U-token", "an escrow is for one token", expected="either --token ADDRESS or --test-token")
    named = None if test_token else _address(token, "--token")
    with (
        Chain(rpc, chain_id=chain_id) as chain,
        closing(Outbox(home / "owner" / "outbox.sqlite", chain, load_key(key))) as outbox,
    ):
        found: dict[str, object] = {"chain_id": chain_id}
        of_token = named or _contract(found, deploy_test_token(outbox), "token_")
        if chain.code_hash(of_token) is None:
            raise EscrowError("E-token-code", "the token has no code on this chain", where=str(of_token))
        found |= {"token": str(of_token), "token_code_hash": str(chain.code_hash(of_token))}
        escrow = _contract(found, deploy_escrow(outbox, of_token))
        Escrow(chain, escrow, of_token).check()
        found |= {"escrow": str(escrow), "code_hash": str(artifacts.escrow_code_hash(of_token))}
    record = home / "owner" / "escrows" / str(chain_id) / f"{escrow}.json"
    record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(record, canonical.encode(found))
    # Contracts first, then what is known of each.
    order = sorted(found, key=lambda name: (name.startswith("token"), name not in {"escrow", "token"}))
    _show({name: found[name] for name in order} | {"record": str(record)}, as_json=as_json)


def _contract(found: dict[str, object], mined: Mined, prefix: str = "") -> Address:
    """Where a deployment put its contract; block, transaction and gas go into `found`."""
    if mined.contract is None:
        raise EscrowError("E-escrow-code", "the deployment made no contract", where=str(mined.transaction_hash))
    found |= {
        f"{prefix}block": mined.block_number,
        f"{prefix}transaction": str(mined.transaction_hash),
        f"{prefix}gas": mined.gas_used,
    }
    return mined.contract


def _show(found: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        typer.echo(canonical.encode(found))
        return
    for name, value in found.items():
        typer.echo(f"{name.replace('_', ' '):<20}{value}")


def _address(text: str, where: str) -> Address:
    try:
        return Address.from_json(text.lower())
    except ValueError as error:
        raise UsageError("U-address", "this is no address", where=where, expected="0x and 40 hex digits") from error
