"""The exec'd child of `circuits.check.confined`: parses, rewrites and runs a stranger's model under limits.

It reads one JSON request from stdin and writes ``answer.json`` in the folder named there. Actions: `read` (a model, the
samples of a file and the model's outputs on them), `prepare` (the same on inputs that are drawn too, for a check),
`truth` (run a graph on samples), `cut` (give tensors inside the graph out as outputs).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
FILE_BYTES = 2 << 30
MAX_ACTIVE = 1 << 24
WIDENINGS = (0.0, 1.0, 4.0)
"""How far beyond the samples inputs are drawn where all outputs were equal: one sample of a tree shows one leaf."""

LEAST_ANSWERS = 2
"""Fewer of the model's own answers can be compared with nothing."""


def confine(request: dict[str, Any]) -> None:
    """Die with the parent, and bound memory, CPU time, file size and core dumps, before onnx is loaded."""
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


def read(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read the model; where samples are given, leave them in the model's types, and its outputs on those compared.

    With `split` those are the samples that a build compares (`circuits.tuner.data_sets`), else all.
    """
    from circuits.check.confined import write_columns  # noqa: PLC0415 - after the limits
    from circuits.samples import read_samples  # noqa: PLC0415 - the same
    from circuits.tuner.data_sets import split  # noqa: PLC0415 - the same

    model = _read(request, folder)
    answer = _described(model)
    if request["samples"]:
        samples = read_samples(Path(request["samples"]), model.inputs)
        write_columns(folder / "given.npz", samples)
        sets = split(samples, model.inputs) if request["split"] else None
        chosen = sets.every if sets else samples
        answer |= _truth(model.static, model.inputs, chosen, folder, given=len(chosen) - (sets.drawn if sets else 0))
    return answer


def prepare(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read the model and the samples; leave the graphs, the samples in the model's types and their true outputs."""
    from circuits.check.drawing import GIVEN, draw  # noqa: PLC0415 - after the limits
    from circuits.samples import read_samples  # noqa: PLC0415 - the same

    model = _read(request, folder)
    given = read_samples(Path(request["samples"]), model.inputs) if request["samples"] else ()
    answer = _described(model) | {"nodes": _nodes(model.rewritten)}
    for wider in WIDENINGS:
        drawn = draw(model.inputs, given, limit=int(request["limit"]), wider=wider)
        owned = sum(kind == GIVEN for kind, _ in drawn)
        truth = _truth(model.static, model.inputs, tuple(sample for _, sample in drawn), folder, given=owned)
        answer |= truth | {"kinds": [drawn[index][0] for index in truth["kept"]]}
        if not truth["constant"]:
            break
    return answer


def _read(request: dict[str, Any], folder: Path) -> Any:
    """Parse the model and leave its graphs."""
    from circuits.model import GRAPHS, MAX_ONNX_BYTES  # noqa: PLC0415 - after the limits
    from circuits.parsing import parse_model  # noqa: PLC0415 - the same
    from circuits.registry import read_onnx  # noqa: PLC0415 - the same

    model = parse_model(read_onnx(Path(request["model"]), limit=MAX_ONNX_BYTES))
    for name in GRAPHS:
        (folder / f"{name}.onnx").write_bytes(getattr(model, name))
    return model


def _described(model: Any) -> dict[str, Any]:
    return {
        "inputs": [[each.name, list(each.shape), each.dtype] for each in model.inputs],
        "outputs": list(model.output_names),
        "output_dtypes": list(model.output_dtypes),
        "rewrites": list(model.rewrites),
    }


def _nodes(raw: bytes) -> list[list[Any]]:
    import onnx  # noqa: PLC0415 - after the limits

    graph = onnx.load_model_from_string(raw).graph
    return [[node.name, node.op_type, list(node.input), list(node.output)] for node in graph.node]


def _truth(
    graph: bytes, inputs: Any, samples: tuple[Any, ...], folder: Path, *, given: int | None = None
) -> dict[str, Any]:
    """Run the graph on samples by onnxruntime or the reference evaluator and leave both as arrays.

    Samples after the first `given` were drawn here: those on which the model does not run are left out, since it is
    the drawing that is wrong then, such as of a category that there is none of. `kept` tells the others.
    """
    import numpy as np  # noqa: PLC0415 - after the limits

    from circuits.check.confined import write_arrays  # noqa: PLC0415 - the same
    from circuits.float_model import FloatModel  # noqa: PLC0415 - the same
    from verifier.errors import CircuitError  # noqa: PLC0415 - the same

    floats = FloatModel(graph, inputs)
    outputs: list[Any] = []
    kept: list[int] = []
    refusal: CircuitError | None = None
    for index, sample in enumerate(samples):
        try:
            found = floats.run(sample)
        except CircuitError as error:
            if given is None or index < given:
                raise
            refusal = error
            continue
        if sum(array.size for array in found) > MAX_ACTIVE or any(array.dtype.kind not in "biuf" for array in found):
            raise CircuitError("C-onnx-dtype", "an output is no array of numbers, or a very large one")
        kept.append(index)
        outputs.append(tuple(np.asarray(array, np.float64) for array in found))
    if refusal is not None and len(outputs) < LEAST_ANSWERS:
        raise refusal
    write_arrays(folder / "samples.npz", tuple(samples[index] for index in kept))
    write_arrays(folder / "truth.npz", tuple(outputs))
    first = outputs[0] if outputs else ()
    constant = all(np.array_equal(a, b) for found in outputs for a, b in zip(found, first, strict=True))
    return {"engine": floats.engine, "constant": constant, "kept": kept, "left_out": len(samples) - len(kept)}


def truth(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a graph that an earlier action left on the samples in ``asked.npz``."""
    from circuits.check.confined import read_arrays  # noqa: PLC0415 - after the limits
    from circuits.model import Tensor  # noqa: PLC0415 - the same

    inputs = tuple(Tensor(name, tuple(shape), dtype) for name, shape, dtype in request["inputs"])
    raw = (folder / f"{request['graph']}.onnx").read_bytes()
    return _truth(raw, inputs, read_arrays(folder / "asked.npz"), folder)


def cut(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the rewritten graph with some inner tensors as its outputs, once with the job input and once without."""
    from circuits.check.cutting import cut_graph  # noqa: PLC0415 - after the limits

    raw = (folder / "rewritten.onnx").read_bytes()
    bare, with_job = cut_graph(raw, request["tensors"])
    (folder / f"{request['name']}.onnx").write_bytes(bare)
    (folder / f"{request['name']}-job.onnx").write_bytes(with_job)
    return {}


ACTIONS = {"read": read, "prepare": prepare, "truth": truth, "cut": cut}


def main() -> None:
    """Read the request, confine the process, act, answer."""
    request = json.loads(sys.stdin.buffer.read())
    confine(request)
    folder = Path(request["folder"])
    from verifier.errors import OpgateError  # noqa: PLC0415 - after the limits

    try:
        answer = ACTIONS[request["action"]](request, folder)
    except OpgateError as error:
        answer = {"error": error.to_json()}
    except MemoryError:
        answer = {"error": {"code": "C-memory", "message": "the model needs more memory than allowed"}}
    except Exception as error:  # noqa: BLE001 - whatever a hostile file raises is an answer
        answer = {
            "error": {
                "code": "C-onnx-graph",
                "message": "the model cannot be read or run",
                "found": f"{type(error).__name__}: {error}"[:300],
            }
        }
    partial = folder / "answer.part"
    partial.write_text(json.dumps(answer), encoding="utf-8")
    partial.rename(folder / "answer.json")


if __name__ == "__main__":
    main()
    os._exit(0)  # no library's thread is waited for
