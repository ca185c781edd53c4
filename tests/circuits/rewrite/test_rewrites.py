"""Every rewrite gives what onnxruntime gives for the owner's graph: on the operator corpus and on exporters' graphs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, MinMaxScaler, Normalizer, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from circuits.float_model import FloatModel
from circuits.model import Model
from circuits.parsing import parse_model
from circuits.samples import Array
from tests.circuits.operators.corpus import corpus

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "models"
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def outputs(model: Model, graph: bytes, sample: tuple[Array, ...]) -> tuple[Array, ...]:
    return FloatModel(graph, model.inputs).run(sample)


def test_no_rewrite_changes_an_output_of_the_operator_corpus() -> None:
    """Each case is rewritten and run beside the owner's graph; what is not finite there may be anything here."""
    seen: set[str] = set()
    for case in corpus():
        model = parse_model(case.model)
        changes = [each for each in model.rewrites if "opgate_job" not in each]
        seen.update(changes)
        if not changes:
            continue
        for sample in case.samples(5, 3):
            wanted = onnxruntime.InferenceSession(case.model, providers=["CPUExecutionProvider"]).run(
                None, {f"x{index}": array for index, array in enumerate(sample)}
            )
            for mine, theirs in zip(outputs(model, model.rewritten, sample), wanted, strict=True):
                finite = np.isfinite(theirs)
                assert np.allclose(mine[finite], theirs[finite], **CLOSE), (case.name, model.rewrites)
    for word in ("padding of MaxPool", "padding of AveragePool", "auto_pad", "negative constant", "powers", "CumSum"):
        assert any(word in each for each in seen), f"the corpus exercises no rewrite of {word}"
    for word in (
        "backward LSTM",
        "backward GRU",
        "backward RNN",
        "OneHot",
        "Mul and Add",
        "definition in ONNX",
        "opset",
    ):
        assert any(word in each for each in seen), f"the corpus exercises no rewrite of {word}"
    for word in ("LogSoftmax of opset", "Softmax of opset", "TopK of opset", "Upsample of opset", "Resize of opset"):
        assert any(word in each for each in seen), f"the corpus exercises no rewrite of {word}"


def scaled(data: Any, columns: int) -> tuple[Array, Array]:
    features, targets = data
    return StandardScaler().fit_transform(features[:, :columns]).astype(np.float32), targets


IRIS = scaled(load_iris(return_X_y=True), 4)
TUMOURS = scaled(load_breast_cancer(return_X_y=True), 6)
DIABETES = scaled(load_diabetes(return_X_y=True), 6)
EXPORTED = {
    "tree": (DecisionTreeClassifier(max_depth=4), IRIS),
    "binary tree": (DecisionTreeClassifier(max_depth=3), TUMOURS),
    "forest": (RandomForestClassifier(4, max_depth=3, random_state=0), IRIS),
    "boosting": (GradientBoostingClassifier(n_estimators=3, random_state=0), IRIS),
    "binary boosting": (GradientBoostingClassifier(n_estimators=4, random_state=0), TUMOURS),
    "regression boosting": (GradientBoostingRegressor(n_estimators=4, random_state=0), DIABETES),
    "forest after a scaler": (
        make_pipeline(MinMaxScaler(), RandomForestClassifier(3, max_depth=3, random_state=0)),
        IRIS,
    ),
    "extra trees": (ExtraTreesRegressor(3, max_depth=3, random_state=0), DIABETES),
    "logistic": (make_pipeline(StandardScaler(), LogisticRegression()), IRIS),
    "binary logistic": (LogisticRegression(), TUMOURS),
    "normalised": (make_pipeline(Normalizer("l2"), LogisticRegression()), IRIS),
    "l1 normalised": (make_pipeline(Normalizer("l1"), LogisticRegression()), IRIS),
    "largest normalised": (make_pipeline(MinMaxScaler((0.1, 1)), Normalizer("max"), LogisticRegression()), IRIS),
    "binarised": (make_pipeline(Binarizer(threshold=0.1), LogisticRegression()), IRIS),
    "linear": (LinearRegression(), DIABETES),
    "linear svc": (LinearSVC(), IRIS),
    "binary svc": (SVC(), TUMOURS),
    "binary linear svc": (SVC(kernel="linear"), TUMOURS),
    "svc of three": (SVC(), IRIS),
    "linear svc of three": (SVC(kernel="linear"), IRIS),
    "svc of pairs": (SVC(decision_function_shape="ovo"), IRIS),
    "svr rbf": (SVR(), DIABETES),
    "svr poly": (SVR(kernel="poly", degree=2, coef0=1.0), DIABETES),
    "svr linear": (SVR(kernel="linear"), DIABETES),
    "svr sigmoid": (SVR(kernel="sigmoid", gamma=0.05), DIABETES),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_of_scikit_learn_loses_its_own_operators_and_nothing_else(name: str) -> None:
    """Trap: ezkl knows no operator of ai.onnx.ml, and reads no ZipMap."""
    estimator, (rows, targets) = EXPORTED[name]
    assert_same_scores(to_onnx(estimator.fit(rows[::3], targets[::3]), rows[:1]).SerializeToString(), rows[:24, None])


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in EXAMPLES.glob("*/model.onnx")), ids=lambda each: each.name
)
def test_an_example_is_proved_as_its_exporter_wrote_it(folder: Path) -> None:
    """PyTorch, scikit-learn, XGBoost and LightGBM, each by its own exporter: examples/models/train.py."""
    with np.load(folder / "samples.npz") as samples:
        assert_same_scores((folder / "model.onnx").read_bytes(), samples["x"][:24, None])


