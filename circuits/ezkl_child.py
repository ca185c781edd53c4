"""Runs ezkl operations in a fresh, exec'd process: the only file that imports ezkl, and never imported by anything.

`argv[1]` names a JSON request ``{parent, debug, memory_bytes, cpu_seconds, answers, operations: [{name, ...}]}``. One
JSON line an operation is appended to the file `answers`: ``{ok, seconds, peak_bytes, value | error, log}``. It ends
after the first operation that fails; with ``operations: null`` it takes them from stdin, a JSON line each, and goes on.
Nothing of opgate is imported: a call that hangs or aborts takes nothing with it.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import inspect
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LOG_LINES = 60
ERROR_CHARS = 2000
PR_SET_PDEATHSIG = 1
FILE_BYTES = 8 << 30
ORPHANED = 70

Operation = dict[str, Any]


class Recorder(logging.Handler):
    """Keeps the last messages of ezkl's log: its exceptions hide the cause, its log names the operator."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__(logging.DEBUG)
        self.lines: collections.deque[str] = collections.deque(maxlen=LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line, cut to a length that fits an answer."""
        self.lines.append(record.getMessage()[:400])


def confine(request: dict[str, Any]) -> None:
    """Die with the parent, and bound memory, CPU time, file size and core dumps before ezkl is loaded."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != request["parent"]:
        os._exit(ORPHANED)
    for kind, limit in (
        (resource.RLIMIT_AS, request["memory_bytes"]),
        (resource.RLIMIT_CPU, request["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (soft, soft))


def run_args(ezkl: Any, values: dict[str, Any]) -> Any:
    """The run arguments as ezkl's object; an unknown name is an error, since setting it would do nothing."""
    arguments = ezkl.PyRunArgs()
    for name, value in values.items():
        if not hasattr(arguments, name):
            raise ValueError(f"ezkl has no run argument {name}")
        if name == "variables":
            setattr(arguments, name, [tuple(pair) for pair in value])
        else:
            setattr(arguments, name, tuple(value) if isinstance(value, list) else value)
    return arguments


OPERATIONS: dict[str, Callable[[Any, Operation], Any]] = {
    "gen_settings": lambda ezkl, o: ezkl.gen_settings(
        o["model"], o["settings"], py_run_args=run_args(ezkl, o["run_args"])
    ),
    "calibrate": lambda ezkl, o: ezkl.calibrate_settings(o["data"], o["model"], o["settings"], "resources"),
    "compile": lambda ezkl, o: ezkl.compile_circuit(o["model"], o["compiled"], o["settings"]),
    "gen_srs": lambda ezkl, o: ezkl.gen_srs(o["srs"], o["logrows"]),
    "setup": lambda ezkl, o: ezkl.setup(o["compiled"], o["vk"], o["pk"], srs_path=o["srs"]),
    "gen_witness": lambda ezkl, o: ezkl.gen_witness(o["sample"], o["compiled"], o["witness"]),
    "mock": lambda ezkl, o: ezkl.mock(o["witness"], o["compiled"]),
    "prove": lambda ezkl, o: ezkl.prove(o["witness"], o["compiled"], o["pk"], o["proof"], srs_path=o["srs"]),
    "verify": lambda ezkl, o: ezkl.verify(o["proof"], o["settings"], o["vk"], srs_path=o["srs"]),
    "create_evm_verifier": lambda ezkl, o: ezkl.create_evm_verifier(
        o["vk"], o["settings"], o["solidity"], o["abi"], o["srs"], False
    ),
    "poseidon_hash": lambda ezkl, o: ezkl.poseidon_hash(o["message"]),
}


def value_of(operation: Operation, result: Any) -> Any:
    """What an answer carries: the hash, the parts of a witness that are read, else only that it was true."""
    if operation["name"] == "poseidon_hash":
        return result
    if operation["name"] == "gen_witness":
        witness = json.loads(Path(operation["witness"]).read_text(encoding="utf-8"))
        value = {name: witness[name] for name in ("inputs", "outputs", "min_lookup_inputs", "max_lookup_inputs")}
        return value | {"hashes": (witness["processed_inputs"] or {}).get("poseidon_hash")}
    return bool(result)


def peak_bytes() -> int:
    """The peak resident bytes of this program; getrusage counts the parent's pages too, from before the exec."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def is_written(operation: Operation) -> bool:
    """Ezkl writes a verifier's source, then fails for want of a solc of its own, which it would download: expected."""
    return operation["name"] == "create_evm_verifier" and Path(operation["solidity"]).exists()


async def operate(operation: Operation) -> Any:
    """One operation, under an event loop, since some of ezkl's functions need one and say so late."""
    import ezkl  # noqa: PLC0415 - after the limits, and its failure to load is an answer too

    try:
        result = OPERATIONS[operation["name"]](ezkl, operation)
        if inspect.isawaitable(result):
            result = await result
    except RuntimeError:
        if not is_written(operation):
            raise
        result = True
    return value_of(operation, result)


def main() -> None:
    """Read the request, confine the process, run the operations, answer each."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    confine(request)
    recorder = Recorder()
    logging.basicConfig(level=logging.DEBUG if request["debug"] else logging.ERROR, handlers=[recorder])
    waits = request["operations"] is None
    operations: Iterable[Operation] = map(json.loads, sys.stdin) if waits else request["operations"]
    with Path(request["answers"]).open("w" if waits else "a", encoding="utf-8") as answers:
        for operation in operations:
            started = time.monotonic()
            fields: dict[str, Any]
            try:
                fields = {"ok": True, "value": asyncio.run(operate(operation))}
            except BaseException as error:  # noqa: BLE001 - ezkl's panics derive from BaseException
                found = f"{type(error).__name__}: {error}"[:ERROR_CHARS]
                fields = {"ok": False, "error": found, "log": list(recorder.lines)}
            fields["seconds"] = time.monotonic() - started
            fields["peak_bytes"] = peak_bytes()
            answers.write(json.dumps(fields) + "\n")
            answers.flush()
            if not fields["ok"] and not waits:
                return


if __name__ == "__main__":
    main()
    os._exit(0)  # ezkl's thread pools are not waited for
