"""What is rewritten only to save rows: the same outputs in fewer rows, and nothing where it would be wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits import ezkl_runner
from circuits.float_model import FloatModel
from circuits.model import CHEAPER, Model
from circuits.parsing import parse_model
from circuits.run_arguments import ezkl_arguments
from circuits.samples import Array
from tests.circuits.rewrite.test_rewrites import graph_of

Node = onnx.NodeProto
CHOSEN = np.random.default_rng(3)
WEIGHTS = CHOSEN.normal(size=(3, 2, 3, 3)).astype(np.float32)
BIAS = CHOSEN.normal(size=3).astype(np.float32)
CONV = helper.make_node("Conv", ["x", "w", "b"], ["h"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def node(operator: str, inputs: Sequence[str], target: str = "y", **fields: Any) -> Node:
    return helper.make_node(operator, list(inputs), [target], **fields)


def pool(source: str = "x", size: int = 2, stride: int = 2, **fields: Any) -> Node:
    return node("MaxPool", [source], kernel_shape=[size, size], strides=[stride, stride], **fields)


STORED = {
    "w": WEIGHTS,
    "b": BIAS,
    "point": WEIGHTS[:, :, :1, :1].copy(),
    "lo": np.float32(-0.5),
    "hi": np.float32(1.25),
    "least": np.float32(np.finfo(np.float32).min),
}
SAVED: dict[str, tuple[list[Node], tuple[int, ...], str]] = {
    "Relu": ([CONV, node("Relu", ["h"])], (1, 2, 4, 4), "Relu"),
    "Relu of Relu": ([CONV, node("Relu", ["h"], "r"), node("Relu", ["r"])], (1, 2, 4, 4), "Relu"),
    "LeakyRelu": ([node("LeakyRelu", ["x"], alpha=0.3)], (1, 7), "LeakyRelu"),
    "Clip": ([node("Clip", ["x", "lo", "hi"])], (1, 7), "Clip"),
    "Clip after Conv": ([CONV, node("Clip", ["h", "lo", "hi"])], (1, 2, 4, 4), "Clip"),
    "Clip from below": ([node("Clip", ["x", "lo"])], (1, 7), "Clip"),
    "Clip from above": ([node("Clip", ["x", "", "hi"])], (1, 7), "Clip"),
    "Clip written out": ([node("Clip", ["x", "least", "hi"])], (1, 7), "Clip"),
    "Max": ([node("Neg", ["x"], "n"), node("Max", ["x", "n"])], (1, 7), "Max"),
    "Min of three": ([node("Neg", ["x"], "n"), node("Min", ["x", "n", "lo"])], (1, 7), "Min"),
    "MaxPool": ([pool()], (1, 2, 4, 4), "MaxPool"),
    "MaxPool of three": ([pool(size=3, stride=2)], (1, 1, 7, 7), "MaxPool"),
    "MaxPool padded": ([pool(pads=[1, 1, 1, 1])], (1, 1, 4, 4), "MaxPool"),
    "MaxPool in a line": ([node("MaxPool", ["x"], kernel_shape=[3], strides=[1])], (1, 2, 6), "MaxPool"),
    "MaxPool after Conv": ([CONV, node("Relu", ["h"], "r"), pool("r")], (1, 2, 4, 4), "MaxPool"),
    "ReduceMax": ([node("ReduceMax", ["x"], axes=[1], keepdims=0)], (1, 7), "ReduceMax"),
    "ReduceMin of all": ([node("ReduceMin", ["x"])], (1, 3, 4), "ReduceMin"),
    "ReduceMax of two axes": ([node("ReduceMax", ["x"], axes=[-1, 1])], (1, 3, 5), "ReduceMax"),
    "point": (
        [
            helper.make_node("Conv", ["x", "point", "b"], ["h"], kernel_shape=[1, 1], pads=[1, 1, 2, 0]),
            node("Relu", ["h"], "r"),
            node("Sigmoid", ["r"]),
        ],
        (1, 2, 3, 3),
        "",
    ),
}


def parsed(name: str, opset: int = 13) -> Model:
    nodes, shape, _ = SAVED[name]
    used = {name for each in nodes for name in each.input}
    return parse_model(
        graph_of(nodes, list(shape), opset, **{key: value for key, value in STORED.items() if key in used})
    )


def run(model: Model, graph: bytes, sample: Array) -> Array:
    return np.asarray(FloatModel(graph, model.inputs).run((sample,))[0])


@pytest.mark.parametrize("name", SAVED)
def test_an_economy_changes_no_output(name: str) -> None:
    model, gone = parsed(name), SAVED[name][2]
    assert any(each.startswith(CHEAPER) for each in model.rewrites)
    graph = onnx.load_model_from_string(model.rewritten).graph
    assert gone not in {each.op_type for each in graph.node}
    labels = [each.name for each in graph.node if each.name]
    assert len(set(labels)) == len(labels), "ezkl's reader mixes up nodes of one name"
    for _ in range(20):
        sample = CHOSEN.normal(0, 2, SAVED[name][1]).astype(np.float32)
        assert np.allclose(run(model, model.rewritten, sample), run(model, model.static, sample), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SAVED if not name.endswith("Conv") and name != "LeakyRelu"])
def test_on_numbers_of_few_bits_it_is_exact(name: str) -> None:
    """What the circuit computes: integers. Weights are small integers here too, so that nothing is rounded."""
    whole = {key: np.round(value) if key in {"w", "b", "point"} else value for key, value in STORED.items()}
    nodes, shape, _ = SAVED[name]
    used = {each for made in nodes for each in made.input} & whole.keys()
    model = parse_model(graph_of(nodes, list(shape), 13, **{key: np.asarray(whole[key]) for key in used}))
    for _ in range(20):
        sample = (CHOSEN.integers(-(2**9), 2**9, shape) / 2**7).astype(np.float32)
        mine, theirs = run(model, model.rewritten, sample), run(model, model.static, sample)
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("name", SAVED)
def test_an_economy_saves_rows(name: str, tmp_path: Path) -> None:
    """By ezkl's own count, beside the graph as it would be without; or it saves the shuffles, at about as many rows."""
    model = parsed(name)
    rows = {}
    for kind in ("plain", "with_job"):
        graph, settings = tmp_path / f"{kind}.onnx", tmp_path / f"{kind}.json"
        graph.write_bytes(getattr(model, kind))
        arguments = ezkl_arguments(
            input_scale=7,
            param_scale=7,
            scale_rebase_multiplier=10,
            lookup_range=[-2000, 2000],
            logrows=15,
            num_inner_cols=1,
            decomp_base=8192,
            decomp_legs=2,
        )
        outcome = ezkl_runner.run([ezkl_runner.gen_settings(graph, settings, arguments)])[0]
        if not isinstance(outcome, ezkl_runner.Outcome):
            assert kind == "plain", outcome
            rows[kind] = 1 << 40, 0  # what ezkl refuses as it stands saves all of it
            continue
        said = json.loads(settings.read_bytes())
        rows[kind] = said["total_assignments"], said["num_shuffles"]
    (before, shuffles), (after, left) = rows["plain"], rows["with_job"]
    assert left == 0
    assert after < before * (1.02 if shuffles else 1), rows


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Relu", ["x"])], "no weights to halve"),
        ([node("Sigmoid", ["x"], "h"), node("Relu", ["h"])], "no operator that a factor passes"),
        ([node("Gemm", ["x", "m"], "h"), node("Relu", ["h"], "r"), node("Add", ["h", "r"])], "a second reader"),
    ],
)
def test_a_relu_without_weights_of_its_own_stays(nodes: list[Node], why: str) -> None:
    """Trap: a product by a half makes the scale grow, and the rescale later costs more than was saved."""
    stored = {"m": CHOSEN.normal(size=(4, 4)).astype(np.float32)} if any("m" in each.input for each in nodes) else {}
    model = parse_model(graph_of(nodes, [1, 4], 13, **stored))
    assert "Relu" in {each.op_type for each in onnx.load_model_from_string(model.rewritten).graph.node}, why


