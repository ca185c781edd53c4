"""`opgate circuit rebuild`, `compile-check` and `accept`: what anyone can check of a circuit, and sign."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from circuits import registry
from circuits.cli.options import HOME, AsJson, Home, KeyFile, Named, Threads, Where, located, print_json, steps
from circuits.registry import CircuitFolder
from verifier.evm import signed_by
from verifier.payment.keys import Signer
from verifier.statement import canonical
from verifier.statement.certificates import RebuildRecord, Record, record_digest


def rebuild_command(
    circuit: Named,
    *,
    key: KeyFile = None,
    srs: Annotated[list[Path] | None, typer.Option(help="Further SRS files, or folders of them.")] = None,
    threads: Threads = None,
    again: Annotated[
        bool, typer.Option("--again", help="Rebuild even where --key has signed a rebuild already.")
    ] = False,
    circuits: Where = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Rebuild a circuit from its ONNX file, run arguments and SRS, and compare every byte of manifest and code.

    With --key a RebuildRecord is signed and kept beside it, for those whose policy trusts that key; where that key has
    signed one, it stands. Exit 1 where it differs: the artefacts are named.
    """
    from circuits.ezkl_runner import Limits  # noqa: PLC0415 - onnx and numpy only where a circuit is rebuilt
    from circuits.rebuild import rebuild  # noqa: PLC0415 - the same

    signer = _signer(key)
    folder = located(circuit, circuits, home)
    known = None if again else _signed_before(folder, signer, RebuildRecord)
    if known is not None:
        _print(known, None, signer, as_json=as_json, word="rebuilt", cached=True)
        return
    limits = Limits(threads=threads) if threads else None
    with steps(as_json=as_json) as progress:
        record = rebuild(
            folder, srs_stores=(home / "srs", *(srs or ())), now=int(time.time()), limits=limits, progress=progress
        )
    path = registry.add_record(folder, record, signer) if signer else None
    _print(record, path, signer, as_json=as_json, word="rebuilt")


def compile_check_command(
    circuit: Named,
    *,
    key: KeyFile = None,
    circuits: Where = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Compile a circuit's code again from its verifying key, settings and the k = 1 SRS, and compare its hash.

    It needs no ONNX file: it shows that the code is EZKL's verifier for that key, not which model stands behind it.
    With --key a CompileRecord is signed, which gives the assurance *compiled*. Exit 1 where it differs.
    """
    from circuits.compile_check import compile_check  # noqa: PLC0415 - solc only where it is asked

    signer = _signer(key)
    folder = located(circuit, circuits, home)
    with steps(as_json=as_json) as progress:
        progress("verifier from key, settings and SRS")
        record = compile_check(folder, now=int(time.time()))
    path = registry.add_record(folder, record, signer) if signer else None
    _print(record, path, signer, as_json=as_json, word="compiled")


def accept_command(
    circuit: Named,
    data: Annotated[Path, typer.Option(exists=True, help="Your own samples: input.json, .npz or .csv.")],
    *,
    key: KeyFile = None,
    circuits: Where = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Compare circuit and model on samples of your own: a test against quantisation backdoors.

    A model can behave in floats and misbehave once quantised; its owner chose the samples of its own certificate. With
    --key what was found is signed, and a policy's max_acceptance_error and acceptance_samples ask for it.
    """
    from circuits.acceptance import accept  # noqa: PLC0415 - onnxruntime only where samples are run

    signer = _signer(key)
    folder = located(circuit, circuits, home)
    with steps(as_json=as_json) as progress:
        progress("circuit against model on your samples")
        certificate = accept(folder, data)
    path = registry.add_record(folder, certificate, signer) if signer else None
    if as_json:
        _print(certificate, path, signer, as_json=True, word="compared")
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{certificate.samples} samples: largest error {certificate.max_error}, mean {certificate.mean_error}, "
        f"same argmax {float(certificate.agreement):.1%}"
    )
    _print(certificate, path, signer, as_json=False, word="compared")


def _signer(key: Path | None) -> Signer | None:
    if key is None:
        return None
    from verifier.payment.keys import load_key  # noqa: PLC0415 - eth_account only where something is signed

    return load_key(key)


def _signed_before(folder: CircuitFolder, signer: Signer | None, kind: type[Record]) -> Record | None:
    """A record of that kind about this circuit that the signer left here earlier, its signature checked."""
    if signer is None:
        return None
    for signed in folder.circuit().records:
        about = isinstance(signed.record, kind) and str(signed.record.circuit_id) == folder.path.name
        mine = about and signed.signer == signer.address
        if mine and signed_by(signed.signer, record_digest(signed.record), signed.signature):
            return signed.record
    return None


def _print(
    record: Record, path: Path | None, signer: Signer | None, *, as_json: bool, word: str, cached: bool = False
) -> None:
    if as_json:
        print_json(
            {
                word: True,
                "cached": cached,
                "record": canonical.to_builtins(record),
                "file": str(path) if path else None,
            }
        )
        return
    console = Console(highlight=False, soft_wrap=True)
    said = {
        "rebuilt": "manifest and code are the same, byte for byte",
        "compiled": "key, settings and SRS give the same code; which model is behind the key is not shown",
        "compared": "what this circuit computes on your samples, and on nothing else",
    }[word]
    console.print(f"[green]{word}[/] {record.circuit_id}: {said}")
    if cached and signer is not None:
        console.print(f"as {signer.address} signed before; to do it again: --again", markup=False)
    elif signer is not None:
        console.print(f"signed by {signer.address}: {path}", markup=False)
    else:
        console.print("nothing is signed: add --key to leave a record", markup=False)
