"""The demo as a user runs it: every job and attack on the running system, twice in a row, and after kill -9.

The first demo is left whole; in the second one process is killed in the middle, and a third must end well all the same.
These are the attacks of the issue as tests: real proofs, real escrow, separate processes, no simulator.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from verifier.statement import canonical
from workers.demo.actors import MARK, end_marked
from workers.dev.processes import read_identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)

DEMO_SECONDS = 400
ATTACKS = {
    "output changed": ("V7-proof", "E-proof"),
    "one instance more": ("V5-instance-count", "E-call-length"),
    "the proof of another job": ("V7-proof", "E-job-limbs"),
    "the proof of another circuit with the same shape": ("V7-proof", "E-proof"),
    "manifest swapped for another output scale": ("V1-circuit-id", None),
    "trailing bytes": ("V7-proof-length", "E-call-length"),
    "junk from a stranger": ("V0-json", None),
    "release after the deadline": ("E-late", "E-late"),
}
JOBS = {
    "a signature": ("signature", 5 * 10**18),
    "b proof": ("proof", 5 * 10**18),
    "c reclaim": ("reclaim", 0),
    "d declined": ("decline", 0),
}
# What runs in the middle of a demo, by words of its command line; Redis by its pid file, it has no environment.
VICTIMS = {
    "demo": "verifier.cli.root demo",
    "network": "verifier.cli.root dev",
    "chain": "chain_server",
    "redis": "redis.json",
    "provider": "serve --port",
    "worker": "celery",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    end_marked((folder / "demo").absolute())


def start(home: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "verifier.cli.root", "demo", "--home", str(home), "--json", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=DEMO_SECONDS)
    assert process.returncode == 0, output.decode()[-2000:] + errors.decode()[-2000:]
    return dict(json.loads(output))


def check(told: dict[str, Any]) -> None:
    jobs = {job["name"]: (job["closed_by"], int(job["paid_wei"])) for job in told["jobs"]}
    assert jobs == JOBS
    assert all(job["gas"] > 21_000 and job["job_id"].startswith("0x") for job in told["jobs"])
    attacks = {attack["name"]: (attack["code"], attack["on_chain"]) for attack in told["attacks"]}
    assert attacks == ATTACKS
    assert [attack["paid"] for attack in told["attacks"]] == [False] * len(ATTACKS)
    assert told["audit"]["clean"] is True
    damage = {item["kind"]: item["code"] for item in told["audit"]["damage_found"]}
    assert damage == {"flipped byte": "A-blob-damaged", "removed entry": "A-entry-missing"}


def opgate(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "verifier.cli.root", *words], capture_output=True, text=True, check=False
    )


def test_the_story_ends_well_and_what_it_keeps_can_be_verified(home: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    told = finish(start(home, "--keep", str(kept)))
    check(told)
    against = ("--circuits", str(kept / "circuits"), "--policy", str(kept / "policy.toml"), "--json")
    origins = set()
    for bundle in sorted((kept / "bundles").glob("*.json")):
        done = opgate("verify", str(bundle), *against)
        assert done.returncode == 0, done.stdout + done.stderr
        origins.add(json.loads(bundle.read_bytes())["origin"])
    assert origins == {"delivered", "chain"}
    altered = kept / "altered.json"
    value = json.loads((kept / "bundles" / "a.json").read_bytes())
    value["outputs"][0][0] = str(int(value["outputs"][0][0]) + 1)
    altered.write_bytes(canonical.encode(value))
    done = opgate("verify", str(altered), *against)
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "V3-delivery"
    assert opgate("audit", str(kept / "archive")).returncode == 0
    assert (kept / "inputs" / "a.json").is_file()


def test_offline_really_offline(home: Path) -> None:
    """The audit in a network namespace that has no interface: nothing can be asked of anyone."""
    archive = home / "demo" / "payer" / "payer" / "archive"
    command = ["unshare", "-rn", sys.executable, "-m", "verifier.cli.root", "audit", str(archive), "--json"]
    probe = subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True)
    if probe.returncode != 0:
        from tests.services import missing_service  # noqa: PLC0415 - only where it is needed

        missing_service("unshare -rn", "allow user namespaces")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["verified"] >= 2


@pytest.mark.parametrize("victim", VICTIMS if os.environ.get("OPGATE_LONG") else ("demo", "chain"))
def test_a_second_run_ends_well_after_kill_9(home: Path, victim: str) -> None:
    """The first run may end with an error, it may not pay an attack, and the next one is whole.

    All six processes take half an hour and are in `make long`; the two that hold state are in every run. A worker's
    death alone is in every run too, in `tests/workers/test_worker.py`.
    """
    first = start(home)
    killed = kill_in_the_middle(home / "demo", VICTIMS[victim], first)
    assert killed, f"{victim} was never seen"
    output, _ = first.communicate(timeout=DEMO_SECONDS)
    if output:
        told = json.loads(output)
        assert not any(attack["paid"] for attack in told.get("attacks", ()))
        if victim == "worker":  # nobody starts it again: the demo says so at once instead of waiting for its proofs
            assert told["error"]["code"] == "W-demo-actor"
    check(finish(start(home)))


def kill_in_the_middle(stage: Path, words: str, demo: subprocess.Popen[bytes]) -> bool:
    """SIGKILL the process of these words once the first job is funded and a bundle is on its way."""
    end = time.monotonic() + DEMO_SECONDS
    while time.monotonic() < end and demo.poll() is None:
        victims = [demo.pid] if words.endswith("root demo") else marked(stage, words)
        if victims and working(stage):
            os.kill(victims[0], signal.SIGKILL)
            return True
        time.sleep(0.2)
    return False


def working(stage: Path) -> bool:
    log = stage / "logs" / "worker.log"
    return log.is_file() and "job taken" in log.read_text(errors="replace")


def marked(stage: Path, words: str) -> list[int]:
    if words == "redis.json":
        redis = read_identity(stage / "network" / "dev" / "pids" / words)
        return [redis.pid] if redis and redis.process() else []
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(stage.absolute()) and words in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