def test_integers_and_old_operator_sets_are_left_alone() -> None:
    graph = helper.make_graph(
        [node("Max", ["x", "z"])],
        "whole",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1, 3])],
        [numpy_helper.from_array(np.array([0]), "z")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert not any(each.startswith(CHEAPER) for each in parse_model(proto.SerializeToString()).rewrites)
    assert not any(each.startswith(CHEAPER) for each in parsed("MaxPool", 9).rewrites)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_around_a_point_convolution(stride: int) -> None:
    layer = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], kernel_shape=[1, 1], pads=[2, 1, 3, 2], strides=[stride, stride]
    )
    model = parse_model(graph_of([layer], [1, 2, 5, 4], 13, w=STORED["point"], b=BIAS))
    sample = CHOSEN.normal(size=(1, 2, 5, 4)).astype(np.float32)
    assert np.array_equal(run(model, model.rewritten, sample), run(model, model.static, sample))


@pytest.mark.parametrize(
    ("nodes", "shape", "gone", "stored"),
    [
        ([node("Clip", ["x", "far"])], (1, 4), None, {"far": np.float32(np.inf)}),
        ([node("Clip", ["x", "", "far"])], (1, 4), None, {"far": np.float32(np.finfo(np.float32).min)}),
        ([node("Clip", ["x", "zero", "far"])], (1, 4), None, {"zero": np.float32(0), "far": np.float32(1e9)}),
        ([node("Neg", ["x"], "n"), node("Min", ["n", "x", "far"])], (1, 4), None, {"far": np.float32(-1e9)}),
        (
            [
                helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
                node("ReduceMax", ["x"], "top", keepdims=0),
                node("Clip", ["h", "", "top"], "c"),
                node("Sigmoid", ["c"]),
            ],
            (1, 1, 4, 4),
            None,
            {"w": np.full((1, 1, 1, 1), 2, np.float32)},
        ),
        (
            [
                helper.make_node("Conv", ["x", "w"], ["h"], pads=[1 << 19, 1 << 19]),
                node("Sigmoid", ["h"], "s"),
                node("GlobalAveragePool", ["s"]),
            ],
            (1, 1, 4),
            None,
            {"w": np.ones((1, 1, 1), np.float32)},
        ),
        (
            [
                helper.make_node("Gemm", ["x", "w"], ["h"]),
                node("Relu", ["h"]),
            ],
            (1, 4),
            "scaled",
            {"w": np.full((4, 3), np.finfo(np.float32).smallest_subnormal, np.float32)},
        ),
    ],
    ids=["min inf", "max lowest", "far clip", "far min", "a bound that is computed", "endless padding", "underflow"],
)
def test_at_the_edges_of_an_economy_nothing_is_done_wrong(
    nodes: list[Node], shape: tuple[int, ...], gone: str | None, stored: dict[str, Array]
) -> None:
    """Found by attack: bounds at the wrong end, constants that swallow x, bounds made later, numbers in the file."""
    model = parse_model(graph_of(nodes, list(shape), 13, **{name: np.asarray(each) for name, each in stored.items()}))
    sample = CHOSEN.normal(0, 2, shape).astype(np.float32)
    assert np.allclose(run(model, model.rewritten, sample), run(model, model.static, sample), rtol=1e-4, atol=1e-5)
    assert gone is None or gone not in model.rewritten.decode("latin-1")


