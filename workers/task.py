"""The two Celery tasks. Each takes an id or nothing, and finds everything else in the database.

Nothing heavy is imported or opened in the worker's parent process: it only hands out messages. The child opens the
database after the fork, and proves in a process of its own (`workers.prover_process`); no signal is ever blocked.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from typing import TYPE_CHECKING

from verifier.statement.scalars import Bytes32
from workers.app import CANARY, PROVE, make_app
from workers.config import Settings
from workers.prover_process import PROVER
from workers.workshop import open_workshop

if TYPE_CHECKING:
    from celery import Celery  # type: ignore[import-untyped]  # celery publishes no types

    from workers.workshop import Workshop


def make_worker_app(settings: Settings, *, prover: tuple[str, ...] = PROVER) -> Celery:
    """The app with its tasks, for a worker that runs this prover."""
    app = make_app(settings)

    def prove(job_id: str) -> str:
        """Try a job; what comes of it is in the database."""
        return _workshop(os.getpid()).attempt(Bytes32.from_json(job_id), owner=f"{socket.gethostname()}:{os.getpid()}")

    def canary() -> None:
        """Note that a worker took a message just now."""
        _workshop(os.getpid()).store.mark("canary", now=int(time.time()))

    @functools.cache
    def _workshop(_process: int) -> Workshop:
        """One a process: a connection must not be shared by a fork."""
        return open_workshop(settings, prover=prover)

    app.task(prove, name=PROVE)
    app.task(canary, name=CANARY)
    return app
