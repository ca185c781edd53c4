"""Tree ensembles as one comparison for each different test, a product for each split and one sum over the leaves.

All tests are decided at once, `decisions.reached` says which leaves are, and a matrix product sums their values. Exact
but for the order of additions. Tests are of one order (less, at most, ...) and, for categories, of equality beside it;
an ensemble with BRANCH_NEQ or several orders is left alone.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.decisions import Split, reached, unequal
from circuits.rewrite.editing import MAX_FOLDED, ML_DOMAIN, Editor, Nodes, attributes, text
from circuits.rewrite.ml import as_floats, transformed, two_classes
from circuits.rewrite.scores import post_transform

MAX_LEAVES = 4096
MAX_DEPTH = 64
_MODES = {
    "BRANCH_LEQ": "LessOrEqual",
    "BRANCH_LT": "Less",
    "BRANCH_GTE": "GreaterOrEqual",
    "BRANCH_GT": "Greater",
}
_EQUALITY = "BRANCH_EQ"
_SIDES = {
    "LessOrEqual": ("Greater", True),
    "Less": ("Less", False),
    "GreaterOrEqual": ("Less", True),
    "Greater": ("Greater", False),
}
"""A comparison as one that ezkl has at every opset, and whether its answer is turned round."""


class _Test(NamedTuple):
    """A feature against a threshold, by the ensemble's comparison or for equality."""

    feature: int
    threshold: float
    is_equality: bool


class _Ensemble(NamedTuple):
    tests: list[_Test]
    trees: list[Split | int]
    values: list[dict[int, float]]
    comparison: str


class _MalformedError(Exception):
    """Not an ensemble that is understood here: it is left for ezkl to refuse."""


def rewrite_trees(editor: Editor) -> list[str]:
    """Replace TreeEnsembleClassifier and TreeEnsembleRegressor; what was replaced, in words."""
    told: list[str] = []

    def change(node: onnx.NodeProto) -> Nodes | None:
        if node.domain != ML_DOMAIN or node.op_type not in {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}:
            return None
        try:
            ensemble = _read(attributes(node), "class" if node.op_type.endswith("Classifier") else "target")
        except _MalformedError:
            return None
        made = (_classifier if node.op_type.endswith("Classifier") else _regressor)(editor, node, ensemble)
        if made is not None:
            size = f"{len(ensemble.tests)} tests, {len(ensemble.values)} leaves"
            told.append(f"{node.op_type} as comparisons and products ({size})")
        return made

    editor.each(change)
    return told


def _read(found: dict[str, Any], kind: str) -> _Ensemble:
    """All leaves with the way to each.

    Raises:
        _MalformedError: a form that is read differently elsewhere, or not at all.
    """
    modes = [text(each) for each in found.get("nodes_modes", [])]
    keys = list(zip(found.get("nodes_treeids", []), found.get("nodes_nodeids", []), strict=False))
    columns = [found.get(f"nodes_{each}", []) for each in ("featureids", "values", "truenodeids", "falsenodeids")]
    features, thresholds, truths, falsehoods = columns
    kinds = set(modes) - {"LEAF", _EQUALITY}
    comparison = _MODES.get(next(iter(kinds), "BRANCH_LEQ"))
    is_whole = (
        keys and all(len(each) == len(keys) for each in (modes, *columns)) and all(map(math.isfinite, thresholds))
    )
    is_plain = len(kinds) <= 1 and _is_grouped([tree for tree, _ in keys])
    if comparison is None or not is_whole or not is_plain or any(name.endswith("_as_tensor") for name in found):
        raise _MalformedError
    place = {key: index for index, key in enumerate(keys)}
    weights = _weights(found, kind)
    tests: dict[_Test, int] = {}
    values: list[dict[int, float]] = []

    def grow(tree: int, node: int, path: dict[int, bool], depth: int) -> Split | int:
        index = place.get((tree, node))
        if index is None or depth > MAX_DEPTH or len(values) > MAX_LEAVES:
            raise _MalformedError
        if modes[index] == "LEAF":
            values.append(weights.get((tree, node), {}))
            return len(values) - 1
        asked = _Test(int(features[index]), float(thresholds[index]), modes[index] == _EQUALITY)
        test = tests.setdefault(asked, len(tests))
        sides = (truths[index], True), (falsehoods[index], False)
        if test in path:  # decided above
            return next(grow(tree, child, path, depth + 1) for child, outcome in sides if outcome == path[test])
        truth, falsehood = (grow(tree, child, path | {test: outcome}, depth + 1) for child, outcome in sides)
        return Split(test, truth, falsehood)

    roots: dict[int, int] = {}
    for tree, node in keys:
        roots.setdefault(tree, node)
    trees = [grow(tree, root, {}, 0) for tree, root in roots.items()]
    return _Ensemble(list(tests), trees, values, comparison)


