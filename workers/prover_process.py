"""Runs the prover as a process of its own for one attempt: private folder, scrubbed environment, own group, wall limit.

The worker never calls a proof system itself and trusts no more of the prover than the bytes that it leaves behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from verifier.bundles import MAX_BUNDLE_BYTES
from verifier.errors import OpgateError, ServiceError
from verifier.files import read_regular
from verifier.statement import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PROVER = (sys.executable, "-P", "-m", "prover.run")
"""`-P`: a folder that happens to be current must not shadow the package."""

_MAX_ERROR_BYTES = 1 << 16
_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


def run_prover(  # noqa: PLR0913 - by keyword
    request: Mapping[str, object],
    folder: Path,
    *,
    wall_seconds: float,
    beat: Callable[[], None],
    beat_seconds: float,
    command: tuple[str, ...] = PROVER,
) -> bytes:
    """Run one attempt in a new folder, which is removed afterwards, and give the bundle's bytes, not verified.

    `beat` is called every `beat_seconds` while the prover works; what it raises ends the prover and is raised again.

    Raises:
        ServiceError: W-prover-wall where the time is over, W-prover-refused where it says why it cannot, W-prover-died
            where it ends without saying anything.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        return _run(request, folder, wall_seconds, beat, beat_seconds, command)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(  # noqa: PLR0913, PLR0917 - the inside of run_prover
    request: Mapping[str, object],
    folder: Path,
    wall_seconds: float,
    beat: Callable[[], None],
    beat_seconds: float,
    command: tuple[str, ...],
) -> bytes:
    asked, result = folder / "request.json", folder / "result"
    result.mkdir(mode=0o700)
    asked.touch(mode=0o600)
    asked.write_bytes(canonical.encode(request))
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*command, str(asked), str(result)],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - a Celery child has one thread, and nothing is imported in it
        )
        try:
            _wait(process, wall_seconds, beat, beat_seconds)
        finally:
            _end(process)
    if (result / "bundle.json").exists():
        return read_regular(result / "bundle.json", limit=MAX_BUNDLE_BYTES)
    raise _refusal(result, process.returncode, (folder / "stderr").read_bytes()[-600:])


def _wait(process: subprocess.Popen[bytes], wall_seconds: float, beat: Callable[[], None], beat_seconds: float) -> None:
    begun = time.monotonic()
    next_beat = begun + beat_seconds
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_POLL_SECONDS)
            return
        now = time.monotonic()
        if now >= begun + wall_seconds:
            raise ServiceError(
                "W-prover-wall",
                "the prover did not end in time and was killed",
                expected=f"at most {wall_seconds:g} s",
                do="Raise OPGATE_JOB_SECONDS, or do not sell this circuit",
            )
        if now >= next_beat:
            next_beat = now + beat_seconds
            beat()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the prover's group outlives the attempt, however it ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _refusal(result: Path, status: int, stderr: bytes) -> ServiceError:
    with contextlib.suppress(OpgateError):
        raw = read_regular(result / "error.json", limit=_MAX_ERROR_BYTES)
        said = canonical.parse(raw, where="error.json", limit=_MAX_ERROR_BYTES)
        if isinstance(said, dict):
            code, message = str(said.get("code", ""))[:64], str(said.get("message", ""))[:200]
            found = f"{code}: {message} {str(said.get('found', ''))[:200]}".strip()
            return ServiceError("W-prover-refused", "the prover cannot do this job", found=found)
    tail = stderr.decode("utf-8", "replace").strip()
    return ServiceError(
        "W-prover-died", "the prover ended without a bundle", found=f"exit status {status}: {tail}".rstrip(": ")
    )


def _environment(folder: Path) -> dict[str, str]:
    """No URL, token or key reaches the prover by its environment; what it needs is in its request.

    The home does, absolute: a receipt names the bench whose constants are kept there.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if name in os.environ}
    if "OPGATE_HOME" in os.environ:
        kept["OPGATE_HOME"] = os.path.abspath(os.environ["OPGATE_HOME"])  # noqa: PTH100 - a symbolic link stays one
    return kept | {"HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def _end_with_parent() -> None:
    """Ask Linux to end the prover when the worker's process dies, however it dies (prctl(2), PR_SET_PDEATHSIG)."""
    library = _libc()
    if library is not None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


_libc()
