"""Small models, one for each way in which a circuit can differ: what is shown, how many tensors, columns, lookups."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.statement.manifest import Visibility

SAMPLES = 16


class Kind(NamedTuple):
    """One model: its graph's nodes, inputs and outputs with their widths, and how it becomes a circuit."""

    nodes: tuple[tuple[str, tuple[str, ...], str], ...]
    inputs: dict[str, int]
    outputs: dict[str, int]
    visibility: Visibility = "public"
    columns: int = 1


_GEMM = ("MatMul", ("x", "w"), "scores")
KINDS: dict[str, Kind] = {
    "hashed": Kind((_GEMM, ("Relu", ("scores",), "y")), {"x": 4}, {"y": 3}, visibility="hashed"),
    "two_inputs": Kind(
        (_GEMM, ("MatMul", ("z", "v"), "bias"), ("Add", ("scores", "bias"), "y")), {"x": 4, "z": 2}, {"y": 3}
    ),
    "two_outputs": Kind((_GEMM, ("Relu", ("scores",), "y")), {"x": 4}, {"scores": 3, "y": 3}),
    "columns": Kind((_GEMM, ("Relu", ("scores",), "y")), {"x": 4}, {"y": 3}, columns=2),
    "lookups": Kind((_GEMM, ("Sigmoid", ("scores",), "y")), {"x": 4}, {"y": 3}),
}


def write_model(kind: Kind, folder: Path, seed: int = 11) -> tuple[Path, Path]:
    """The model and its samples; the same bytes each time, other weights and the same samples for another seed."""
    weighing, random = np.random.default_rng(seed), np.random.default_rng(13)
    weights = {"w": weighing.uniform(-1, 1, (4, 3)), "v": weighing.uniform(-1, 1, (2, 3))}
    used = {name for _, operands, _ in kind.nodes for name in operands}
    graph = helper.make_graph(
        [helper.make_node(operator, list(operands), [result]) for operator, operands, result in kind.nodes],
        "vector",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name, width in kind.inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name, width in kind.outputs.items()],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path, samples = folder / "model.onnx", folder / "samples.npz"
    path.write_bytes(model.SerializeToString(deterministic=True))
    drawn = {name: random.uniform(-2, 2, (SAMPLES, width)).astype(np.float32) for name, width in kind.inputs.items()}
    np.savez(samples, **drawn)  # type: ignore[arg-type] # its stub takes allow_pickle for one of the arrays
    return path, samples
