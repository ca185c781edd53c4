"""Runs what touches a stranger's file (onnx, onnxruntime, numpy's readers) in an exec'd child with limits.

The child is given a folder and leaves its results there; this process reads JSON and plain arrays of them, capped, and
nothing else. An end without an answer is a CircuitError: C-wall, C-memory or C-died.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from circuits.nesting import check_nesting
from circuits.samples import Array, Sample
from verifier.errors import CircuitError, OpgateError
from verifier.files import read_regular

_MAX_ANSWER = 32 << 20
_MAX_ARRAYS = 1 << 30


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the child may use: seconds of wall time, bytes of address space."""

    wall_seconds: float = 25.0
    memory_bytes: int = 6 << 30


def run(action: str, folder: Path, bounds: Bounds, **asked: Any) -> dict[str, Any]:
    """Run one action of `circuits.check.child` in the folder and give its answer.

    Raises:
        CircuitError: the refusal that the child answered with; C-wall, C-memory or C-died where it did not answer.
    """
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    request = {
        "parent": os.getpid(),
        "action": action,
        "folder": str(folder),
        "memory_bytes": bounds.memory_bytes,
        "cpu_seconds": int(bounds.wall_seconds * 2) + 2,
        **asked,
    }
    with (folder / "child.stderr").open("wb") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-I", "-m", "circuits.check.child"],
            cwd=folder,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "LC_ALL": "C.UTF-8",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        overran = False
        try:
            child.communicate(json.dumps(request).encode(), timeout=bounds.wall_seconds)
        except subprocess.TimeoutExpired:
            overran = True
        except BrokenPipeError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return _answer(answer, action, bounds, status=child.returncode, overran=overran)


def _answer(path: Path, action: str, bounds: Bounds, *, status: int, overran: bool) -> dict[str, Any]:
    try:
        raw = read_regular(path, limit=_MAX_ANSWER)
        check_nesting(raw)
        value: dict[str, Any] = json.loads(raw)
        failed = value.get("error")
    except (OpgateError, ValueError, AttributeError) as error:
        tail = (path.parent / "child.stderr").read_bytes()[-300:].decode("utf-8", "replace").strip()
        if overran:
            raise CircuitError(
                "C-wall",
                "reading and running the model in floating point takes too long",
                where=action,
                expected=f"at most {bounds.wall_seconds:.0f} s",
                do="Make the model smaller; look for loops and for shapes that grow.",
            ) from error
        if "MemoryError" in tail or "bad_alloc" in tail or "llocat" in tail:
            raise CircuitError("C-memory", "the model needs more memory than allowed", where=action) from error
        raise CircuitError(
            "C-died", "the process that read the model ended without an answer", where=action, found=f"status {status}"
        ) from error
    if isinstance(failed, dict):
        fields = {name: str(failed.get(name, "")) for name in ("where", "expected", "found", "do")}
        raise CircuitError(str(failed.get("code", "C-onnx")), str(failed.get("message", "")), **fields)
    return value


def read_arrays(path: Path) -> tuple[Sample, ...]:
    """The samples or outputs that a child left: array ``s<i>_t<j>`` is tensor j of sample i."""
    if path.stat().st_size > _MAX_ARRAYS:
        raise CircuitError("C-size", "the child left too much", where=path.name)
    found: dict[int, dict[int, Array]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            sample, tensor = name[1:].split("_t")
            found.setdefault(int(sample), {})[int(tensor)] = arrays[name]
    return tuple(tuple(tensors[index] for index in sorted(tensors)) for _, tensors in sorted(found.items()))


def write_arrays(path: Path, samples: tuple[Sample, ...]) -> None:
    """Leave samples for the other side, as `read_arrays` reads them."""
    named = {f"s{i}_t{j}": array for i, sample in enumerate(samples) for j, array in enumerate(sample)}
    np.savez(path, **named)  # type: ignore[arg-type] # its stub takes a name for the option allow_pickle


def write_columns(path: Path, samples: tuple[Sample, ...]) -> None:
    """Leave many samples of one shape, tensor by tensor: ``t<j>`` holds tensor j of all of them."""
    named = {f"t{index}": np.stack(column) for index, column in enumerate(zip(*samples, strict=True))}
    np.savez(path, **named)  # type: ignore[arg-type] # as above


def read_columns(path: Path) -> tuple[Sample, ...]:
    """The samples that `write_columns` left."""
    if path.stat().st_size > _MAX_ARRAYS:
        raise CircuitError("C-size", "the child left too much", where=path.name)
    with np.load(path, allow_pickle=False) as arrays:
        columns = [arrays[f"t{index}"] for index in range(len(arrays.files))]
    return tuple(zip(*columns, strict=True))
