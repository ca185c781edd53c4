"""Runs ezkl in a confined child and gives back typed results or CircuitError; ezkl is never called in this process.

Each call gets an exec'd child with a private directory as HOME, a scrubbed environment, limits on memory, CPU and wall
time; on overrun, or when this process is interrupted, the whole process group is killed. Paths are given by the caller,
who owns what is written there. `C-ezkl` is a refusal by ezkl; `C-wall`, `C-died` and `C-memory` are a child
that went wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from verifier.errors import CircuitError
from verifier.statement.scalars import FIELD_MODULUS, FieldElement, TensorInt

_CHILD = Path(__file__).with_name("ezkl_child.py")
_MAX_ANSWERS = 256 << 20
_CLOSED_PROXY = "http://127.0.0.1:9"
"""ezkl would download a solc or an SRS where it finds none; every way out leads to the discard port."""


def usable_cores() -> int:
    """The cores that this process may use: taskset or a container gives fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a child may use: seconds of wall time for all its operations, bytes of address space, threads."""

    wall_seconds: float = 120.0
    memory_bytes: int = 16 << 30
    threads: int = 2


class Outcome(NamedTuple):
    """One operation that succeeded: its value, its wall seconds, and the child's peak resident bytes until its end."""

    value: Any
    seconds: float
    peak_bytes: int


class Failure(NamedTuple):
    """One operation that ezkl refused, with the causes that its log shows."""

    error: str
    log: tuple[str, ...]


class Witness(NamedTuple):
    """A witness in integers: instances in the circuit's order, the model's outputs, and the extremes that lookups saw.

    Of hashed inputs, `inputs` holds the values with the blind, `instances` their hashes and at its end the job limbs.
    """

    instances: tuple[FieldElement, ...]
    inputs: tuple[tuple[TensorInt, ...], ...]
    outputs: tuple[tuple[TensorInt, ...], ...]
    min_lookup: int
    max_lookup: int
    seconds: float


DEFAULT_LIMITS = Limits()


def run(
    operations: list[dict[str, Any]], limits: Limits = DEFAULT_LIMITS, *, debug: bool = False
) -> list[Outcome | Failure]:
    """Run operations one after another in one child; the list is shorter than asked when one of them failed.

    Raises:
        CircuitError: C-wall, C-memory or C-died where the child ended without answering.
    """
    directory = Path(tempfile.mkdtemp(prefix="opgate-ezkl-"))
    try:
        return _run_in(directory, operations, limits, debug=debug)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run_in(
    directory: Path, operations: list[dict[str, Any]], limits: Limits, *, debug: bool
) -> list[Outcome | Failure]:
    request = directory / "request.json"
    answers = directory / "answers"
    answers.touch(mode=0o600)
    asked = {
        "parent": os.getpid(),
        "debug": debug,
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": int(limits.wall_seconds * (limits.threads + 1)) + 5,
        "answers": str(answers),
        "operations": operations,
    }
    request.write_text(json.dumps(asked), encoding="utf-8")
    with (directory / "stderr").open("wb") as stderr:
        child = spawn(directory, request, limits, stderr=stderr)
        overran = False
        try:
            child.wait(timeout=limits.wall_seconds)
        except subprocess.TimeoutExpired:
            overran = True
        finally:
            if child.returncode is None:
                kill(child)
    outcomes = _read_answers(answers)
    if len(outcomes) == len(operations) or (outcomes and isinstance(outcomes[-1], Failure)):
        return outcomes
    name = str(operations[len(outcomes)]["name"])
    if overran:
        raise CircuitError(
            "C-wall",
            "ezkl did not end in time and was killed",
            where=name,
            expected=f"at most {limits.wall_seconds:g} s",
            do="Give it more time, or make the circuit smaller.",
        )
    raise died(name, child.returncode, directory / "stderr")


def spawn(
    directory: Path, request: Path, limits: Limits, *, stderr: IO[bytes], fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """The child that works on a request: exec'd, in its own session, scrubbed; with `fds` it reads from a pipe too."""
    return subprocess.Popen(
        [sys.executable, "-I", str(_CHILD), str(request)],
        cwd=directory,
        env=_environment(directory, limits),
        stdin=subprocess.PIPE if fds else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
        pass_fds=fds,
    )


def _environment(directory: Path, limits: Limits) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LC_ALL": "C.UTF-8",
        "EZKL_KEY_FORMAT": "raw-bytes",
        "RAYON_NUM_THREADS": str(limits.threads),
        "HTTP_PROXY": _CLOSED_PROXY,
        "HTTPS_PROXY": _CLOSED_PROXY,
        "ALL_PROXY": _CLOSED_PROXY,
    }


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a child and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _read_answers(path: Path) -> list[Outcome | Failure]:
    if path.stat().st_size > _MAX_ANSWERS:
        raise CircuitError("C-size", "the child answered too much", expected=f"at most {_MAX_ANSWERS} bytes")
    outcomes: list[Outcome | Failure] = []
    outcomes.extend(read_answer(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1])
    return outcomes


