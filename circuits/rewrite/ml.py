"""Operators of ai.onnx.ml that are arithmetic (Scaler, Linear*, Normalizer, Binarizer, SVM), by plain operators.

Semantics: the operators' specification in onnx, and onnxruntime's kernels where it is silent (binary classifiers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.editing import ML_DOMAIN, Editor, Nodes, attributes, text
from circuits.rewrite.features import imputer, one_hot_encoder
from circuits.rewrite.scores import post_transform

_AXES_AS_INPUT = 18
"""The operator set since which ReduceMax takes its axes as an input."""


def rewrite_ml(editor: Editor) -> list[str]:
    """Replace each operator of ai.onnx.ml that is known here; the names of those replaced."""
    counts: dict[str, int] = {}

    def change(node: onnx.NodeProto) -> Nodes | None:
        made = _OPERATORS.get(node.op_type) if node.domain == ML_DOMAIN else None
        new = made(editor, node) if made is not None else None
        if new is not None:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        return new

    while editor.each(change):  # what a replaced node gives has a shape only afterwards
        pass
    return [f"{name} as {_FORMS[name]}" for name in sorted(counts)]


def as_floats(editor: Editor, name: str) -> tuple[Nodes, str]:
    """The tensor as float32, with the Cast that takes if it is another type."""
    if editor.types.get(name) == TensorProto.FLOAT:
        return [], name
    cast = editor.name("float")
    return [helper.make_node("Cast", [name], [cast], to=TensorProto.FLOAT)], cast


def transformed(kind: str, source: str, target: str) -> Nodes | None:
    """A classifier's function of its scores; None for those that have no plain operator (PROBIT, SOFTMAX_ZERO)."""
    match kind:
        case "NONE":
            return [helper.make_node("Identity", [source], [target])]
        case "LOGISTIC":
            return [helper.make_node("Sigmoid", [source], [target])]
        case "SOFTMAX":
            return [helper.make_node("Softmax", [source], [target], axis=1)]
    return None


def two_classes(editor: Editor, score: str, target: str, form: str) -> Nodes:
    """Both columns of a binary classifier from its one score: ``[1 - s, s]``, ``[-s, s]`` or through a sigmoid."""
    if form == "logistic":
        probability = editor.name("probability")
        return [
            helper.make_node("Sigmoid", [score], [probability]),
            *two_classes(editor, probability, target, "complement"),
        ]
    first = editor.name("first_class")
    made = (
        helper.make_node("Neg", [score], [first])
        if form == "negative"
        else helper.make_node("Sub", [editor.constant(1.0, "one", np.float32), score], [first])
    )
    return [made, helper.make_node("Concat", [first, score], [target], axis=1)]


def _scaler(editor: Editor, node: onnx.NodeProto) -> Nodes:
    found = attributes(node)
    nodes, source = as_floats(editor, node.input[0])
    scale = np.asarray(found.get("scale", [1.0]), np.float64)
    offset = np.asarray(found.get("offset", [0.0]), np.float64)
    moved = editor.name("centred")
    return [
        *nodes,
        helper.make_node("Sub", [source, editor.constant(offset, "offset", np.float32)], [moved]),
        helper.make_node("Mul", [moved, editor.constant(scale, "scale", np.float32)], [node.output[0]]),
    ]


def _gemm(editor: Editor, source: str, target: str, weights: Any, bias: Any) -> onnx.NodeProto:
    names = [source, editor.constant(weights, "weights", np.float32), editor.constant(bias, "bias", np.float32)]
    return helper.make_node("Gemm", names, [target], alpha=1.0, beta=1.0, transA=0, transB=0)


