"""A classifier's outputs as scikit-learn's exporters write them: ZipMap and the label go, the scores stay.

What is left is an array for each output. A label is the index of the largest score, or a table look-up of it: whoever
reads the scores has it, and a circuit that computes it too costs about twice as much.
"""

from __future__ import annotations

import onnx

from circuits.rewrite.editing import ML_DOMAIN, Editor, attributes, text

CLASSIFIERS = frozenset({"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"})


def keep_scores(proto: onnx.ModelProto) -> list[str]:
    """Drop ZipMap and labels that stand beside scores. The graph's other outputs and all values stay as they are."""
    graph = proto.graph
    changes = []
    zipped = {node.output[0]: node for node in graph.node if node.domain == ML_DOMAIN and node.op_type == "ZipMap"}
    for index, output in enumerate(graph.output):
        node = zipped.get(output.name)
        if node is not None:
            scores = onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
            changes.append(
                f"ZipMap dropped: output {output.name} is the scores {node.input[0]}, in the order of the classes"
            )
            graph.output[index].CopyFrom(scores)
    labels = _labels(graph)
    kept = [output for output in graph.output if output.name not in labels]
    if labels and kept and len(kept) < len(graph.output):
        # a support vector machine's scores may be those of pairs of classes, and the label is decided by votes
        is_voted = any(node.op_type == "SVMClassifier" for node in graph.node)
        why = "the scores decide it" if is_voted else "it is the label of the largest score"
        changes.extend(f"output {output.name} left out: {why}" for output in graph.output if output.name in labels)
        _keep(graph, kept)
    if changes:
        editor = Editor(proto)
        editor.prune()
    return changes


def _labels(graph: onnx.GraphProto) -> set[str]:
    """The outputs that only say which score is the largest, where the scores are an output too."""
    producers = {name: node for node in graph.node for name in node.output}
    outputs = {each.name for each in graph.output}
    labels: set[str] = set()
    for name in outputs:
        at = name
        seen: set[str] = set()
        while at in producers and at not in seen:
            seen.add(at)
            node = producers[at]
            if node.domain == ML_DOMAIN and node.op_type in CLASSIFIERS:
                others = set(node.output) - {at}
                if at == node.output[0] and any(_reaches(producers, each, others) for each in outputs - {name}):
                    labels.add(name)
                break
            if node.op_type == "ArgMax" and len(seen) > 1 and _only_one_way(node):
                others = {node.input[0]}
                if any(_reaches(producers, each, others) for each in outputs - {name}):
                    labels.add(name)
                break
            if node.op_type not in _LABEL_STEPS or not node.input:
                break
            at = _input_of(node)
    return labels


_LABEL_STEPS = frozenset({"ArrayFeatureExtractor", "Cast", "Identity", "LabelEncoder", "Reshape", "Squeeze"})


def _input_of(node: onnx.NodeProto) -> str:
    """The tensor that a label came from: a table of classes is the first input, the index into it the second."""
    return str(node.input[1] if node.op_type == "ArrayFeatureExtractor" and len(node.input) > 1 else node.input[0])


def _only_one_way(node: onnx.NodeProto) -> bool:
    return int(attributes(node).get("select_last_index", 0)) == 0


def _reaches(producers: dict[str, onnx.NodeProto], name: str, sources: set[str]) -> bool:
    """Whether an output is one of the sources or computed from one of them, nearby."""
    waiting = [name]
    seen: set[str] = set()
    while waiting:
        at = waiting.pop()
        if at in sources:
            return True
        if at in seen or at not in producers or len(seen) > 64:
            continue
        seen.add(at)
        waiting.extend(producers[at].input)
    return False


def _keep(graph: onnx.GraphProto, kept: list[onnx.ValueInfoProto]) -> None:
    copies = []
    for each in kept:
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(each)
        copies.append(copy)
    del graph.output[:]
    graph.output.extend(copies)


def post_transform(node: onnx.NodeProto) -> str:
    """The name of the function that a classifier of ai.onnx.ml applies to its scores."""
    return text(attributes(node).get("post_transform"), "NONE")
