"""`opgate circuit`: build, rebuild, show, list and export circuits. Prints; decides nothing by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from circuits import registry
from circuits.check.command import check_command
from circuits.registry import CircuitFolder
from verifier.errors import UsageError
from verifier.evm import signed_by
from verifier.srs import srs_kind
from verifier.statement import canonical
from verifier.statement.certificates import (
    CircuitAttestation,
    CompileRecord,
    CostRecord,
    FidelityCertificate,
    RebuildRecord,
    SignedRecord,
    record_digest,
)
from verifier.statement.scalars import Text, Timestamp

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Build, rebuild, show and export circuits of ONNX models."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Home = Annotated[Path, typer.Option(envvar="OPGATE_HOME", help="Where opgate keeps its state.")]
Store = Annotated[
    Path | None, typer.Option("--out", help="The folder of circuits; by default owner/circuits of the home.")
]
Where = Annotated[
    Path | None, typer.Option("--circuits", help="The folder of circuits; by default owner/circuits of the home.")
]
Named = Annotated[
    str, typer.Argument(metavar="CIRCUIT", help="A circuit_id, its beginning, or the path of its folder.")
]
KeyFile = Annotated[Path | None, typer.Option(help="The key that signs; without it nothing is signed.")]

_HOME = Path(".opgate")


app.command("check")(check_command)


@app.command("build")
def build_command(
    model: Annotated[Path, typer.Argument(exists=True, help="The ONNX file.")],
    data: Annotated[Path, typer.Option(exists=True, help="Samples: EZKL's input.json, .npz or .csv.")],
    *,
    owner_key: KeyFile = None,
    name: Annotated[str, typer.Option(help="What the model is called in your attestation.")] = "",
    closed: Annotated[
        bool, typer.Option("--closed", help="Keep the ONNX file private: nobody else can rebuild.")
    ] = False,
    inputs: Annotated[
        Literal["public", "hashed"],
        typer.Option(help="Whether a proof shows the inputs, or only their hash with a random blind."),
    ] = "public",
    out: Store = None,
    home: Home = _HOME,
    as_json: AsJson = False,
) -> None:
    """Make a circuit of a model: tune, compile, compare with the model, prove once, write manifest and code.

    With --owner-key the fidelity certificate, the cost record and your attestation are signed and kept beside it.
    """
    from circuits.build import build  # noqa: PLC0415 - numpy and onnxruntime only where a circuit is built
    from verifier.payment.keys import load_key  # noqa: PLC0415 - eth_account only where something is signed

    key = load_key(owner_key) if owner_key else None
    called = _text(name or model.stem)
    with _steps(as_json=as_json) as progress:
        built = build(
            model,
            data,
            store=out or _store(home),
            srs_store=home / "srs",
            inputs=inputs,
            is_open=not closed,
            progress=progress,
        )
        if key is not None:
            manifest = built.compiled.manifest
            attestation = CircuitAttestation(
                circuit_id=manifest.circuit_id,
                model=called,
                code_hash=manifest.evm.code_hash,
                attested_at=Timestamp(int(time.time())),
            )
            for record in (built.certificate, built.cost, attestation):
                registry.add_record(built.folder, record, key)
    if as_json:
        measures = {"fidelity": built.certificate, "cost": built.cost}
        _print_json(_described(built.folder) | {each: canonical.to_builtins(found) for each, found in measures.items()})
        return
    console = Console(highlight=False, soft_wrap=True)
    _print_manifest(console, built.folder)
    _print_cost(console, built.cost)
    _print_fidelity(console, built.certificate)
    if key is None:
        console.print("nothing is signed: build with --owner-key to leave certificate, cost and attestation")
    else:
        console.print(f"signed by [bold]{key.address}[/]: fidelity, cost, attestation")
    console.print(f"kept in {built.folder.path}", markup=False)


@app.command("rebuild")
def rebuild_command(
    circuit: Named,
    *,
    key: KeyFile = None,
    srs: Annotated[list[Path] | None, typer.Option(help="Further SRS files, or folders of them.")] = None,
    circuits: Where = None,
    home: Home = _HOME,
    as_json: AsJson = False,
) -> None:
    """Rebuild a circuit from its ONNX file, run arguments and SRS, and compare every byte of manifest and code.

    With --key a RebuildRecord is signed and kept beside it, for those whose policy trusts that key.
    Exit 1 where it differs.
    """
    from circuits.rebuild import rebuild  # noqa: PLC0415 - onnx only where a circuit is rebuilt
    from verifier.payment.keys import load_key  # noqa: PLC0415 - eth_account only where something is signed

    signer = load_key(key) if key else None
    folder = registry.find(circuits or _store(home), circuit)
    with _steps(as_json=as_json) as progress:
        record = rebuild(folder, srs_stores=(home / "srs", *(srs or ())), now=int(time.time()), progress=progress)
        path = registry.add_record(folder, record, signer) if signer else None
    if as_json:
        _print_json({"rebuilt": True, "record": canonical.to_builtins(record), "file": str(path) if path else None})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[green]rebuilt[/] {record.circuit_id}: manifest and code are the same, byte for byte")
    signed = (
        f"signed by {signer.address}: {path}" if signer else "nothing is signed: rebuild with --key to leave a record"
    )
    console.print(signed, markup=False)


@app.command("show")
def show_command(circuit: Named, *, circuits: Where = None, home: Home = _HOME, as_json: AsJson = False) -> None:
    """Say in words what a circuit proves, what it costs, how faithful it is, and who says so."""
    folder = registry.find(circuits or _store(home), circuit)
    described = _described(folder)
    if as_json:
        _print_json(described)
        return
    console = Console(highlight=False, soft_wrap=True)
    _print_manifest(console, folder)
    for signed in folder.circuit().records:
        match signed.record:
            case CostRecord():
                _print_cost(console, signed.record)
            case FidelityCertificate():
                _print_fidelity(console, signed.record)
            case RebuildRecord() | CompileRecord() | CircuitAttestation():
                pass
        kind, holds = str(signed.record.__struct_config__.tag).split("/")[1], _signature_holds(signed)
        console.print(f"{kind} by {signed.signer}" + ("" if holds else "  [red]the signature does not hold[/]"))


@app.command("list")
def list_command(*, circuits: Where = None, home: Home = _HOME, as_json: AsJson = False) -> None:
    """List the circuits of a folder."""
    store = circuits or _store(home)
    described = [_described(folder) for folder in registry.list_circuits(store)]
    if as_json:
        _print_json({"circuits": described})
        return
    console = Console(highlight=False, soft_wrap=True)
    if not described:
        console.print(f"no circuits in {store}; make one: opgate circuit build MODEL --data FILE", markup=False)
        return
    table = Table(box=None)
    for title in ("circuit_id", "inputs", "outputs", "k", "gas", "records", "proving key"):
        table.add_column(title, no_wrap=True, overflow="ignore" if title == "circuit_id" else "ellipsis")
    for each in described:
        manifest, has_key = each["manifest"], "here" if each["can_prove"] else "-"
        inputs, outputs = (", ".join(_shape(spec) for spec in manifest[side]) for side in ("inputs", "outputs"))
        row = (each["circuit_id"], inputs, outputs, str(manifest["srs"]["logrows"]), f"{manifest['evm']['gas']:,}")
        table.add_row(*row, str(len(each["records"])), has_key)
    console.print(table)


@app.command("export")
def export_command(
    circuit: Named,
    out: Annotated[Path, typer.Argument(help="The folder of circuits to write into.")],
    *,
    audience: Annotated[Literal["payer", "provider", "auditor"], typer.Option("--for", help="Who will hold it.")],
    circuits: Where = None,
    home: Home = _HOME,
    as_json: AsJson = False,
) -> None:
    """Copy exactly what a reader may hold: the proving key goes to providers only, since it shows the weights."""
    folder = registry.find(circuits or _store(home), circuit)
    development = srs_kind(folder.manifest().srs) == "development"
    written = registry.export(folder, audience, out, development=development)
    names = sorted(str(path.relative_to(written.path)) for path in written.path.rglob("*") if path.is_file())
    if as_json:
        _print_json({"folder": str(written.path), "files": names})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"for a {audience}: {written.path}", markup=False)
    console.print("  " + "  ".join(names), markup=False)
    if audience == "provider":
        console.print("[yellow]private/ holds the proving key: whoever has it has the model's weights[/]")


def _text(name: str) -> Text:
    try:
        return Text(name)
    except ValueError as error:
        raise UsageError("U-name", "the model cannot be called that", found=str(error)) from error


def _store(home: Path) -> Path:
    return home / "owner" / "circuits"


@contextmanager
def _steps(*, as_json: bool) -> Iterator[Callable[[str], None]]:
    """Tell each step with the seconds of the one before, on stderr, so that stdout stays clean."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    begun = time.monotonic()
    if as_json:
        yield lambda _: None
        return
    with console.status("reading") as status:

        def tell(step: str) -> None:
            console.print(f"[dim]{time.monotonic() - begun:6.1f} s[/]  {step}")
            status.update(step)

        yield tell