def _linear_regressor(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    found = attributes(node)
    targets = int(found.get("targets", 1))
    coefficients = np.asarray(found.get("coefficients", []), np.float32)
    if text(found.get("post_transform"), "NONE") != "NONE" or targets < 1 or coefficients.size % targets:
        return None
    bias = np.asarray(found.get("intercepts", [0.0] * targets), np.float32)
    nodes, source = as_floats(editor, node.input[0])
    weights = coefficients.reshape(targets, -1).T
    return [*nodes, _gemm(editor, source, node.output[0], weights, bias.reshape(1, -1))]


def _linear_classifier(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    found = attributes(node)
    bias = np.asarray(found.get("intercepts", []), np.float32)
    coefficients = np.asarray(found.get("coefficients", []), np.float32)
    labels = max(len(found.get("classlabels_ints", [])), len(found.get("classlabels_strings", [])))
    rows = bias.size or labels
    if len(node.output) < 2 or not _is_unread(editor, node.output[0]) or not rows or coefficients.size % rows:
        return None
    kind = post_transform(node)
    nodes, source = as_floats(editor, node.input[0])
    score = editor.name("scores")
    bias = bias if bias.size else np.zeros(rows, np.float32)
    nodes.append(_gemm(editor, source, score, coefficients.reshape(rows, -1).T, bias.reshape(1, -1)))
    if rows == 1 and labels == 2:
        form = "logistic" if kind == "LOGISTIC" else "negative"
        return [*nodes, *two_classes(editor, score, node.output[1], form)] if kind in {"NONE", "LOGISTIC"} else None
    last = transformed(kind, score, node.output[1])
    return None if last is None else [*nodes, *last]


def _normalizer(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    norm, kind = editor.name("norm"), text(attributes(node).get("norm"), "MAX")
    maker = editor.producers().get(node.input[0])
    if (
        kind == "L1"
        and maker is not None
        and maker.op_type == "LinearClassifier"
        and post_transform(maker) == "SOFTMAX"
    ):
        # probabilities of a softmax sum to 1 already
        return [helper.make_node("Identity", [node.input[0]], [node.output[0]])]
    nodes, source = as_floats(editor, node.input[0])
    if kind == "L2":
        square, total = editor.name("square"), editor.name("total")
        nodes.append(helper.make_node("Mul", [source, source], [square]))
        nodes.append(_sum(editor, square, total))
        nodes.append(helper.make_node("Sqrt", [total], [norm]))
    elif kind == "L1":
        absolute = editor.name("absolute")
        nodes.append(helper.make_node("Abs", [source], [absolute]))
        nodes.append(_sum(editor, absolute, norm))
    elif kind == "MAX" and editor.opset < _AXES_AS_INPUT:  # of the values, not of their magnitudes
        nodes.append(helper.make_node("ReduceMax", [source], [norm], axes=[1], keepdims=1))
    elif kind == "MAX":
        nodes.append(
            helper.make_node("ReduceMax", [source, editor.constant([1], "axes", np.int64)], [norm], keepdims=1)
        )
    else:
        return None
    return [*nodes, helper.make_node("Div", [source, norm], [node.output[0]])]


def _sum(editor: Editor, source: str, target: str) -> onnx.NodeProto:
    if editor.opset < 13:
        return helper.make_node("ReduceSum", [source], [target], axes=[1], keepdims=1)
    return helper.make_node("ReduceSum", [source, editor.constant([1], "axes", np.int64)], [target], keepdims=1)


def _binarizer(editor: Editor, node: onnx.NodeProto) -> Nodes:
    nodes, source = as_floats(editor, node.input[0])
    above = editor.name("above")
    threshold = editor.constant(float(attributes(node).get("threshold", 0.0)), "threshold", np.float32)
    return [
        *nodes,
        helper.make_node("Greater", [source, threshold], [above]),
        helper.make_node("Cast", [above], [node.output[0]], to=TensorProto.FLOAT),
    ]


def _feature_vectorizer(editor: Editor, node: onnx.NodeProto) -> Nodes:
    nodes: Nodes = []
    sources = []
    for name in node.input:
        casts, source = as_floats(editor, name)
        nodes.extend(casts)
        sources.append(source)
    return [*nodes, helper.make_node("Concat", sources, [node.output[0]], axis=1)]


def _feature_extractor(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """Constant columns of the last axis; of a vector it makes one row."""
    indices = editor.constants.get(node.input[1])
    shape = editor.shapes.get(node.input[0])
    if indices is None or not shape:
        return None
    row = (1, -1) if len(shape) == 1 else (-1,)
    chosen = editor.constant(indices.reshape(row), "columns", np.int64)
    gathered = helper.make_node("Gather", [node.input[0], chosen], [node.output[0]], axis=len(shape) - 1)
    return [gathered]


def _svm_regressor(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    found = attributes(node)
    if text(found.get("post_transform"), "NONE") != "NONE" or int(found.get("one_class", 0)):
        return None
    coefficients = np.asarray(found.get("coefficients", []), np.float32)
    supports = int(found.get("n_supports", 0))
    rho = np.asarray(found.get("rho", [0.0]), np.float32)
    nodes, source = as_floats(editor, node.input[0])
    if supports == 0:
        return [*nodes, _gemm(editor, source, node.output[0], coefficients.reshape(-1, 1), rho[:1].reshape(1, 1))]
    machine = _machine(editor, found, source, node.output[0], coefficients.reshape(-1, 1), rho[:1])
    return None if machine is None else [*nodes, *machine]


def _svm_classifier(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """The scores of two classes, or of each pair of more; fitted probabilities cost more than they are worth."""
    found = attributes(node)
    rho = np.asarray(found.get("rho", []), np.float32)
    labels = max(len(found.get("classlabels_ints", [])), len(found.get("classlabels_strings", [])))
    counts = [int(each) for each in found.get("vectors_per_class", [])]
    coefficients = np.asarray(found.get("coefficients", []), np.float32)
    is_plain = len(node.output) > 1 and _is_unread(editor, node.output[0]) and not found.get("prob_a")
    if not is_plain or post_transform(node) != "NONE" or labels < 2 or len(counts) != labels:
        return None
    if (
        rho.size != labels * (labels - 1) // 2
        or not coefficients.size
        or coefficients.size != (labels - 1) * sum(counts)
    ):
        return None
    nodes, source = as_floats(editor, node.input[0])
    score = editor.name("scores") if labels == 2 else node.output[1]
    machine = _machine(editor, found, source, score, _pairs(coefficients.reshape(labels - 1, -1), counts), rho)
    if machine is None:
        return None
    both = two_classes(editor, score, node.output[1], "negative") if labels == 2 else []
    return [*nodes, *machine, *both]


def _pairs(coefficients: Any, counts: list[int]) -> Any:
    """The weight of each support vector in the score of each pair of classes, [vectors, pairs], as libsvm stores them.

    In the score of classes i < j, vectors of i have the weights of row j - 1, vectors of j those of row i.
    """
    starts = [0, *np.cumsum(counts).tolist()]
    columns = []
    for i in range(len(counts)):
        for j in range(i + 1, len(counts)):
            column = np.zeros(starts[-1], np.float32)
            for mine, row in ((i, j - 1), (j, i)):
                column[starts[mine] : starts[mine + 1]] = coefficients[row, starts[mine] : starts[mine + 1]]
            columns.append(column)
    return np.stack(columns, axis=1)


def _machine(  # noqa: PLR0913, PLR0917 - where it reads, where it writes, and its weights
    editor: Editor, found: dict[str, Any], source: str, target: str, weights: Any, rho: Any
) -> Nodes | None:
    """The kernel of the input with each support vector times the weights, [vectors, scores], plus rho."""
    vectors = np.asarray(found.get("support_vectors", []), np.float32).reshape(len(weights), -1)
    if text(found.get("kernel_type"), "LINEAR") == "LINEAR":  # one small product instead of two large ones
        product = vectors.astype(np.float64).T @ weights.astype(np.float64)
        return [_gemm(editor, source, target, product, rho.reshape(1, -1))]
    kernels = _kernels(editor, found, source, vectors)
    if kernels is None:
        return None
    nodes, kernel = kernels
    return [*nodes, _gemm(editor, kernel, target, weights, rho.reshape(1, -1))]


def _kernels(editor: Editor, found: dict[str, Any], source: str, vectors: Any) -> tuple[Nodes, str] | None:
    """The kernel of the input with each support vector, one row."""
    kind = text(found.get("kernel_type"), "LINEAR")
    gamma, shift, degree = (float(each) for each in [*found.get("kernel_params", []), 0.0, 0.0, 0.0][:3])
    product, kernel = editor.name("product"), editor.name("kernel")
    zero = np.zeros((1, len(vectors)), np.float32)
    if kind == "SIGMOID":
        dot = _gemm(editor, source, product, vectors.T * np.float32(gamma), zero + np.float32(shift))
        return [dot, helper.make_node("Tanh", [product], [kernel])], kernel
    if kind == "POLY" and degree == int(degree) and 1 <= degree <= 8:
        nodes = [_gemm(editor, source, product, vectors.T * np.float32(gamma), zero + np.float32(shift))]
        last = product
        for _ in range(int(degree) - 1):
            power = editor.name("power")
            nodes.append(helper.make_node("Mul", [last, product], [power]))
            last = power
        return nodes, last
    if kind == "RBF":
        square, norm, distance = editor.name("square"), editor.name("norm"), editor.name("distance")
        own = (vectors.astype(np.float64) ** 2).sum(axis=1).reshape(1, -1) * -gamma
        return [
            helper.make_node("Mul", [source, source], [square]),
            _gemm(editor, square, norm, np.full((vectors.shape[1], len(vectors)), -gamma), zero),
            _gemm(editor, source, product, vectors.T * np.float32(2 * gamma), own),
            helper.make_node("Add", [norm, product], [distance]),
            helper.make_node("Exp", [distance], [kernel]),
        ], kernel
    return None


def _is_unread(editor: Editor, name: str) -> bool:
    return not editor.readers().get(name)


_OPERATORS: dict[str, Callable[[Editor, onnx.NodeProto], Nodes | None]] = {
    "ArrayFeatureExtractor": _feature_extractor,
    "Binarizer": _binarizer,
    "FeatureVectorizer": _feature_vectorizer,
    "Imputer": imputer,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "OneHotEncoder": one_hot_encoder,
    "SVMClassifier": _svm_classifier,
    "SVMRegressor": _svm_regressor,
    "Scaler": _scaler,
}
_FORMS = {
    "ArrayFeatureExtractor": "Gather",
    "Binarizer": "Greater",
    "FeatureVectorizer": "Concat",
    "Imputer": "Identity or Where",
    "LinearClassifier": "Gemm",
    "LinearRegressor": "Gemm",
    "Normalizer": "the division by the norm",
    "OneHotEncoder": "comparisons",
    "SVMClassifier": "matrix products",
    "SVMRegressor": "matrix products",
    "Scaler": "Sub and Mul",
}
