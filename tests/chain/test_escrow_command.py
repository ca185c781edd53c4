"""`opgate escrow` deploys once, checks what stands there, and refuses what is not ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.chain.conftest import Node, free_port, start_anvil
from verifier.cli.escrow import app
from verifier.errors import EscrowError, UsageError
from verifier.payment import artifacts
from verifier.payment.keys import create_key
from verifier.statement.scalars import Address, Bytes32
from workers.dev.rpc import ask


def _run(*words: object) -> dict[str, object]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    assert isinstance(shown, dict)
    return shown


def test_deploy_twice_is_one_contract_and_check_knows_it(dev_node: Node, tmp_path: Path) -> None:
    chain = ("--rpc", dev_node.chain.rpc.source, "--chain-id", 31337, "--token", dev_node.token, "--json")
    mine = ("--key", dev_node.folder / "stranger.key", "--home", tmp_path)
    first = _run("deploy", *chain, *mine)
    assert first["escrow"] != str(dev_node.escrow)
    assert _run("deploy", *chain, *mine) == first
    checked = _run("check", first["escrow"], *chain)
    assert checked["code_hash"] == first["code_hash"]
    assert checked["token_kind"] == "OPG test token"
    with pytest.raises(EscrowError, match=r"^E-escrow-code:"):
        _run("check", dev_node.token, *chain)
    with pytest.raises(UsageError, match=r"^U-address:"):
        _run("check", "0x12", *chain)


def test_another_chain_or_token_is_refused(dev_node: Node, tmp_path: Path) -> None:
    mine = ("--key", dev_node.folder / "stranger.key", "--home", tmp_path, "--rpc", dev_node.chain.rpc.source)
    with pytest.raises(EscrowError, match=r"^E-chain-id:"):
        _run("deploy", *mine, "--chain-id", 8453, "--token", dev_node.token)
    with pytest.raises(EscrowError, match=r"^E-token-code:"):
        _run("deploy", *mine, "--chain-id", 31337, "--token", "0x" + "77" * 20)


def test_a_test_token_and_its_escrow_are_deployed_recorded_and_known(node: Node, tmp_path: Path) -> None:
    """The trap: a record of what a command meant to do; each line of it is asked of the chain."""
    chain = ("--rpc", node.chain.rpc.source, "--chain-id", 31337, "--json")
    mine = ("--key", node.folder / "stranger.key", "--home", tmp_path)
    made = _run("deploy", "--test-token", *chain, *mine)
    assert _run("deploy", "--test-token", *chain, *mine) == made, "once for each key"
    record = Path(str(made.pop("record")))
    assert json.loads(record.read_bytes()) == made
    token, escrow = Address.from_json(str(made["token"])), Address.from_json(str(made["escrow"]))
    assert token not in {node.token, escrow}
    assert made["token_code_hash"] == str(node.chain.code_hash(token)) == str(artifacts.token_code_hash())
    assert made["code_hash"] == str(node.chain.code_hash(escrow)) == str(artifacts.escrow_code_hash(token))
    assert node.chain.token_balance(token, node.keys["stranger"].address) == 10**27
    for name in ("", "token_"):
        mined = node.chain.mined(Bytes32.from_json(str(made[f"{name}transaction"])))
        assert mined is not None
        assert (mined.block_number, mined.gas_used) == (made[f"{name}block"], made[f"{name}gas"])
    assert _run("check", escrow, "--token", token, *chain)["token_kind"] == "OPG test token"
    with pytest.raises(EscrowError, match=r"^E-escrow-code:"):
        _run("check", escrow, "--token", node.token, *chain)


def test_the_test_token_is_refused_where_it_could_be_taken_for_opg(tmp_path: Path) -> None:
    port, key = free_port(), create_key(tmp_path / "owner.key")
    process = start_anvil(port, "--chain-id", "8453")
    try:
        ask(port, "anvil_setBalance", str(key.address), hex(10**22))
        chain = ("--rpc", f"http://127.0.0.1:{port}", "--chain-id", 8453)
        with pytest.raises(EscrowError, match=r"^E-dev-chain:"):
            _run("deploy", "--test-token", *chain, "--key", tmp_path / "owner.key", "--home", tmp_path)
        assert int(ask(port, "eth_getTransactionCount", str(key.address), "latest"), 16) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("which", [(), ("--test-token", "--token", "0x" + "77" * 20)])
def test_deploy_asks_for_exactly_one_token(which: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^U-token:"):
        _run("deploy", "--rpc", "http://127.0.0.1:1", "--chain-id", 31337, "--key", tmp_path / "none", *which)


def test_people_read_what_stands_there(dev_node: Node) -> None:
    words = ("check", dev_node.escrow, "--rpc", dev_node.chain.rpc.source, "--chain-id", 31337, "--token")
    shown = CliRunner().invoke(app, [str(word) for word in (*words, dev_node.token)]).output.splitlines()
    assert shown[0] == "The escrow of this installation stands there, for this token."
    assert dict(line.rsplit(maxsplit=1) for line in shown[1:3]) == {
        "escrow": str(dev_node.escrow),
        "token": str(dev_node.token),
    }
