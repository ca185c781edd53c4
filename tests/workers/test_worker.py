"""Real workers under a real Redis: killed, frozen, given the same job twice. A job is done once and paid once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import redis

from tests.workers.shop import Shop, make_shop
from verifier.archive.log import Archive
from verifier.errors import ServiceError
from workers.app import CeleryBroker, make_app
from workers.config import QUEUE
from workers.jobs import Job, JobState
from workers.store import Message
from workers.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def real(tmp_path: Path, redis_url: str) -> Iterator[Shop]:
    """A provider whose broker is Redis and whose clock is the real one; T is 24 s, so a lease is 4 s."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    made = make_shop(tmp_path / "home", broker_url=redis_url, job_seconds=24)
    tick(made)
    yield made
    made.store.close()


def tick(shop: Shop) -> None:
    shop.time = shop.escrow.time = int(time.time())


def broker(shop: Shop) -> CeleryBroker:
    return CeleryBroker(make_app(shop.settings))


def sweep(shop: Shop) -> None:
    tick(shop)
    sweeper: Sweeper = replace(shop.sweeper(), broker=broker(shop))
    sweeper.sweep()


def funded(shop: Shop) -> Job:
    tick(shop)
    job = shop.accepted(deadline_in=300)
    shop.escrow.fund(job.terms)
    sweep(shop)
    sweep(shop)
    return job


def until(shop: Shop, condition: Callable[[], bool], *, seconds: float = 40, sweeping: bool = True) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        if sweeping:
            sweep(shop)
        time.sleep(0.2)


@contextmanager
def worker(shop: Shop, *prover: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker as `opgate worker` starts it, but for the toy prover."""
    words = ["-m", "celery", "-A", "tests.workers.worker_main", "worker", "--pool=prefork", "--concurrency=1"]
    words += ["--queues", QUEUE, "--without-gossip", "--without-mingle", "--loglevel=WARNING"]
    environment = os.environ | {
        "OPGATE_HOME": str(shop.settings.home),
        "OPGATE_BROKER_URL": str(shop.settings.broker_url),
        "OPGATE_JOB_SECONDS": str(shop.settings.job_seconds),
        "OPGATE_TEST_PROVER": json.dumps(prover),
    }
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        kill_all(process)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of a worker and whatever it started; nothing is left behind by a test."""
    try:
        everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        everyone = []
    for each in everyone:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def pool_child(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The prefork child that runs the tasks."""
    return psutil.Process(process.pid).children()[0]


def intents(shop: Shop, job: Job) -> int:
    archive = Archive.open(shop.settings.archive_folder)
    return sum(entry.kind == "intent" and entry.job_id == job.job_id for _, entry in archive.entries())


def test_a_worker_proves_what_is_queued_and_answers_the_canary(real: Shop) -> None:
    job = funded(real)
    with worker(real):
        until(real, lambda: real.now(job).state is JobState.PROVED)
        until(real, lambda: real.store.marked("canary") is not None)
    assert real.now(job).attempts == 1


def test_a_killed_worker_child_costs_an_attempt_and_the_job_is_done_once(real: Shop, tmp_path: Path) -> None:
    """kill -9 in the middle: the message comes back, the lease has to lapse, and the prover must not live on."""
    started = tmp_path / "started"
    job = funded(real)
    with worker(real, "--seconds", "3", "--started", str(started)) as process:
        until(real, lambda: started.exists() and bool(started.read_text()), sweeping=False)
        prover = psutil.Process(int(started.read_text().split()[0]))
        pool_child(process).kill()
        prover.wait(5)
        until(real, lambda: real.now(job).state is JobState.PROVED)
    assert real.now(job).attempts == 2
    assert intents(real, job) == 1


def test_a_killed_worker_is_replaced_by_another_one(real: Shop, tmp_path: Path) -> None:
    """The whole worker dies, message and all: only the database knows of the job."""
    started = tmp_path / "started"
    job = funded(real)
    with worker(real, "--seconds", "30", "--started", str(started)) as process:
        until(real, lambda: started.exists() and bool(started.read_text()), sweeping=False)
        kill_all(process)
        with redis.Redis.from_url(str(real.settings.broker_url)) as client:
            client.flushall()
        with worker(real):
            until(real, lambda: real.now(job).state is JobState.PROVED)
    assert intents(real, job) == 1


def test_a_frozen_worker_wakes_up_and_writes_nothing(real: Shop, tmp_path: Path) -> None:
    """The trap: a worker that was only slow comes back after another one did its job, and overwrites the outcome."""
    started = tmp_path / "started"
    job = funded(real)
    with worker(real, "--seconds", "2", "--started", str(started)) as frozen:
        until(real, lambda: started.exists() and bool(started.read_text()), sweeping=False)
        child = pool_child(frozen)
        psutil.Process(frozen.pid).suspend()
        child.suspend()
        with worker(real):
            until(real, lambda: real.now(job).state is JobState.PROVED)
        before = (real.now(job), real.store.bundle(job.job_id))
        child.resume()
        psutil.Process(frozen.pid).resume()
        until(real, lambda: not child.children(), sweeping=False)
        time.sleep(1)
        assert (real.now(job), real.store.bundle(job.job_id)) == before
    assert intents(real, job) == 1


def test_the_same_message_many_times_is_one_job(real: Shop) -> None:
    job = funded(real)
    for number in range(5):
        broker(real).send(Message(f"copy-{number}", job.job_id))
    with worker(real):
        until(real, lambda: real.now(job).state is JobState.PROVED)
        until(real, lambda: broker(real).depth() == 0, sweeping=False)
    assert real.now(job).attempts == 1
    assert intents(real, job) == 1


def test_a_failing_job_stops_at_the_cap_and_is_declined(real: Shop) -> None:
    job = funded(real)
    with worker(real, "--fail"):
        until(real, lambda: real.now(job).state is JobState.DECLINED)
    assert real.now(job).attempts == real.settings.limits.attempts
    assert real.escrow.calls == ["fund", "decline"]


def test_a_broker_that_is_away_is_one_error_of_ours(real: Shop) -> None:
    gone = make_shop(real.settings.home / "gone", broker_url="redis://127.0.0.1:1/0")
    with pytest.raises(ServiceError, match="W-broker"):
        broker(gone).send(Message("x", funded(real).job_id))
    with pytest.raises(ServiceError, match="W-broker"):
        broker(gone).depth()
    gone.store.close()
