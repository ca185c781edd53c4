"""`opgate demo`: one story on one machine, with real proofs, a real escrow and separate processes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifier.archive.log import Archive
from verifier.errors import EXIT_REFUSED, ServiceError
from verifier.statement.scalars import Bytes32
from workers.demo import story
from workers.demo.actors import Actors, Refused, on_stage
from workers.demo.attacks import open_attacks
from workers.demo.auditing import audit
from workers.demo.report import Teller
from workers.demo.setting import Stage, set_stage

if TYPE_CHECKING:
    from typing import Any

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    home: Annotated[
        Path, typer.Option(envvar="OPGATE_HOME", help="State; the demo keeps to its folder `demo`.")
    ] = Path(".opgate"),
    keep: Annotated[Path | None, typer.Option(help="Leave bundles, circuits, policy, archive and inputs here.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Tell the whole story in about two minutes: four jobs, eight attacks, an audit.

    Exit 0 where every attack stayed unpaid and the audit passed and found the damage, else 1.
    """
    tell = Teller(quiet=as_json)
    with on_stage((home / "demo").absolute()) as actors:
        try:
            run(actors, tell, keep)
        except Refused as error:
            raise ServiceError(
                "W-demo-step",
                "a step of the demo was refused",
                where=str(actors.stage / "logs"),
                found=str(error)[:400],
            ) from error
    if as_json:
        typer.echo(tell.to_json())
    took = time.monotonic() - tell.started
    tell.console.print(f"\n[bold]{'All as it must be' if tell.sound else 'SOMETHING IS WRONG'}[/], {took:.0f} s")
    if not tell.sound:
        raise typer.Exit(EXIT_REFUSED)


def run(actors: Actors, tell: Teller, keep: Path | None) -> None:
    """The story: deadlines of b and c run while the attacks are tried on a."""
    stage = set_stage(actors, tell, actors.stage)
    tell.title("Jobs, each 5 OPG")
    bundle = stage.home / "a.json"
    with tell.doing("four jobs are ordered, one is proved", 20):
        vanished = story.begin_vanishing(stage)
        silent_since = time.monotonic()
        silent = story.begin_silent(stage)
        story.decline(stage)
        honest = story.prove_honest(stage, bundle)
    tell.title("Attacks on job a, which is funded and proved, and on job c")
    with open_attacks(stage, bundle) as attacks, tell.doing("eight attacks, the last at the deadline of job c", 25):
        attacks.output_changed()
        attacks.one_more()
        attacks.proof_of_another_job(silent["job_id"])
        attacks.proof_of_another_circuit()
        attacks.manifest_swapped()
        attacks.trailing_bytes()
        attacks.junk()
        attacks.release_after_deadline(vanished["job_id"])
    tell.title("How the jobs end")
    with tell.doing("release, proof on chain, reclaim", 10):
        story.finish_honest(stage, honest)
        story.finish_silent(stage, silent, silent_since)
        story.reclaim(stage, vanished)
    tell.title("Audit of the payer's archive, years later")
    audit(stage)
    if keep is not None:
        leave(stage, keep, {"a": honest["job_id"], "b": silent["job_id"]})
        tell.line("kept", f"opgate verify {keep}/bundles/a.json --circuits {keep}/circuits --policy {keep}/policy.toml")


def leave(stage: Stage, keep: Path, bundles: dict[str, Any]) -> None:
    """Copy what a reader needs to check everything again: nothing of it is secret."""
    archive = stage.party("payer") / "payer" / "archive"
    for name in ("bundles", "inputs"):
        (keep / name).mkdir(parents=True, exist_ok=True)
    opened = Archive.open(archive)
    for _, entry in opened.entries():
        for name, job_id in bundles.items():
            if entry.kind == "settled" and entry.job_id == Bytes32.from_json(job_id):
                (keep / "bundles" / f"{name}.json").write_bytes(opened.blob(entry.digests["bundle"]))
    shutil.copy(stage.policy, keep / "policy.toml")
    shutil.copy(story.INPUT, keep / "inputs" / "a.json")
    for source, target in ((archive, keep / "archive"), (stage.payer_circuits, keep / "circuits")):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
