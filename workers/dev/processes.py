"""Child processes that outlive a killed parent: each is known by its process id and start time, kept in a file.

A process id alone is not enough: after a reboot, or a long day, another process has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]  # its types are a separate package

from verifier.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "127.0.0.1"
_CLOCK_SLACK = 1.0
"""Seconds by which two readings of one start time may differ: it is computed from the boot time."""
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_MAX_PIDFILE = 4096


@dataclass(frozen=True)
class Identity:
    """One process, also after others have come and gone with its id; `port` is what it was told to listen on."""

    pid: int
    started: float
    port: int

    @classmethod
    def own(cls, port: int = 0) -> Identity:
        """This process; an exec keeps it."""
        return cls(os.getpid(), psutil.Process().create_time(), port)

    def process(self) -> psutil.Process | None:
        """The process if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK_SLACK
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def end(self) -> None:
        """Ask it to end, and kill it if it does not within ten seconds."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = self.process()
            if process is None:
                return
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
            # Not psutil's wait: a dead process that its own parent does not reap would never be gone.
            until = time.monotonic() + _STOP_SECONDS
            while self.process() is not None and time.monotonic() < until:
                time.sleep(_POLL_SECONDS)


def write_identity(path: Path, identity: Identity) -> None:
    """Write a pid file, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"pid": identity.pid, "started": identity.started, "port": identity.port}))
    draft.replace(path)


def read_identity(path: Path) -> Identity | None:
    """The process that a pid file names, running or not; None where there is no readable file."""
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(_MAX_PIDFILE))
        return Identity(int(fields["pid"]), float(fields["started"]), int(fields["port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def free_port(preferred: int = 0) -> int:
    """The preferred port of 127.0.0.1 if nothing listens there, else one that the system gives."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
    raise ServiceError("W-dev-port", "no port is free on 127.0.0.1")


class Server:
    """One server process of the dev network.

    `command` gives the command line for a port; `answers` asks whether the process with an id serves on a port.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        command: Callable[[int], list[str]],
        answers: Callable[[Identity], bool],
    ) -> None:
        self.name = name
        self._pidfile = folder / "pids" / f"{name}.json"
        self._log = folder / f"{name}.log"
        self._command = command
        self._answers = answers
        self._child: subprocess.Popen[bytes] | None = None
        self.identity: Identity | None = None

    @property
    def port(self) -> int:
        """The port that it serves on."""
        return self.identity.port if self.identity else 0

    def adopt(self) -> bool:
        """Take over a process that an earlier parent left, if it still answers; end it if it runs but does not."""
        orphan = read_identity(self._pidfile)
        if orphan is None or orphan.process() is None:
            return False
        if self._wait_for(orphan, lambda: orphan.process() is not None, seconds=_STOP_SECONDS):
            self.identity = orphan
            return True
        orphan.end()
        return False

    def start(self, preferred_port: int) -> None:
        """Start it on the preferred port, else on another, and wait until it answers; W-dev-child if it never does."""
        for port in (free_port(preferred_port), free_port()):
            self._pidfile.unlink(missing_ok=True)
            with self._log.open("ab") as log:
                self._child = child = subprocess.Popen(
                    # The child writes its own pid file and then becomes the server: no instant has an unknown child.
                    [sys.executable, "-m", "workers.dev.launch", str(self._pidfile), str(port), *self._command(port)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            identity = Identity(child.pid, psutil.Process(child.pid).create_time(), port)
            if self._wait_for(identity, lambda child=child: child.poll() is None, seconds=_READY_SECONDS):  # type: ignore[misc]  # mypy infers no type for the default
                self.identity = identity
                return
            identity.end()
            child.wait()
        raise ServiceError(
            "W-dev-child",
            f"{self.name} does not start",
            where=str(self._log),
            found=self._log.read_bytes()[-300:].decode(errors="replace").strip(),
        )

    def alive(self) -> bool:
        """Whether the process runs; it also reaps a dead child."""
        if self._child is not None and self._child.poll() is not None:
            return False
        return self.identity is not None and self.identity.process() is not None

    def stop(self) -> None:
        """End it and forget it; what it wrote stays."""
        if self.identity is not None:
            self.identity.end()
        if self._child is not None:
            self._child.wait()
        self._pidfile.unlink(missing_ok=True)

    def _wait_for(self, identity: Identity, running: Callable[[], bool], *, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while running() and time.monotonic() < until:
            if self._answers(identity):
                return True
            time.sleep(_POLL_SECONDS)
        return False
