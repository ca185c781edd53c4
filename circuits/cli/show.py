"""`opgate circuit show`, `list` and `export`: what a circuit is, for people, and who may hold which of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from circuits import registry
from circuits.cli.options import HOME, AsJson, Home, Named, Where, located, print_json, store_of
from circuits.registry import CircuitFolder
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
from verifier.statement.manifest import MAX_CODE_BYTES, MAX_INSTANCES, MAX_PROOF_BYTES


def show_command(circuit: Named, *, circuits: Where = None, home: Home = HOME, as_json: AsJson = False) -> None:
    """Say in words what a circuit proves, what it costs, how faithful it is, and who says so."""
    folder = located(circuit, circuits, home)
    described = _described(folder)
    if as_json:
        print_json(described)
        return
    console = Console(highlight=False, soft_wrap=True)
    print_manifest(console, folder)
    for signed in folder.circuit().records:
        match signed.record:
            case CostRecord():
                print_cost(console, signed.record)
            case FidelityCertificate():
                print_fidelity(console, signed.record)
            case RebuildRecord() | CompileRecord() | CircuitAttestation():
                pass
        kind, holds = str(signed.record.__struct_config__.tag).split("/")[1], _signature_holds(signed)
        console.print(f"{kind} by {signed.signer}" + ("" if holds else "  [red]the signature does not hold[/]"))


def list_command(*, circuits: Where = None, home: Home = HOME, as_json: AsJson = False) -> None:
    """List the circuits of a folder."""
    store = circuits or store_of(home)
    described = [_described(folder) for folder in registry.list_circuits(store)]
    if as_json:
        print_json({"circuits": described})
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


def export_command(
    circuit: Named,
    out: Annotated[Path, typer.Argument(help="The folder of circuits to write into.")],
    *,
    audience: Annotated[Literal["payer", "provider", "auditor"], typer.Option("--for", help="Who will hold it.")],
    circuits: Where = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Copy exactly what a reader may hold: the proving key goes to providers only, since it shows the weights."""
    folder = located(circuit, circuits, home)
    development = srs_kind(folder.manifest().srs) == "development"
    written = registry.export(folder, audience, out, development=development)
    names = sorted(str(path.relative_to(written.path)) for path in written.path.rglob("*") if path.is_file())
    if as_json:
        print_json({"folder": str(written.path), "files": names})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"for a {audience}: {written.path}", markup=False)
    console.print("  " + "  ".join(names), markup=False)
    if audience == "provider":
        console.print("[yellow]private/ holds the proving key: whoever has it has the model's weights[/]")


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


def _shape(spec: dict[str, Any]) -> str:
    return f"{spec['name']} {'x'.join(str(axis) for axis in spec['shape'])}"


def print_manifest(console: Console, folder: CircuitFolder) -> None:
    """What is proved and what not, at which size, and who can rebuild it."""
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
    code = folder.circuit().code
    sizes = (len(code), int(manifest.n_instances), int(manifest.proof_len))
    closable = all(a <= b for a, b in zip(sizes, (MAX_CODE_BYTES, MAX_INSTANCES, MAX_PROOF_BYTES), strict=True))
    said = "an escrow takes it" if closable else "[yellow]off chain only: no escrow takes it, no service quotes it[/]"
    console.print(f"[bold]verifier[/]     {len(code):,} bytes of code; {said}")
    input_words = "this input" if manifest.visibility == "public" else "the input behind this hash"
    console.print(f"[bold]proves[/]       these outputs are this circuit's for {input_words} and this job")
    console.print("[bold]does not[/]     that the input is true, the model good, or who computed it where")
    open_model = (folder.path / "model.onnx").exists()
    who = (
        "anyone: opgate circuit rebuild (the ONNX file is open)"
        if open_model
        else "only who has the ONNX file; anyone else: opgate circuit compile-check"
    )
    if kind != "ceremony" and open_model:
        who += ", with the owner's development SRS"
    console.print(f"[bold]rebuilds it[/]  {who}", markup=True)


def print_cost(console: Console, record: CostRecord) -> None:
    """What a proof was predicted to cost, and what one did cost."""
    table = Table("", "prove s", "memory MB", "proving key MB", "gas", "code bytes", box=None)
    for title, cost in (("predicted", record.predicted), ("measured", record.measured)):
        memory, pk = f"{cost.memory_bytes / 1e6:.0f}", f"{cost.pk_bytes / 1e6:.1f}"
        table.add_row(title, cost.prove_seconds, memory, pk, f"{cost.gas:,}", f"{cost.code_bytes:,}")
    console.print(f"[bold]cost[/]         on {record.machine}")
    console.print(table)


def print_fidelity(console: Console, record: FidelityCertificate) -> None:
    """How close the circuit is to the model, on which samples, and for which inputs."""
    console.print(
        f"[bold]fidelity[/]     {record.samples} samples: largest error {record.max_error}, "
        f"mean {record.mean_error}, same argmax {float(record.agreement):.1%}"
    )
    for title, ranges in (("shown to take", record.domain), ("seen to give", record.outputs)):
        spans = ", ".join(f"{each.name} from {int(each.least)} to {int(each.greatest)}" for each in ranges)
        console.print(f"             {title} {spans} (integers)", markup=False)
    console.print(f"             headroom: {record.headroom_bits} bits above the largest value seen")
    if record.acceptance is not None:
        accepted = record.acceptance
        console.print(
            f"             acceptance set of {accepted.samples}: largest error {accepted.max_error}, "
            f"same argmax {float(accepted.agreement):.1%}"
        )
    for change in record.rewrites:
        console.print(f"             rewrite: {change}", markup=False)
