"""Why ezkl refused, from its log: the operator and node that its exception hides, and advice that works."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from circuits.ezkl_runner import Failure


class Node(NamedTuple):
    """A node of the rewritten graph."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its name, or where it has none the tensor that it makes."""
        return self.name or (self.outputs[0] if self.outputs else "")


class Cause(NamedTuple):
    """What stands in the way: empty strings where it is not known."""

    node: str
    operator: str
    reason: str
    advice: str


_NODE = re.compile(r'[Nn]ode #?\d+ "?([^"\s]+)"?')
_UNIMPLEMENTED = re.compile(r"Unimplemented\((\w+)\)")
_UNKNOWN = re.compile(r"Unknown op: ?(\w+)|[Uu]nsupported op(?:erator|eration)?:? ?(\w+)")
_ADVICE: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"Unimplemented\(|Unknown op|nsupported op"),
        "ezkl does not know this operator",
        (
            "Leave it out of the exported part of the model, or write it by Add, Mul, MatMul, Relu and the like. A "
            "layer after the last weights (label, argmax, table look-up) can be computed by whoever reads the outputs."
        ),
    ),
    (
        re.compile(r"Undetermined symbol|Could not determine|symbol"),
        "a shape inside the graph depends on the input",
        "Export with fixed shapes: torch.onnx.export without dynamic_axes or dynamic_shapes; to_onnx with [1, n].",
    ),
    (
        re.compile(r"decomposition error|integer overflow|out of range|exceeds|[Oo]verflow"),
        "a value inside the circuit is larger than any bound that can be proved",
        (
            "Scale the inputs to about -1 to 1 (the scaler can be folded into the first layer), or look for a division "
            "by nearly zero, a logarithm of zero, or an exponential of a large number."
        ),
    ),
    (
        re.compile(r"[Dd]imension|shape mismatch|[Dd]im mismatch|incompatible|broadcast"),
        "ezkl reads the shapes of this node differently",
        "Export with opset 13 to 18 and fixed shapes, and give tensors the same rank before they are combined.",
    ),
)
_FALLBACK = (
    "Export again with opset 13 to 18 and fixed shapes; if it stays, leave this operator out of the exported part."
)


def find_cause(failure: Failure, nodes: Sequence[Node]) -> Cause:
    """The cause as far as the exception and the log tell it. The graph may have to be cut to learn more."""
    told = [failure.error, *reversed(failure.log)]
    joined = "\n".join(told)
    operator = _operator(joined)
    node = _node(joined, nodes, operator)
    if (node is not None and not operator) or (
        node is not None and operator.lower() != node.operator.lower() and node.operator
    ):
        operator = node.operator
    telling = failure.error
    for line in failure.log:
        if any(pattern.search(line) for pattern, _, _ in _ADVICE[:2]):
            telling = f"{failure.error}: {line}"
            break
    reason, advice = "ezkl refuses the graph", _FALLBACK
    for pattern, words, help_ in _ADVICE:
        if pattern.search(failure.error) or pattern.search(telling):
            reason, advice = words, help_
            break
    short = re.sub(r"^(RuntimeError|PanicException): ", "", telling)
    return Cause(node.label if node else "", operator, f"{reason} ({short[:240]})", advice)


def _operator(text: str) -> str:
    for pattern in (_UNIMPLEMENTED, _UNKNOWN):
        found = pattern.search(text)
        if found:
            return next((group for group in found.groups() if group), "")
    return ""


def _node(text: str, nodes: Sequence[Node], operator: str) -> Node | None:
    named = {name: node for node in nodes for name in (node.name, *node.outputs) if name}
    for match in _NODE.finditer(text):
        if match[1] in named:
            return named[match[1]]
    same = [node for node in nodes if node.operator == operator]
    return same[0] if same else None