def assert_same_scores(source: bytes, rows: Array) -> None:
    """The rewritten graph has no operator of ai.onnx.ml, and onnxruntime finds the same scores by both graphs."""
    model = parse_model(source)
    left = [node for node in onnx.load_model_from_string(model.rewritten).graph.node if node.domain == "ai.onnx.ml"]
    assert not left
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    original = [each.name for each in session.get_outputs()]
    for row in rows:
        found = outputs(model, model.rewritten, (row,))
        answers = dict(zip(original, session.run(None, {session.get_inputs()[0].name: row}), strict=True))
        scores = next(value for key, value in answers.items() if "label" not in key)
        wanted = np.array([list(scores[0].values())]) if isinstance(scores, list) else np.asarray(scores)
        assert np.allclose(found[0].reshape(-1), wanted.reshape(-1), rtol=1e-4, atol=1e-4)


def graph_of(nodes: list[onnx.NodeProto], shape: list[int | str], opset: int = 17, **stored: Array) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("layer", ["Conv", "Gemm"])
def test_batch_normalisation_goes_into_the_layer_before_it(layer: str) -> None:
    chosen = np.random.default_rng(0)
    weights = chosen.normal(size=(3, 2, 2, 2) if layer == "Conv" else (4, 3)).astype(np.float32)
    statistics = {name: chosen.uniform(0.5, 2, 3).astype(np.float32) for name in ("s", "t", "m", "v")}
    nodes = [
        helper.make_node(layer, ["x", "w", "b"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "s", "t", "m", "v"], ["y"]),
    ]
    shape: list[int | str] = ["N", 2, 4, 4] if layer == "Conv" else ["N", 4]
    model = parse_model(graph_of(nodes, shape, w=weights, b=statistics["m"], **statistics))
    assert [node.op_type for node in onnx.load_model_from_string(model.rewritten).graph.node] == [layer]
    sample = (chosen.normal(size=(1, *shape[1:])).astype(np.float32),)
    assert np.allclose(outputs(model, model.rewritten, sample)[0], outputs(model, model.static, sample)[0], **CLOSE)


def test_a_layer_that_others_read_too_keeps_its_weights() -> None:
    """Trap: folding into a layer with two readers changes what the other one reads."""
    chosen = np.random.default_rng(0)
    statistics = {name: chosen.uniform(0.5, 2, 3).astype(np.float32) for name in ("s", "t", "m", "v")}
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "s", "t", "m", "v"], ["n"]),
        helper.make_node("Add", ["h", "n"], ["y"]),
    ]
    model = parse_model(graph_of(nodes, [1, 4], w=chosen.normal(size=(4, 3)).astype(np.float32), **statistics))
    sample = (chosen.normal(size=(1, 4)).astype(np.float32),)
    assert np.allclose(outputs(model, model.rewritten, sample)[0], outputs(model, model.static, sample)[0], **CLOSE)


def test_shapes_that_an_exporter_computes_are_constants() -> None:
    """Trap: Shape, Gather, Concat, Reshape is how PyTorch flattens, and ezkl would carry the shape as values."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "first"], ["n"], axis=0),
        helper.make_node("Concat", ["n", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    stored = {"first": np.array([0]), "rest": np.array([-1])}
    model = parse_model(graph_of(nodes, ["N", 2, 3], **stored))
    assert [node.op_type for node in onnx.load_model_from_string(model.rewritten).graph.node] == ["Reshape"]


def test_a_wrong_declared_output_shape_decides_nothing() -> None:
    """Trap: scikit-learn's exporter declares one column where five come out."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    proto = onnx.load_model_from_string(graph_of(nodes, [1, 5], s=np.array([-1, 1])))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1]))
    model = parse_model(proto.SerializeToString())
    sample = (np.arange(5, dtype=np.float32)[None],)
    assert outputs(model, model.rewritten, sample)[0].shape == (5, 1)


def test_a_constant_that_would_fill_the_memory_is_not_made() -> None:
    """Trap: forty bytes of ONNX can ask for 2^40 zeros."""
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["z"]),
        helper.make_node("ReduceSum", ["z"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    model = parse_model(graph_of(nodes, [1, 2], huge=np.array([1 << 20, 1 << 20])))
    assert len(model.rewritten) < 2000


def test_the_rewritten_bytes_depend_on_nothing_but_the_source() -> None:
    """Trap: a circuit's identity hangs on these bytes; whoever rebuilds it must find them again."""
    estimator, (rows, targets) = EXPORTED["forest"]
    source = to_onnx(estimator.fit(rows, targets), rows[:1]).SerializeToString()
    assert len({parse_model(source).with_job for _ in range(3)}) == 1


@pytest.mark.parametrize("exclusive", [0, 1])
def test_padding_that_no_window_needs_is_left_alone(exclusive: int) -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], count_include_pad=exclusive)
    model = parse_model(graph_of([node], [1, 1, 4, 4]))
    assert "Pad" not in {each.op_type for each in onnx.load_model_from_string(model.rewritten).graph.node}
    assert math.prod(model.inputs[0].shape) == 16
