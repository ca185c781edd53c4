"""`opgate verify` and `opgate explain`: a bundle file against the circuits and the policy that the reader holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from verifier.bundles import read_bundle
from verifier.circuit import find_circuit
from verifier.cli.policy import load_policy
from verifier.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNDECIDED, OpgateError
from verifier.statement import canonical
from verifier.statement.scalars import Text
from verifier.statement.verdict import Outcome, Verdict
from verifier.tensors import dequantise
from verifier.verify import verify

if TYPE_CHECKING:
    from verifier.circuit import Circuit
    from verifier.policy import Policy
    from verifier.statement.bundle import ProofBundle

EXIT_OF = {"VALID": EXIT_DONE, "INVALID": EXIT_REFUSED, "UNDECIDED": EXIT_UNDECIDED}

app = typer.Typer(add_completion=False)
explain_app = typer.Typer(add_completion=False)

BundleFile = Annotated[Path, typer.Argument(exists=True, help="The bundle, a canonical JSON file.")]
Circuits = Annotated[
    Path,
    typer.Option(help="The folder of circuits that you hold: <circuit_id>/{manifest.json, verifier.bin, records/}."),
]
PolicyFile = Annotated[Path, typer.Option(help="Your policy, a TOML file (or the canonical JSON of an archive).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]


@app.command()
def verify_command(bundle: BundleFile, circuits: Circuits, policy: PolicyFile, *, as_json: AsJson = False) -> None:
    """Verify a bundle: does this proof show that this circuit gave these outputs for this job?

    Runs the circuit's pinned EVM code in this process. Needs no network, no key and no ezkl.
    Exit 0 VALID, 1 INVALID, 2 usage, 3 UNDECIDED.
    """
    verdict = verdict_of(bundle, circuits, load_policy(policy))
    if as_json:
        typer.echo(json.dumps(canonical.to_builtins(verdict)))
    else:
        print_verdict(Console(), verdict)
    raise typer.Exit(EXIT_OF[verdict.outcome])


def verdict_of(path: Path, circuits: Path, policy: Policy) -> Verdict:
    """Read and verify one file: step 0 and then steps 1 to 8; bytes that cannot be read give a verdict too."""
    try:
        unverified_bundle = read_bundle(path)
    except OpgateError as error:
        return _unread(error, "INVALID")
    try:
        circuit = find_circuit(circuits, unverified_bundle.circuit_id)
    except OpgateError as error:
        # a circuit folder of ours that cannot be read says nothing about the bundle
        return _unread(error, "UNDECIDED")
    return verify(unverified_bundle, circuit, policy)


@explain_app.command()
def explain_command(
    bundle: BundleFile,
    circuits: Annotated[Path | None, typer.Option(help="Your circuits, to give outputs in the model's units.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Your policy; with it the bundle is verified too.")] = None,
) -> None:
    """Say in words who promised what to whom, what the output means, what is shown and what is not."""
    unverified_bundle = read_bundle(bundle)
    console = Console()
    circuit = find_circuit(circuits, unverified_bundle.circuit_id) if circuits else None
    _print_claim(console, unverified_bundle, circuit)
    if circuit is None or policy is None:
        console.print("\nNothing of this was verified: give --circuits and --policy to verify it.")
        return
    verdict = verify(unverified_bundle, circuit, load_policy(policy))
    console.print()
    print_verdict(console, verdict)
    raise typer.Exit(EXIT_OF[verdict.outcome])


def _unread(error: OpgateError, outcome: Outcome) -> Verdict:
    message = "".join(c if c.isprintable() else "?" for c in str(error))[:256]
    return Verdict(
        outcome=outcome,
        job_id=None,
        assurance=None,
        checked=None,
        shown=(),
        not_shown=(),
        code=Text(error.code),
        message=Text(message),
    )


def print_verdict(console: Console, verdict: Verdict) -> None:
    """A verdict for people: the outcome, what it rests on, what is shown and what is not."""
    colour = {"VALID": "green", "INVALID": "red", "UNDECIDED": "yellow"}[verdict.outcome]
    console.print(f"[bold {colour}]{verdict.outcome}[/]" + (f"  {verdict.code}" if verdict.code else ""))
    if verdict.message:
        console.print(verdict.message, style=colour, markup=False)
    if verdict.job_id:
        console.print(f"job        {verdict.job_id}", highlight=False)
    if verdict.checked:
        console.print(f"circuit    {verdict.checked.circuit_id}  ({verdict.assurance})", highlight=False)
        console.print(f"policy     {verdict.checked.policy_sha256}", highlight=False)
    for title, lines in (("shown", verdict.shown), ("not shown", verdict.not_shown)):
        for line in lines:
            console.print(f"{title:<10} {line}", highlight=False, markup=False)


def _print_claim(console: Console, bundle: ProofBundle, circuit: Circuit | None) -> None:
    terms = bundle.terms
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = (
        ("job", str(bundle.job_id)),
        ("circuit", str(bundle.circuit_id)),
        ("escrow", f"{bundle.domain.verifying_contract} on chain {bundle.domain.chain_id}"),
        ("payer", f"{terms.payer} promises {terms.amount} wei of {terms.token}"),
        ("provider", f"{terms.provider} promises a proved output, to be paid to {terms.payee}"),
        ("until", f"fund before {terms.fund_by}, release before {terms.deadline} (Unix seconds)"),
        ("origin", "delivered by the provider" if bundle.origin == "delivered" else "read from the chain"),
        ("proof", f"{len(bundle.proof)} bytes"),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    specs = circuit.manifest.outputs if circuit and len(circuit.manifest.outputs) == len(bundle.outputs) else None
    for index, values in enumerate(bundle.outputs):
        if specs:
            numbers = ", ".join(f"{value:.6g}" for value in dequantise(values, int(specs[index].scale))[:32])
            console.print(f"output {specs[index].name}: {numbers}", markup=False)
        else:
            numbers = ", ".join(str(int(value)) for value in values[:32])
            console.print(f"output {index} (quantised integers): {numbers}", markup=False)
