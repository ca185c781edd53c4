"""The owner's graph: what is refused, and what the job input changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from circuits.float_model import FloatModel
from circuits.model import JOB_INPUT
from circuits.parsing import parse_model
from verifier.errors import CircuitError

ModelBytes = Callable[..., bytes]


def test_the_job_input_is_last_and_used_by_no_node(linear_model: ModelBytes) -> None:
    model = parse_model(linear_model())
    graph = onnx.load_model_from_string(model.with_job).graph
    assert [each.name for each in graph.input] == ["x", JOB_INPUT]
    assert [axis.dim_value for axis in graph.input[1].type.tensor_type.shape.dim] == [1, 11]
    assert graph.input[1].type.tensor_type.elem_type == TensorProto.INT64
    assert all(JOB_INPUT not in node.input for node in graph.node)
    assert parse_model(linear_model()).with_job == model.with_job


def test_the_job_input_changes_no_output(linear_model: ModelBytes) -> None:
    model = parse_model(linear_model())
    sample = (np.array([[1, 2, 3]], np.float32),)
    assert np.array_equal(
        FloatModel(model.static, model.inputs).run(sample)[0],
        FloatModel(model.source, model.inputs).run(sample)[0],
    )


@pytest.mark.parametrize("batch", ["batch_size", "N", "unk__12"])
def test_an_open_batch_becomes_one_whatever_it_is_called(linear_model: ModelBytes, batch: str) -> None:
    """Trap: ezkl knows only `batch_size` and says "Undetermined symbol" of every other name."""
    model = parse_model(linear_model(batch=batch))
    assert model.inputs[0].shape == (1, 3)
    assert "batch dimension set to 1" in model.rewrites


def test_another_open_dimension_is_refused(linear_model: ModelBytes) -> None:
    proto = onnx.load_model_from_string(linear_model())
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    with pytest.raises(CircuitError) as caught:
        parse_model(proto.SerializeToString())
    assert caught.value.code == "C-onnx-dynamic"
    assert "axis 1" in caught.value.where


def test_weights_outside_the_file_are_refused(linear_model: ModelBytes) -> None:
    """Trap: the digest of the file would not cover them, and a path would read any file of this machine."""
    proto = onnx.load_model_from_string(linear_model())
    weight = proto.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(CircuitError) as caught:
        parse_model(proto.SerializeToString())
    assert caught.value.code == "C-onnx-external"


def test_a_model_that_has_a_tensor_of_that_name_is_refused(linear_model: ModelBytes) -> None:
    """Trap: a graph that reads the job id could answer each job differently."""
    proto = onnx.load_model_from_string(linear_model())
    proto.graph.node[0].input[0] = JOB_INPUT
    with pytest.raises(CircuitError) as caught:
        parse_model(proto.SerializeToString())
    assert caught.value.code == "C-onnx-name"


def test_a_subgraph_that_reads_the_job_id_is_refused(linear_model: ModelBytes) -> None:
    """Trap: the branch of an If sees the names of the graph around it."""
    proto = onnx.load_model_from_string(linear_model())
    inner = helper.make_graph(
        [helper.make_node("Identity", [JOB_INPUT], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.INT64, [1, 11])],
    )
    proto.graph.node.append(helper.make_node("If", ["x"], ["q"], then_branch=inner, else_branch=inner))
    with pytest.raises(CircuitError) as caught:
        parse_model(proto.SerializeToString())
    assert caught.value.code == "C-onnx-name"


@pytest.mark.parametrize("raw", [b"", b"\xff" * 40, b"PK\x03\x04", b"{}"])
def test_bytes_that_are_no_model_are_refused(raw: bytes) -> None:
    with pytest.raises(CircuitError) as caught:
        parse_model(raw)
    assert caught.value.code.startswith("C-onnx")


def test_truncated_models_are_refused_or_read(linear_model: ModelBytes) -> None:
    """Only our own errors come out of any prefix of a model."""
    whole = linear_model()
    for length in range(0, len(whole), 7):
        try:
            parse_model(whole[:length])
        except CircuitError:
            continue


def classifier(labels: list[str] | list[int]) -> bytes:
    """A linear classifier as scikit-learn's exporter writes it: label, then ZipMap of the scores."""
    names = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"
    zipped = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=[1.0, -1.0, 0.5, 0.5, -0.25, 1.0],
            intercepts=[0.1, -0.1],
            post_transform="SOFTMAX",
            **{names: labels},
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **{zipped: labels}),
    ]
    key = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    scores = helper.make_sequence_type_proto(
        helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    )
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [
            helper.make_tensor_value_info("label", key, [None]),
            helper.make_value_info("probabilities", scores),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("labels", [["no", "yes"], [3, 7]])
def test_a_classifier_gives_its_scores_alone(labels: list[str] | list[int]) -> None:
    """Trap: no circuit gives words or maps; the label is the largest score's, and each change is named."""
    model = parse_model(classifier(labels))
    assert model.output_names == ("scores",)
    assert sum("label" in change or "ZipMap" in change for change in model.rewrites) == 2
    sample = (np.array([[1, 2, 3]], np.float32),)
    (rewritten,) = FloatModel(model.rewritten, model.inputs).run(sample)
    assert np.allclose(rewritten, FloatModel(model.static, model.inputs).run(sample)[0], atol=1e-6)


def test_a_graph_that_onnxruntime_refuses_is_run_by_the_reference_evaluator() -> None:
    """Trap: exporters write products of int8 that onnxruntime has no kernel for, and ezkl takes."""
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT8),
        helper.make_node("MatMul", ["i", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "int8",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor("w", TensorProto.INT8, [2, 2], [1, 2, 3, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    parsed = parse_model(model.SerializeToString())
    floats = FloatModel(parsed.static, parsed.inputs)
    assert floats.engine == "onnx reference evaluator"
    assert floats.run((np.array([[1, 2]], np.float32),))[0].tolist() == [[7, 10]]
