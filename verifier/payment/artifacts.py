"""The compiled contracts that this package ships: their ABI, their bytecode, and the code that must stand on a chain.

Nothing here compiles (`compile_contracts` does, in development) and nothing here reads a chain.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import msgspec

from verifier.errors import EscrowError, VerifierError
from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.scalars import Address, Bytes32, Count, HexBytes

ContractName = Literal["escrow", "opg_test_token"]
CONTRACTS: tuple[ContractName, ...] = ("escrow", "opg_test_token")


class Immutable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that the constructor appends to the runtime code, `length` bytes at `offset` after its end."""

    name: str
    type: str
    offset: Count
    length: Count


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One compiled contract.

    Attributes:
        name: the file name of the source without its ending.
        vyper: the version of the compiler, and `evm_version` and `optimize` its settings, pinned in the source.
        source_sha256: of the source that gave this code, followed by the modules that it imports.
        abi: the JSON ABI, in the order of the source.
        bytecode: what a deployment sends, before the ABI-encoded constructor arguments.
        runtime: what stands on the chain, before the immutables.
        immutables: what the constructor appends to `runtime`, in the order of their offsets.
    """

    name: str
    vyper: str
    evm_version: str
    optimize: str
    source_sha256: Bytes32
    abi: list[dict[str, Any]]
    bytecode: HexBytes
    runtime: HexBytes
    immutables: list[Immutable]

    def runtime_code(self, **immutables: bytes) -> bytes:
        """The code that a deployment leaves on the chain, for these values of the immutables.

        Args:
            **immutables: each immutable's ABI-encoded value by its name, of the length that the artefact says.

        Raises:
            EscrowError: E-immutable where names or lengths are not the artefact's.
        """
        expected = {slot.name: int(slot.length) for slot in self.immutables}
        found = {name: len(value) for name, value in immutables.items()}
        if expected != found:
            raise EscrowError(
                "E-immutable",
                "the immutables are not those of the contract",
                where=self.name,
                expected=str(expected),
                found=str(found),
            )
        return bytes(self.runtime) + b"".join(immutables[slot.name] for slot in self.immutables)


@cache
def load(name: ContractName) -> Artifact:
    """The shipped artefact of a contract.

    Raises:
        EscrowError: E-artifact where the installed file is missing or damaged.
    """
    path = resources.files("verifier.payment") / "artifacts" / f"{name}.json"
    try:
        artifact = canonical.decode(Artifact, path.read_bytes(), where=f"artifacts/{name}.json")
    except (OSError, VerifierError) as error:
        raise EscrowError(
            "E-artifact",
            "the compiled contract of this installation cannot be read",
            where=f"artifacts/{name}.json",
            found=str(error)[:200],
            do="Install opgate again.",
        ) from error
    if artifact.name != name:
        raise EscrowError("E-artifact", "the artefact is of another contract", expected=name, found=artifact.name)
    return artifact


def escrow_runtime(token: Address) -> bytes:
    """The whole code of an escrow for this token: the same on every chain and at every address."""
    return load("escrow").runtime_code(TOKEN=bytes(12) + token)


def escrow_code_hash(token: Address) -> Bytes32:
    """keccak256 of `escrow_runtime`: what ``eth_getCode`` must hash to before money or a signature goes there."""
    return keccak256(escrow_runtime(token))


def token_code_hash() -> Bytes32:
    """keccak256 of the test token's code; a chain whose token has it is a development chain."""
    return keccak256(load("opg_test_token").runtime_code())
