"""Runs ezkl operations in a fresh, exec'd process: the only file that imports ezkl, and never imported by anything.

`argv[1]` names a JSON request ``{parent, debug, memory_bytes, cpu_seconds, answers, operations: [{name, ...}]}``. One JSON
line an operation is appended to the file `answers`: ``{ok, seconds, peak_bytes, value | error, log}``. It ends after the
first operation that fails. Nothing of opgate is imported, so that a call that hangs or aborts takes nothing with it.
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
from typing import Any

LOG_LINES = 60
ERROR_CHARS = 2000
PR_SET_PDEATHSIG = 1
FILE_BYTES = 8 << 30


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
        os._exit(70)
    for kind, limit in (
        (resource.RLIMIT_AS, request["memory_bytes"]),
        (resource.RLIMIT_CPU, request["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (soft, soft))


async def operate(ezkl: Any, operation: dict[str, Any]) -> Any:  # noqa: ANN401 - a compiled module and JSON values
    """One operation. All of them run under an event loop, since some of ezkl's functions need one and say so late."""
    match operation["name"]:
        case "gen_settings":
            result = ezkl.gen_settings(
                operation["model"], operation["settings"], py_run_args=_run_args(ezkl, operation["run_args"])
            )
        case "compile":
            result = ezkl.compile_circuit(operation["model"], operation["compiled"], operation["settings"])
        case "gen_srs":
            result = ezkl.gen_srs(operation["srs"], operation["logrows"])
        case "setup":
            result = ezkl.setup(operation["compiled"], operation["vk"], operation["pk"], srs_path=operation["srs"])
        case "gen_witness":
            return await _witness(ezkl, operation)
        case "mock":
            result = ezkl.mock(operation["witness"], operation["compiled"])
        case "prove":
            result = ezkl.prove(
                operation["witness"],
                operation["compiled"],
                operation["pk"],
                operation["proof"],
                srs_path=operation["srs"],
            )
        case "verify":
            result = ezkl.verify(operation["proof"], operation["settings"], operation["vk"], srs_path=operation["srs"])
        case "create_evm_verifier":
            return await _solidity(ezkl, operation)
        case "poseidon_hash":
            return ezkl.poseidon_hash(operation["message"])
        case "sleep":
            result = time.sleep(operation["seconds"])
        case name:
            raise ValueError(f"unknown operation {name}")
    if inspect.isawaitable(result):
        result = await result
    return bool(result)


def _run_args(ezkl: Any, values: dict[str, Any]) -> Any:  # noqa: ANN401 - a class of the compiled module
    arguments = ezkl.PyRunArgs()
    for name, value in values.items():
        if not hasattr(arguments, name):
            raise ValueError(f"ezkl has no run argument {name}")
        if name == "variables":
            setattr(arguments, name, [tuple(pair) for pair in value])
        else:
            setattr(arguments, name, tuple(value) if isinstance(value, list) else value)
    return arguments


async def _witness(ezkl: Any, operation: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - a compiled module
    result = ezkl.gen_witness(operation["sample"], operation["compiled"], operation["witness"])
    if inspect.isawaitable(result):
        result = await result
    with open(operation["witness"], encoding="utf-8") as stream:
        witness = json.load(stream)
    wanted = ("inputs", "outputs", "processed_inputs", "processed_outputs")
    return {name: witness[name] for name in (*wanted, "min_lookup_inputs", "max_lookup_inputs", "max_range_size")}


async def _solidity(ezkl: Any, operation: dict[str, Any]) -> bool:  # noqa: ANN401 - a compiled module
    """The source is written before ezkl looks for a solc of its own, which it would download: that failure is expected."""
    try:
        result = ezkl.create_evm_verifier(
            operation["vk"], operation["settings"], operation["solidity"], operation["abi"], operation["srs"], False
        )
        if inspect.isawaitable(result):
            await result
    except RuntimeError:
        if not os.path.exists(operation["solidity"]):
            raise
    return True


async def main() -> None:
    """Read the request, confine the process, run the operations, answer each."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        request = json.load(stream)
    confine(request)
    recorder = Recorder()
    logging.basicConfig(level=logging.DEBUG if request["debug"] else logging.ERROR, handlers=[recorder])
    started = time.monotonic()
    with open(request["answers"], "a", encoding="utf-8") as answers:

        def answer(**fields: object) -> None:
            fields["seconds"] = time.monotonic() - started
            fields["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            answers.write(json.dumps(fields) + "\n")
            answers.flush()

        for operation in request["operations"]:
            started = time.monotonic()
            try:
                import ezkl  # noqa: PLC0415 - after the limits, and its failure to load is an answer too

                answer(ok=True, value=await operate(ezkl, operation))
            except BaseException as error:  # noqa: BLE001 - ezkl's panics derive from BaseException
                found = f"{type(error).__name__}: {error}"[:ERROR_CHARS]
                answer(ok=False, error=found, log=list(recorder.lines))
                return


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)  # ezkl's thread pools are not waited for