def read_answer(line: str) -> Outcome | Failure:
    """One line of a child's answers."""
    answer = json.loads(line)
    if answer["ok"]:
        return Outcome(answer["value"], float(answer["seconds"]), int(answer["peak_bytes"]))
    return Failure(str(answer["error"]), tuple(answer["log"]))


def died(name: str, status: int, stderr: Path) -> CircuitError:
    """What became of a child that ended without an answer."""
    tail = stderr.read_bytes()[-600:].decode("utf-8", "replace").strip()
    found = f"exit status {status}: {tail}" if tail else f"exit status {status}"
    if _OUT_OF_MEMORY.search(tail):
        return CircuitError("C-memory", "ezkl needs more memory than allowed", where=name, found=found)
    return CircuitError("C-died", "ezkl's process ended without an answer", where=name, found=found)


_OUT_OF_MEMORY = re.compile(
    r"memory allocation|MemoryError|Cannot allocate|failed to map|ThreadPoolBuildError", re.IGNORECASE
)
"""Threads need address space too: a pool that cannot be built is want of memory, or of threads."""
_CAUSE = re.compile(
    r"(Unknown op|unsupported|not supported|Undetermined symbol|decomposition error|invalid|Translating|Failed"
    r"|failed|panicked|out of range|black_op|mismatch)",
    re.IGNORECASE,
)


def cause(failure: Failure) -> str:
    """The reason of a failure in one line: the log's first telling line where the exception says nothing."""
    told = [line for line in failure.log if _CAUSE.search(line)]
    unknown = [line for line in told if "Unknown op" in line]
    named = (unknown or told)[:1]
    return " | ".join([failure.error, *named])[:600]


def require(operations: list[dict[str, Any]], limits: Limits = DEFAULT_LIMITS) -> list[Outcome]:
    """`run`, where a refusal by ezkl is a CircuitError C-ezkl that names the hidden cause."""
    outcomes = run(operations, limits)
    good = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
    if len(good) == len(operations):
        return good
    raise refusal(operations[: len(good) + 1], outcomes[-1], limits)


def refusal(operations: list[dict[str, Any]], failed: Outcome | Failure, limits: Limits) -> CircuitError:
    """The error for the last of these operations, C-ezkl or C-memory, with the hidden cause.

    Where the exception says nothing of the operator, all is run again in a child of its own with ezkl's log on.
    """
    where = str(operations[-1]["name"])
    if isinstance(failed, Failure) and where in ("gen_settings", "compile"):
        again = run(operations, limits, debug=True)
        failed = again[-1] if isinstance(again[-1], Failure) else failed
    found = cause(failed) if isinstance(failed, Failure) else ""
    if _OUT_OF_MEMORY.search(found):
        return CircuitError("C-memory", "ezkl needs more memory than allowed", where=where, found=found)
    return CircuitError("C-ezkl", "ezkl refuses", where=where, found=found)


def gen_settings(model: Path, settings: Path, run_args: dict[str, Any]) -> dict[str, Any]:
    """The operation that writes ezkl's settings for a model; they are not canonical yet (`circuits.settings`)."""
    return {"name": "gen_settings", "model": str(model), "settings": str(settings), "run_args": run_args}


def calibrate(data: Path, model: Path, settings: Path) -> dict[str, Any]:
    """The operation that lets ezkl choose knobs itself (target "resources"); settings must be there already."""
    return {"name": "calibrate", "data": str(data), "model": str(model), "settings": str(settings)}


def compile_model(model: Path, settings: Path, compiled: Path) -> dict[str, Any]:
    """The operation that compiles a model under given settings."""
    return {"name": "compile", "model": str(model), "settings": str(settings), "compiled": str(compiled)}


def gen_srs(srs: Path, logrows: int) -> Outcome:
    """Write a new development SRS, another one at each call; whoever ran it could forge with it."""
    return require([{"name": "gen_srs", "srs": str(srs), "logrows": logrows}], Limits(wall_seconds=600))[0]