def _weights(found: dict[str, Any], kind: str) -> dict[tuple[int, int], dict[int, float]]:
    """What each leaf adds to which class or target."""
    weights: dict[tuple[int, int], dict[int, float]] = {}
    columns = (found.get(f"{kind}_{each}", []) for each in ("treeids", "nodeids", "ids", "weights"))
    for tree, leaf, target, weight in zip(*columns, strict=False):
        here = weights.setdefault((tree, leaf), {})
        if int(target) in here or not math.isfinite(weight):
            raise _MalformedError
        here[int(target)] = float(weight)
    return weights


def _is_grouped(trees: list[int]) -> bool:
    """Whether the nodes of each tree stand together: onnxruntime reads others in an order of its own."""
    return len(list(itertools.groupby(trees))) == len(set(trees))


def _sums(editor: Editor, node: onnx.NodeProto, ensemble: _Ensemble, base: Any) -> tuple[Nodes, str] | None:
    """The nodes that sum the reached leaves' values, one column for each class or target."""
    shape = editor.shapes.get(node.input[0])
    targets = base.shape[1]
    if shape is None or len(shape) != 2 or any(key >= targets for value in ensemble.values for key in value):
        return None
    if any(not 0 <= test.feature < shape[1] for test in ensemble.tests):
        return None
    if len(ensemble.values) * targets > MAX_FOLDED:
        return None
    values = np.zeros((len(ensemble.values), targets), np.float64)
    for row, value in enumerate(ensemble.values):
        for key, weight in value.items():
            values[row, key] = weight
    nodes, source = as_floats(editor, node.input[0])
    total = editor.name("sums")
    if not ensemble.tests:
        constant = editor.constant(values.sum(axis=0, keepdims=True) + base, "base", np.float32)
        zero = editor.constant(np.zeros((shape[1], targets)), "zero", np.float32)
        return [*nodes, helper.make_node("Gemm", [source, zero, constant], [total], alpha=1.0, beta=1.0)], total
    alone = [tree for tree in ensemble.trees if isinstance(tree, int)]
    base = base + values[alone].sum(axis=0, keepdims=True)
    values[alone] = 0
    decisions, decided, splits = _decided(editor, source, ensemble)
    products, leaves = reached(editor, decided, splits, len(ensemble.values))
    names = [leaves, editor.constant(values, "weights", np.float32), editor.constant(base, "bias", np.float32)]
    return [
        *nodes,
        *decisions,
        *products,
        helper.make_node("Gemm", names, [total], alpha=1.0, beta=1.0, transA=0, transB=0),
    ], total


def _decided(editor: Editor, source: str, ensemble: _Ensemble) -> tuple[Nodes, str, list[Split]]:
    """The nodes that decide all tests, their answers, and the trees for these: some answers are turned round."""
    operator, is_turned = _SIDES[ensemble.comparison]
    numbered = list(enumerate(ensemble.tests))
    ordered, equal = ([each for each in numbered if each[1].is_equality is kind] for kind in (False, True))
    place = {test: index for index, (test, _) in enumerate([*ordered, *equal])}
    turned = {number for number, test in numbered if is_turned or test.is_equality}
    splits = [_placed(tree, place, turned) for tree in ensemble.trees if isinstance(tree, Split)]
    nodes: Nodes = []
    answers: list[str] = []
    if ordered:
        gathered, sides = _tested(editor, source, [test for _, test in ordered])
        answers.append(editor.name("decided"))
        nodes += [gathered, helper.make_node(operator, sides, answers)]
    if equal:
        gathered, sides = _tested(editor, source, [test for _, test in equal])
        differing, other = unequal(editor, *sides)
        nodes += [gathered, *differing]
        answers.append(other)
    if len(answers) == 1:
        return nodes, answers[0], splits
    numbers = [editor.name("answers") for _ in answers]
    both = editor.name("decided")
    nodes += [
        helper.make_node("Cast", [each], [to], to=TensorProto.INT64) for each, to in zip(answers, numbers, strict=True)
    ]
    return [*nodes, helper.make_node("Concat", numbers, [both], axis=1)], both, splits


