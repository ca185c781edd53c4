"""Compile the contracts with the pinned Vyper into `artifacts/`, or check that what is there is exactly that.

``python -m verifier.payment.compile_contracts [--check]``, for development only: Vyper is imported when it runs and is
needed by nothing that is installed. The output depends on the source's bytes alone, not on paths or on the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

from verifier.errors import EscrowError, OpgateError
from verifier.payment.artifacts import CONTRACTS, ContractName
from verifier.statement import canonical

FOLDER = Path(__file__).parent
VYPER = "0.4.3"
MODULES: dict[ContractName, tuple[str, ...]] = {"escrow": ("job_terms.vy", "transfers.vy"), "opg_test_token": ()}
"""The files of ours that a contract imports."""


def compile_contract(name: ContractName, sources: dict[str, str]) -> bytes:
    """The artefact of a contract as canonical JSON.

    Args:
        name: which of the contracts.
        sources: its source and those of the modules that it imports, by file name.

    Raises:
        EscrowError: E-compiler where Vyper is missing or another version, E-source where the source does not compile.
    """
    try:
        # Imported here, for it is a development tool, absent where this package is only used; it has no type stubs.
        compiler, errors = import_module("vyper.compiler"), import_module("vyper.exceptions")
        bundles = import_module("vyper.compiler.input_bundle")
        version = str(import_module("vyper").__version__)
    except ImportError as error:
        raise EscrowError("E-compiler", "Vyper is not installed", do="Run pip install 'opgate[dev]'.") from error
    if version != VYPER:
        raise EscrowError("E-compiler", "another Vyper gives other code", expected=VYPER, found=version)
    wanted = ("abi", "bytecode", "bytecode_runtime", "layout", "settings_dict")
    try:
        # In memory: what is compiled cannot depend on where the files lie or on what lies beside them.
        bundle = bundles.JSONInputBundle(
            {PurePath(file): {"content": text} for file, text in sources.items()}, search_paths=[PurePath()]
        )
        built: dict[str, Any] = compiler.compile_code(
            sources[f"{name}.vy"], input_bundle=bundle, contract_path=PurePath(f"{name}.vy"), output_formats=wanted
        )
    except errors.VyperException as error:
        raise EscrowError("E-source", "the contract does not compile", where=name, found=str(error)) from error
    settings = built["settings_dict"]
    layout = built["layout"].get("code_layout", {})
    slots: list[tuple[str, Any]] = sorted(layout.items(), key=lambda item: int(item[1]["offset"]))
    immutables = [{"name": key, **{k: slot[k] for k in ("type", "offset", "length")}} for key, slot in slots]
    return canonical.encode(
        {
            "name": name,
            "vyper": VYPER,
            "evm_version": settings["evm_version"],
            "optimize": settings["optimize"],
            "source_sha256": "0x" + hashlib.sha256("".join(sources.values()).encode()).hexdigest(),
            "abi": built["abi"],
            "bytecode": built["bytecode"],
            "runtime": built["bytecode_runtime"],
            "immutables": immutables,
        }
    )


def stale(folder: Path) -> list[str]:
    """The contracts whose artefact in `folder`/artifacts is not what the source compiles to; empty when all are."""
    return [
        name
        for name in CONTRACTS
        if not (folder / "artifacts" / f"{name}.json").is_file()
        or (folder / "artifacts" / f"{name}.json").read_bytes() != compile_contract(name, read_sources(folder, name))
    ]


def read_sources(folder: Path, name: ContractName) -> dict[str, str]:
    """The source of a contract and then its modules', by file name."""
    # Bytes, not text mode: a checkout that changes line ends must not pass for the source that was compiled.
    return {file: (folder / file).read_bytes().decode("utf-8") for file in (f"{name}.vy", *MODULES[name])}


def main(arguments: list[str] | None = None) -> int:
    """Write or check; 0 when all is well, 1 when an artefact is stale or a contract does not compile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where an artefact is stale")
    check: bool = parser.parse_args(arguments).check
    try:
        if check:
            found = stale(FOLDER)
            for name in found:
                sys.stderr.write(f"stale: {name}; run python -m verifier.payment.compile_contracts\n")
            return 1 if found else 0
        for name in CONTRACTS:
            artifact = compile_contract(name, read_sources(FOLDER, name))
            (FOLDER / "artifacts" / f"{name}.json").write_bytes(artifact)
    except OpgateError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
