"""Processes of the demo: each actor is an `opgate` command of its own, told apart by URL and files only.

Every process carries a mark in its environment. A run that was killed leaves processes behind; the next one finds them
by the mark and ends them, whatever their ids are now.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]  # its types are a separate package

from verifier.errors import ServiceError
from workers.dev.supervisor import stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MARK = "OPGATE_DEMO_STAGE"
_READY_SECONDS = 90.0
_CALL_SECONDS = 240.0
_POLL_SECONDS = 0.1
_WATCH_SECONDS = 1.0


class Refused(Exception):  # noqa: N818 - a command's answer, not a failure of the demo
    """A command ended with an exit code other than 0; `answer` is its JSON, `code` the error's."""

    def __init__(self, exit_code: int, answer: dict[str, Any]) -> None:
        """Keep what the command said."""
        error = answer.get("error", answer)
        self.exit_code, self.answer = exit_code, answer
        self.code = str(error.get("code") or "")
        super().__init__(f"exit {exit_code}: {self.code} {error.get('message', '')}")


class Actors:
    """All processes of one demo; leaving the context ends them."""

    def __init__(self, stage: Path) -> None:
        """Take the demo's folder, which is the mark."""
        self.stage = stage
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *words: str, environment: Mapping[str, str]) -> None:
        """Start an actor that lives on; its output goes to `logs/<name>.log`."""
        log = self.stage / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            self._running[name] = subprocess.Popen(
                _command(words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(environment),
                start_new_session=True,
            )

    def begin(
        self, *words: str, environment: Mapping[str, str], through: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a command that ends by itself and prints JSON; `finish` waits for it. `through` is put before it."""
        return subprocess.Popen(
            [*through, *_command((*words, "--json"))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(environment),
        )

    def finish(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        """The JSON of a command; Refused where it says no, W-demo-actor where an actor dies while it runs."""
        end = time.monotonic() + _CALL_SECONDS
        while True:
            try:
                output, errors = process.communicate(timeout=_WATCH_SECONDS)
                break
            except subprocess.TimeoutExpired:
                self._watch()
            if time.monotonic() > end:
                process.kill()
        try:
            answer = json.loads(output.strip().splitlines()[-1])
        except (ValueError, IndexError):
            answer = {"message": errors.decode(errors="replace").strip()[-500:]}
        if process.returncode != 0:
            raise Refused(process.returncode, answer)
        return dict(answer)

    def call(self, *words: str, environment: Mapping[str, str], through: tuple[str, ...] = ()) -> dict[str, Any]:
        """Run a command to its end and give its JSON."""
        return self.finish(self.begin(*words, environment=environment, through=through))

    def kill(self, name: str) -> None:
        """SIGKILL an actor with all that it started, as a crash or an attacker would."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait_for(self, actor: str, beginning: str) -> str:
        """The line of this beginning that an actor prints once it is ready; W-demo-actor where it ends before."""
        end, log = time.monotonic() + _READY_SECONDS, self.stage / "logs" / f"{actor}.log"
        while True:
            lines = log.read_text(errors="replace").splitlines()
            found = next((line for line in lines if line.startswith(beginning)), None)
            if found is not None:
                return found
            if self._running[actor].poll() is not None or time.monotonic() > end:
                break
            time.sleep(_POLL_SECONDS)
        last = lines[-1:]
        raise ServiceError("W-demo-actor", f"{actor} did not start", where=str(log), found=" ".join(last)[:300])

    def _watch(self) -> None:
        """No command waits for an actor that is gone."""
        for name, process in self._running.items():
            if process.poll() is not None:
                where, found = str(self.stage / "logs" / f"{name}.log"), f"exit code {process.returncode}"
                raise ServiceError("W-demo-actor", f"{name} ended in the middle", where=where, found=found)

    def stop(self) -> None:
        """End every actor: first politely, so that the network can close its files."""
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.terminate()
        for process in self._running.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
        self._running.clear()
        end_marked(self.stage)

    def _environment(self, own: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OPGATE_")}
        modules = os.environ.get("OPGATE_NODE_MODULES")
        # Celery writes its title by setproctitle where that is installed, which would take the mark's place.
        mark = {MARK: str(self.stage), "SPT_NOENV": "1"}
        return kept | ({"OPGATE_NODE_MODULES": modules} if modules else {}) | dict(own) | mark


@contextmanager
def on_stage(stage: Path) -> Iterator[Actors]:
    """The actors of a demo folder, alone in it, after what an earlier run left has been ended."""
    stage.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (stage / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                "W-demo-running", "another demo runs in this folder", where=str(stage), do="Wait, or give --home"
            ) from None
        end_marked(stage)
        actors = Actors(stage)
        try:
            yield actors
        finally:
            actors.stop()


def end_marked(stage: Path) -> None:
    """SIGKILL every process that carries the mark of this folder, but this one; then end the folder's dev network.

    Redis writes its title over its environment, mark included: it is known by its pid file alone.
    """
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(stage):
                process.kill()
        except psutil.Error:
            continue
    stop(stage / "network")


def _command(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "verifier.cli.root", *words]