def test_names_of_new_nodes_are_nobodys() -> None:
    nodes = [helper.make_node("LeakyRelu", ["x"], ["t"], name="a"), helper.make_node("Neg", ["t"], ["y"], name="a.0")]
    names = [
        each.name for each in onnx.load_model_from_string(parse_model(graph_of(nodes, [1, 2])).rewritten).graph.node
    ]
    assert len(names) == len(set(names)) == 5


def test_weights_that_would_become_too_small_are_not_halved() -> None:
    """At scales of up to 15 bits a layer of small weights would lose what it says."""
    for largest, stays in ((1.0, False), (2.0**-6, True)):
        layer = [helper.make_node("Gemm", ["x", "m"], ["h"]), node("Relu", ["h"])]
        model = parse_model(graph_of(layer, [1, 4], 13, m=np.full((4, 3), largest, np.float32)))
        operators = {each.op_type for each in onnx.load_model_from_string(model.rewritten).graph.node}
        assert ("Relu" in operators) is stays


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_padding_of_a_pool_has_the_type_of_what_it_pads(kind: int) -> None:
    proto = onnx.load_model_from_string(
        graph_of([node("AveragePool", ["x"], kernel_shape=[3], pads=[1, 1])], [1, 1, 6], 13)
    )
    proto.graph.input[0].type.tensor_type.elem_type = proto.graph.output[0].type.tensor_type.elem_type = kind
    model = parse_model(proto.SerializeToString())
    sample = np.ones((1, 1, 6), helper.tensor_dtype_to_np_dtype(kind))
    assert np.allclose(run(model, model.rewritten, sample), 1, atol=1e-3)