def _described(folder: CircuitFolder) -> dict[str, Any]:
    """A circuit as one JSON object, with each record and whether its signature holds."""
    circuit = folder.circuit()
    return {
        "circuit_id": str(circuit.circuit_id),
        "code_hash": str(circuit.manifest.evm.code_hash),
        "code_bytes": len(circuit.code),
        "folder": str(folder.path),
        "open": (folder.path / "model.onnx").exists(),
        "can_prove": folder.pk.exists(),
        "srs_kind": srs_kind(circuit.manifest.srs),
        "manifest": canonical.to_builtins(circuit.manifest),
        "records": [
            canonical.to_builtins(signed) | {"signature_holds": _signature_holds(signed)} for signed in circuit.records
        ],
    }


def _signature_holds(signed: SignedRecord) -> bool:
    return signed_by(signed.signer, record_digest(signed.record), signed.signature)


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value))


def _shape(spec: dict[str, Any]) -> str:
    return f"{spec['name']} {'x'.join(str(axis) for axis in spec['shape'])}"


def _print_manifest(console: Console, folder: CircuitFolder) -> None:
    manifest = folder.manifest()
    console.print(f"[bold]circuit_id[/]   {manifest.circuit_id}")
    console.print(f"[bold]code_hash[/]    {manifest.evm.code_hash}")
    for title, specs in (("takes", manifest.inputs), ("gives", manifest.outputs)):
        words = [f"{_shape(canonical.to_builtins(spec))} ({spec.dtype}, scale 2^{spec.scale})" for spec in specs]
        console.print(f"[bold]{title:<12}[/] {', '.join(words)}", markup=True)
    kind = srs_kind(manifest.srs)
    warning = "" if kind == "ceremony" else "  [yellow]whoever made it can forge: for development chains only[/]"
    console.print(f"[bold]SRS[/]          {kind}, k={manifest.srs.logrows}{warning}")
    console.print(
        f"[bold]proof[/]        {manifest.proof_len:,} bytes, {manifest.n_instances} instances, "
        f"{manifest.evm.gas:,} gas to verify, {manifest.visibility} inputs"
    )
    console.print("[bold]proves[/]       these outputs are this circuit's for this input and this job")
    console.print("[bold]does not[/]     that the input is true, the model good, or who computed it where")


def _print_cost(console: Console, record: CostRecord) -> None:
    table = Table("", "prove s", "memory MB", "proving key MB", "gas", "code bytes", box=None)
    for title, cost in (("predicted", record.predicted), ("measured", record.measured)):
        memory, pk = f"{cost.memory_bytes / 1e6:.0f}", f"{cost.pk_bytes / 1e6:.1f}"
        table.add_row(title, cost.prove_seconds, memory, pk, f"{cost.gas:,}", f"{cost.code_bytes:,}")
    console.print(f"[bold]cost[/]         on {record.machine}")
    console.print(table)


def _print_fidelity(console: Console, record: FidelityCertificate) -> None:
    console.print(
        f"[bold]fidelity[/]     {record.samples} samples: largest error {record.max_error}, "
        f"mean {record.mean_error}, same argmax {float(record.agreement):.1%}"
    )
    for change in record.rewrites:
        console.print(f"             rewrite: {change}", markup=False)
