"""`opgate escrow` deploys once, checks what stands there, and refuses what is not ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.chain.conftest import Node
from verifier.cli.escrow import app
from verifier.errors import EscrowError, UsageError


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
