"""What the package ships is what the sources compile to, and what a deployment leaves on the chain."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import boa
import pytest
from Crypto.Hash import keccak

from verifier.errors import EscrowError
from verifier.payment import compile_contracts
from verifier.payment.artifacts import (
    escrow_code_hash,
    escrow_runtime,
    load,
    token_code_hash,
)
from verifier.statement.scalars import Address

if TYPE_CHECKING:
    from tests.contracts.conftest import World

SHIPPED = Path(compile_contracts.__file__).parent


def keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()


def raw(address: str) -> Address:
    return Address(bytes.fromhex(address[2:]))


def test_the_artefacts_are_what_the_sources_compile_to() -> None:
    assert compile_contracts.main(["--check"]) == 0


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    """One byte in a comment suffices: the artefact names the source's digest."""
    for file in SHIPPED.glob("*.vy"):
        shutil.copy(file, tmp_path)
    shutil.copytree(SHIPPED / "artifacts", tmp_path / "artifacts")
    with (tmp_path / "opg_test_token.vy").open("a") as source:
        source.write("# one more line\n")
    assert compile_contracts.stale(tmp_path) == ["opg_test_token"]
    with (tmp_path / "job_terms.vy").open("a") as source:
        source.write("# one more line\n")
    assert compile_contracts.stale(tmp_path) == ["escrow", "opg_test_token"]


def test_a_source_that_does_not_compile_is_an_error_of_ours() -> None:
    with pytest.raises(EscrowError, match="E-source"):
        compile_contracts.compile_contract("escrow", {"escrow.vy": "# pragma version 0.4.3\nnonsense"})


def test_the_code_on_the_chain_is_the_one_foretold(world: World) -> None:
    """The shipped creation code is deployed, not the test's own compilation, and for two tokens."""
    token = boa.env.deploy_code(bytecode=bytes(load("opg_test_token").bytecode))[0]
    for at in (str(token), world.token.address):
        assert keccak256(boa.env.get_code(at)) == token_code_hash()
        escrow = boa.env.deploy_code(bytecode=bytes(load("escrow").bytecode) + bytes(12) + raw(at))[0]
        code = boa.env.get_code(escrow)
        assert code == escrow_runtime(raw(at))
        assert keccak256(code) == escrow_code_hash(raw(at))
    assert escrow_code_hash(raw(str(token))) != escrow_code_hash(raw(world.token.address))


def test_the_hash_does_not_depend_on_the_chain(world: World) -> None:
    boa.env.evm.patch.chain_id = 8453
    escrow = world.escrow.deployer.deploy(world.token.address)
    assert keccak256(boa.env.get_code(escrow.address)) == escrow_code_hash(raw(world.token.address))


def test_the_escrow_fits_on_a_chain(world: World) -> None:
    """EIP-170 and EIP-3860."""
    assert len(boa.env.get_code(world.escrow.address)) <= 24_576
    assert len(load("escrow").bytecode) + 32 <= 49_152


@pytest.mark.parametrize("immutables", [{}, {"TOKEN": bytes(20)}, {"token": bytes(32)}, {"TOKEN": bytes(32), "X": b""}])
def test_immutables_are_given_exactly(immutables: dict[str, bytes]) -> None:
    with pytest.raises(EscrowError, match="E-immutable"):
        load("escrow").runtime_code(**immutables)
