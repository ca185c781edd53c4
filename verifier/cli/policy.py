"""`opgate policy`: what a policy file accepts, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verifier.errors import UsageError, VerifierError
from verifier.policy import ANY, CircuitRule, Policy
from verifier.sentences import BY_ASSURANCE
from verifier.statement import canonical

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Check a policy file and say what it accepts.")


def load_policy(path: Path) -> Policy:
    """The policy of a file, for a command; UsageError where it is none, since then nothing can be judged."""
    try:
        return Policy.load(path)
    except VerifierError as error:
        raise UsageError(
            error.code, error.message, where=error.where, expected=error.expected, found=error.found, do=error.do
        ) from error


@app.callback()
def policy_group() -> None:
    """Check a policy file and say what it accepts."""


@app.command()
def check(
    policy: Annotated[Path, typer.Argument(exists=True, help="The policy, a TOML file.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the canonical policy and its digest.")] = False,
) -> None:
    """Read a policy and explain it: which chains, circuits, signers, providers and amounts it takes."""
    read = load_policy(policy)
    if as_json:
        typer.echo(json.dumps({"digest": str(read.digest), "policy": canonical.to_builtins(read)}))
        return
    console = Console(highlight=False)
    console.print(f"policy {read.digest}")
    for escrow in read.chains.escrows:
        development = "development SRS allowed" if escrow.chain_id in read.chains.dev_chains else "ceremony SRS only"
        console.print(f"escrow    {escrow.escrow} on chain {escrow.chain_id}, token {escrow.token} ({development})")
    for name, rule in read.circuits.items():
        console.print(f"circuit   {'any other' if name == ANY else name}: {_words(rule)}")
        console.print(f"          {rule.assurance}: {BY_ASSURANCE[rule.assurance]}")
    console.print(f"rebuilt   counts when signed by {_names(read.records.keys)}")
    console.print(f"owner     records count when signed by {_names(read.records.owners)}")
    console.print(f"provider  {_names(read.providers.allowed) if read.providers.allowed else 'any'}")
    caps = read.amounts
    of_day = f"per provider and day {_cap(caps.per_provider)}, per day {_cap(caps.per_day)}"
    console.print(f"amount    per job {_cap(caps.per_job)}, {of_day}")
    for depth in caps.depths or ():
        console.print(f"depth     {depth.blocks} blocks on top of a funding of {depth.amount} wei or more")
    if read.opinions.required:
        console.print(f"opinions  of {', '.join(read.opinions.required)} must agree")


def _words(rule: CircuitRule) -> str:
    error = f"error at most {rule.max_error}" if rule.max_error is not None else "any error"
    agreement = f"agreement at least {rule.min_agreement}" if rule.min_agreement is not None else "any agreement"
    inputs, versions = "/".join(rule.visibility), ", ".join(rule.ezkl_versions)
    samples = f" on at least {rule.min_samples} samples" if rule.max_error or rule.min_agreement else ""
    if rule.max_acceptance_error is not None:
        samples += f", acceptance error at most {rule.max_acceptance_error}"
    owners = f", attested by {_names(rule.owners)}" if rule.owners is not None else ""
    srs = f", SRS {'/'.join(rule.srs) or 'none'}" if rule.srs is not None else ""
    return (
        f"assurance {rule.assurance} or better{owners}, {error}, {agreement}{samples}, inputs {inputs}, "
        f"ezkl {versions}{srs}"
    )


def _names(addresses: tuple[object, ...]) -> str:
    return ", ".join(str(address) for address in addresses) or "nobody"


def _cap(amount: int | None) -> str:
    return "without cap" if amount is None else f"{amount} wei"