def setup(compiled: Path, srs: Path, *, vk: Path, pk: Path, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """Write both keys of a compiled circuit."""
    return require(
        [{"name": "setup", "compiled": str(compiled), "srs": str(srs), "vk": str(vk), "pk": str(pk)}], limits
    )[0]


def gen_witness(sample: str, compiled: Path, witness: Path) -> dict[str, Any]:
    """The operation that runs a circuit on one sample (ezkl's input JSON) and writes the witness."""
    return {"name": "gen_witness", "sample": sample, "compiled": str(compiled), "witness": str(witness)}


def mock(witness: Path, compiled: Path) -> dict[str, Any]:
    """The operation that checks each constraint on a witness; it fails, and is never false, where one does not hold."""
    return {"name": "mock", "witness": str(witness), "compiled": str(compiled)}


def prove(  # noqa: PLR0913 - five files, each by keyword
    *, witness: Path, compiled: Path, pk: Path, srs: Path, proof: Path, limits: Limits = DEFAULT_LIMITS
) -> Outcome:
    """Write a proof file. A proof of a wrong witness is written just so: verify before it leaves."""
    paths = {"witness": witness, "compiled": compiled, "pk": pk, "srs": srs, "proof": proof}
    return require([{"name": "prove", **{name: str(path) for name, path in paths.items()}}], limits)[0]


def verify(*, proof: Path, settings: Path, vk: Path, srs: Path, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """Ezkl's own opinion of a proof file; CircuitError C-ezkl where it refuses.

    It checks neither SRS, settings nor the number of instances: only the EVM code decides about money.
    """
    paths = {"proof": proof, "settings": settings, "vk": vk, "srs": srs}
    return require([{"name": "verify", **{name: str(path) for name, path in paths.items()}}], limits)[0]


def create_evm_verifier(
    *, vk: Path, settings: Path, srs: Path, solidity: Path, limits: Limits = DEFAULT_LIMITS
) -> Outcome:
    """Write the Solidity source of a circuit's own verifier."""
    paths = {"vk": vk, "settings": settings, "srs": srs, "solidity": solidity, "abi": solidity.with_suffix(".abi")}
    operation = {"name": "create_evm_verifier", **{name: str(path) for name, path in paths.items()}}
    return require([operation], limits)[0]


def poseidon_hash(message: list[FieldElement]) -> FieldElement:
    """Ezkl's Poseidon of field elements: the oracle for the verifier's own."""
    words = [to_hex(element) for element in message]
    return from_hex(require([{"name": "poseidon_hash", "message": words}])[0].value[0])


def to_hex(element: int) -> str:
    """A field element as ezkl writes it: 64 hex digits, little-endian."""
    return FieldElement(element).to_bytes(32, "little").hex()


def from_hex(text: str) -> FieldElement:
    """A field element from ezkl's little-endian hex; ValueError where it is none."""
    return FieldElement(int.from_bytes(bytes.fromhex(text), "little"))


def signed(element: FieldElement) -> TensorInt:
    """The signed integer that a field element stands for."""
    return TensorInt(element - FIELD_MODULUS if element > FIELD_MODULUS // 2 else int(element))


def read_witness(outcome: Outcome) -> Witness:
    """A gen_witness outcome in integers.

    Raises:
        CircuitError: C-witness where a circuit with hashed inputs does not show the job limbs as its last output.
    """
    value = outcome.value
    inputs = [[from_hex(word) for word in tensor] for tensor in value["inputs"]]
    outputs = [[from_hex(word) for word in tensor] for tensor in value["outputs"]]
    shown = inputs
    if value["hashes"] is not None:
        shown = [[from_hex(word)] for word in value["hashes"]]
        if outputs[-1] != inputs[-1]:
            raise CircuitError("C-witness", "the circuit does not show the job that it hashes")
    instances = tuple(word for tensor in (*shown, *outputs) for word in tensor)
    if value["hashes"] is not None:
        outputs = outputs[:-1]
    return Witness(
        instances=instances,
        inputs=tuple(tuple(signed(word) for word in tensor) for tensor in inputs),
        outputs=tuple(tuple(signed(word) for word in tensor) for tensor in outputs),
        min_lookup=int(value["min_lookup_inputs"]),
        max_lookup=int(value["max_lookup_inputs"]),
        seconds=outcome.seconds,
    )