def _tested(editor: Editor, source: str, tests: list[_Test]) -> tuple[onnx.NodeProto, list[str]]:
    """The node that gathers the tests' features, and the names of these and of their thresholds."""
    chosen = editor.constant([test.feature for test in tests], "features", np.int64)
    thresholds = editor.constant([[test.threshold for test in tests]], "thresholds", np.float32)
    features = editor.name("tested")
    return helper.make_node("Gather", [source, chosen], [features], axis=1), [features, thresholds]


def _placed(tree: Split, place: dict[int, int], turned: set[int]) -> Split:
    """The same tree for answers at other places, some of them turned round."""
    sides = (tree.falsehood, tree.truth) if tree.test in turned else (tree.truth, tree.falsehood)
    truth, falsehood = (_placed(each, place, turned) if isinstance(each, Split) else each for each in sides)
    return Split(place[tree.test], truth, falsehood)


def _regressor(editor: Editor, node: onnx.NodeProto, ensemble: _Ensemble) -> Nodes | None:
    found = attributes(node)
    targets = int(found.get("n_targets", 1))
    aggregate = text(found.get("aggregate_function"), "SUM")
    if not 0 < targets <= 1024 or aggregate not in {"SUM", "AVERAGE"} or post_transform(node) != "NONE":
        return None
    base = np.asarray(found.get("base_values", [0.0] * targets), np.float64)
    if base.size != targets:
        return None
    if targets > 1 and base.any() and not _votes_for_all(ensemble, targets):
        return None
    if aggregate == "AVERAGE":
        trees = len(set(found["nodes_treeids"]))
        ensemble = ensemble._replace(
            values=[{key: weight / trees for key, weight in value.items()} for value in ensemble.values]
        )
    made = _sums(editor, node, ensemble, base.reshape(1, -1))
    if made is None:
        return None
    nodes, total = made
    return [*nodes, helper.make_node("Identity", [total], [node.output[0]])]


def _votes_for_all(ensemble: _Ensemble, targets: int) -> bool:
    """Whether each leaf names each target: onnxruntime has rules of its own for one that no leaf reached named."""
    return all(len(value) == targets for value in ensemble.values)


def _classifier(  # noqa: PLR0911 - each return is a form that is left alone
    editor: Editor, node: onnx.NodeProto, ensemble: _Ensemble
) -> Nodes | None:
    """The scores; a binary ensemble that votes for one class only gives the other's by onnxruntime's rule."""
    found = attributes(node)
    labels = max(len(found.get("classlabels_int64s", [])), len(found.get("classlabels_strings", [])))
    if len(node.output) < 2 or labels < 2 or editor.readers().get(node.output[0]):
        return None
    kind = post_transform(node)
    base = np.asarray(found.get("base_values", []), np.float64)
    classes = {int(each) for each in found.get("class_ids", [])}
    if labels == 2 and len(classes) == 1:
        ensemble = ensemble._replace(values=[{0: sum(value.values())} if value else {} for value in ensemble.values])
        if base.size > 1 or classes != {0}:
            return None
        made = _sums(editor, node, ensemble, base.reshape(1, 1) if base.size else np.zeros((1, 1)))
        is_positive = all(weight >= 0 for weight in found.get("class_weights", []))
        form = "logistic" if kind == "LOGISTIC" else "complement" if is_positive else "negative"
        if made is None or kind not in {"NONE", "LOGISTIC"}:
            return None
        nodes, total = made
        return [*nodes, *two_classes(editor, total, node.output[1], form)]
    if base.size not in {0, labels} or (labels == 2 and (base.size or not _votes_for_all(ensemble, labels))):
        return None
    made = _sums(editor, node, ensemble, base.reshape(1, -1) if base.size else np.zeros((1, labels)))
    if made is None:
        return None
    nodes, total = made
    last = transformed(kind, total, node.output[1])
    return None if last is None else [*nodes, *last]
