"""One confined ezkl child that takes many operations one after another: for searches, where a child a call is too dear.

A refusal is an answer; a child that dies or overruns is killed, and the next operation starts another one. What money
hangs on goes through `ezkl_runner.run`, in a child of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from circuits import ezkl_runner
from circuits.ezkl_runner import Failure, Limits, Outcome
from verifier.errors import CircuitError

_MAX_ANSWER = 256 << 20
_CPU_SECONDS = 24 * 3600


class Session:
    """A child that lives until the end of a `with` block. `limits.wall_seconds` bounds each single operation."""

    def __init__(self, limits: Limits) -> None:
        """Start nothing yet."""
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._answers = -1
        self._unread = b""

    def __enter__(self) -> Self:
        """The child starts with the first operation."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill the child, whatever it does."""
        self.close()

    def ask(self, operation: dict[str, Any], wall_seconds: float | None = None) -> Outcome | Failure:
        """Run one operation of `ezkl_runner`, within other seconds than the session's where they are given.

        Raises:
            CircuitError: C-wall, C-memory, C-died; the session can still be used.
        """
        child = self._child or self._start()
        try:
            return self._ask(child, operation, wall_seconds or self._limits.wall_seconds)
        except BaseException:
            # an interrupt too: an answer that nobody waits for would be taken for the next one's
            self.close()
            raise

    def require(self, operation: dict[str, Any]) -> Outcome:
        """`ask`, where a refusal is the CircuitError of `ezkl_runner.refusal`."""
        answer = self.ask(operation)
        if isinstance(answer, Failure):
            raise ezkl_runner.refusal([operation], answer, self._limits)
        return answer

    def close(self) -> None:
        """End the child and remove its folder."""
        if self._child is not None:
            ezkl_runner.kill(self._child)
            if self._child.stdin is not None:
                with contextlib.suppress(OSError):
                    self._child.stdin.close()
            os.close(self._answers)
            self._child = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        self._unread = b""

    def _start(self) -> subprocess.Popen[bytes]:
        directory = self._directory = Path(tempfile.mkdtemp(prefix="opgate-ezkl-"))
        reading, writing = os.pipe()
        request = directory / "request.json"
        asked = {
            "parent": os.getpid(),
            "debug": False,
            "memory_bytes": self._limits.memory_bytes,
            "cpu_seconds": _CPU_SECONDS,
            "answers": f"/dev/fd/{writing}",
            "operations": None,
        }
        request.write_text(json.dumps(asked), encoding="utf-8")
        try:
            with (directory / "stderr").open("wb") as stderr:
                self._child = ezkl_runner.spawn(directory, request, self._limits, stderr=stderr, fds=(writing,))
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._answers = reading
        return self._child

    def _ask(self, child: subprocess.Popen[bytes], operation: dict[str, Any], wall_seconds: float) -> Outcome | Failure:
        stdin, directory = child.stdin, self._directory
        if stdin is None or directory is None:
            raise CircuitError("C-died", "the session is closed", where=str(operation["name"]))
        deadline = time.monotonic() + wall_seconds
        with contextlib.suppress(BrokenPipeError):  # a dead child is seen at its answers
            stdin.write(json.dumps(operation).encode() + b"\n")
            stdin.flush()
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise CircuitError(
                    "C-wall",
                    "ezkl did not end in time and was killed",
                    where=str(operation["name"]),
                    expected=f"at most {wall_seconds:g} s",
                    do="Give it more time, or make the circuit smaller.",
                )
            read = os.read(self._answers, 1 << 20)
            if not read:
                child.wait()
                raise ezkl_runner.died(str(operation["name"]), child.returncode, directory / "stderr")
            self._unread += read
            if len(self._unread) > _MAX_ANSWER:
                raise CircuitError("C-size", "the child answered too much", expected=f"at most {_MAX_ANSWER} bytes")
        line, self._unread = self._unread.split(b"\n", 1)
        return ezkl_runner.read_answer(line.decode())
