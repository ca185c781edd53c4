"""Waiting for a provider and for a chain, with a bar for people. A provider's word decides nothing."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from verifier.errors import GateError, UndecidedError
from verifier.payment.states import JobState
from verifier.statement.certificates import CostRecord

if TYPE_CHECKING:
    from rich.console import Console

    from verifier.payer.provider import Provider
    from verifier.payer.purchase import Payer
    from verifier.payment.ledger import PayerJob
    from verifier.statement.scalars import Bytes32

_POLL_S = 0.3
_UNKNOWN_S = 10.0


def wait_for_bundle(console: Console, payer: Payer, remote: Provider, job: PayerJob, *, quiet: bool) -> str:
    """Poll until there is a bundle; the bar is the owner's measured seconds, where a cost record tells them."""
    records = (signed.record for signed in payer.circuit_of(job).records)
    cost = next((float(record.measured.prove_seconds) for record in records if isinstance(record, CostRecord)), 0.0)
    expected = cost or _UNKNOWN_S
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet,
    ) as progress:
        task = progress.add_task(f"proving, about {expected:.0f} s", total=expected)
        started = time.monotonic()
        while True:
            answer = _ask_state(remote, job.job_id)
            state = _state_word(answer.get("state"))
            if answer.get("bundle_sha256") or state in ("declined", "failed", "expired") or state.startswith("closed"):
                return state
            if time.time() >= job.terms.terms.deadline:
                raise GateError(
                    "G-deadline",
                    "the deadline passed without a bundle",
                    found=state,
                    do=f"opgate pay reclaim {job.job_id}",
                )
            progress.update(
                task, completed=min(time.monotonic() - started, expected * 0.98), description=f"{state:<10}"
            )
            time.sleep(_POLL_S)


def _state_word(said: object) -> str:
    """The provider's word for a state, where it is one: it goes to a terminal, and into rich's markup."""
    return said if isinstance(said, str) and re.fullmatch(r"[a-z_]{1,40}", said) else "unknown"


def _ask_state(remote: Provider, job_id: Bytes32) -> dict[str, Any]:
    """The provider's word, or none while it does not answer: it may come back before the deadline."""
    try:
        return remote.job(job_id)
    except UndecidedError:
        return {"state": "unreachable"}


def wait_until_closed(payer: Payer, job: PayerJob) -> None:
    """Poll the escrow until the job is closed; GateError G-deadline where that does not happen in time."""
    while payer.state(job) is JobState.FUNDED:
        if time.time() >= job.terms.terms.deadline:
            raise GateError("G-deadline", "the deadline passed before the release was sent", where=str(job.job_id))
        time.sleep(_POLL_S)
