"""The four jobs: paid by signature, paid by proof, reclaimed, declined. Each step is an `opgate pay` process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from verifier.errors import ServiceError
from workers.demo.report import JobResult
from workers.demo.setting import EXAMPLE, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INPUT = EXAMPLE / "input.json"
HONEST_SECONDS = 150
"""Deadline of the job that the attacks are tried on."""
_PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.5


def order(stage: Stage, *, provider: str = "provider", seconds: int = 0) -> dict[str, Any]:
    """Quote, check, upload, accept and fund: from then on the provider works."""
    words = ("pay", "buy", "--circuit", stage.circuit_id, "--input", str(INPUT), "--stop-after", "fund")
    return stage.actors.call(*words, "--seconds", str(seconds), environment=stage.as_payer(provider))


def status(stage: Stage, job_id: str) -> dict[str, Any]:
    """Where a job stands; a closed one is archived by this, with the chain's evidence."""
    return stage.actors.call("pay", "status", job_id, environment=stage.as_payer())


def until_closed(stage: Stage, job_id: str) -> dict[str, Any]:
    """Wait for the chain to close a job."""
    return _until(lambda: _closed(status(stage, job_id)), f"job {job_id} was not closed")


def begin_vanishing(stage: Stage) -> dict[str, Any]:
    """Job c: a provider takes the job and is gone."""
    job = order(stage, provider="vanishing")
    stage.actors.kill("vanishing")
    stage.tell.line("payer", f"c: job {job['job_id'][:18]}… funded, and its provider vanishes (kill -9)")
    return job


def begin_silent(stage: Stage) -> dict[str, Any]:
    """Job b: the payer funds and says nothing more."""
    job = order(stage)
    stage.tell.line("payer", f"b: job {job['job_id'][:18]}… funded, and the payer falls silent")
    return job


def decline(stage: Stage) -> None:
    """Job d: the provider gives the job up before it is proved, and the money is back at once."""
    started = time.monotonic()
    job = order(stage)
    stage.actors.call("provider", "decline", job["job_id"], environment=stage.as_provider("provider"))
    closed = until_closed(stage, job["job_id"])
    tell_job(stage, "d declined", closed, {"order": _total(job), "decline": time.monotonic() - started})


def prove_honest(stage: Stage, bundle: Path) -> dict[str, Any]:
    """Job a up to the delivered bundle, which is verified and kept, and not released yet."""
    words = ("pay", "buy", "--circuit", stage.circuit_id, "--input", str(INPUT), "--stop-after", "verify")
    job = stage.actors.call(*words, "--seconds", str(HONEST_SECONDS), environment=stage.as_payer())
    stage.actors.call("pay", "fetch", job["job_id"], "--out", str(bundle), environment=stage.as_payer())
    digit = max(range(10), key=job["outputs"][0][1].__getitem__)
    stage.tell.line("payer", f"a: job {job['job_id'][:18]}… funded, proved, fetched, verified: the image is a {digit}")
    return job


def finish_honest(stage: Stage, job: dict[str, Any]) -> None:
    """Job a, after all attacks: the payer's gate signs, the provider submits."""
    started = time.monotonic()
    stage.actors.call("pay", "release", job["job_id"], environment=stage.as_payer())
    closed = until_closed(stage, job["job_id"])
    seconds = dict(job["seconds"]) | {"release": time.monotonic() - started}
    tell_job(stage, "a signature", closed, seconds)


def finish_silent(stage: Stage, job: dict[str, Any], started: float) -> None:
    """Job b: the provider sends the proof to the chain before the deadline; the payer's archive gets it from there."""
    closed = until_closed(stage, job["job_id"])
    tell_job(stage, "b proof", closed, {"order": _total(job), "closed": time.monotonic() - started})


def reclaim(stage: Stage, job: dict[str, Any]) -> None:
    """Job c, after the deadline: the payer takes the money back."""
    started = time.monotonic()
    closed = stage.actors.call("pay", "reclaim", job["job_id"], environment=stage.as_payer())
    tell_job(stage, "c reclaim", closed, {"order": _total(job), "reclaim": time.monotonic() - started})


def tell_job(stage: Stage, name: str, closed: dict[str, Any], seconds: dict[str, float]) -> None:
    """Report how a job ended, as the chain and the payer's archive have it."""
    stage.tell.job(
        JobResult(
            name=name,
            job_id=closed["job_id"],
            closed_by=closed["closed_by"],
            paid_wei=closed["paid_wei"],
            gas=closed["gas"],
            seconds={phase: round(value, 2) for phase, value in seconds.items()},
        )
    )


def _closed(answer: dict[str, Any]) -> dict[str, Any] | None:
    return answer if answer.get("closed_by") else None


def _total(job: dict[str, Any]) -> float:
    return float(sum(job["seconds"].values()))


def _until(ask: Callable[[], dict[str, Any] | None], failure: str) -> dict[str, Any]:
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(_POLL_SECONDS)
    raise ServiceError("W-demo-late", failure, expected=f"within {_PATIENCE_SECONDS:.0f} s")
