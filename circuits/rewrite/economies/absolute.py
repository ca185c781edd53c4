"""Piecewise linear operators by absolute values: ``max(a, b) = (a + b + |a - b|) / 2``, exact in integers.

ezkl 23 pays 3 L + 5 rows for an absolute value of L digits, 4 more for a Relu, 11 more for a comparison and 36 more for
a Clip; a MaxPool or ReduceMax is a shuffle besides, which doubles the extended domain of the whole circuit. The half
goes into the weights before where it can (`scaling`); else it is a product, a change of scale to ezkl.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.economies.scaling import scale_before
from circuits.rewrite.editing import Array, Editor, Nodes, attributes, is_plain
from circuits.rewrite.pooling import window_of

FLOATS: dict[int, type[np.floating[Any]]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
}
LEAST_OPSET = 10
"""Since then a Slice has steps."""
MAX_WINDOW = 64
"""Values of which the largest is taken: a tree of them has 14 rows a value in the circuit, and nodes here."""

_HALVED_BEFORE = frozenset({"MaxPool", "ReduceMax", "ReduceMin"})

_FAR = 1e4
"""Beyond it |x - bound| swallows x: in floating point at once, in the circuit by the bits that it needs."""


def by_absolute_values(editor: Editor) -> list[str]:
    """Replace Relu, LeakyRelu, Clip, Max, Min, MaxPool, ReduceMax and ReduceMin; what was replaced, in words."""
    told: dict[str, int] = {}

    def change(node: onnx.NodeProto) -> Nodes | None:
        write = _WRITERS.get(node.op_type)
        kind = FLOATS.get(editor.types.get(node.input[0], 0)) if node.input else None
        if write is None or kind is None or not is_plain(node, node.op_type) or any(node.output[1:]):
            return None
        made = _Graph(editor, node, kind)
        if not write(made):
            return None
        told[node.op_type] = told.get(node.op_type, 0) + 1
        return made.nodes

    if editor.opset >= LEAST_OPSET:
        editor.each(change)
    return [f"{name} by absolute values ({count} nodes)" for name, count in sorted(told.items())]


class _Graph:
    """The nodes in place of one; tensors are names, and what each holds is the caller's to know."""

    def __init__(self, editor: Editor, node: onnx.NodeProto, kind: type[np.floating[Any]]) -> None:
        self.editor, self.node, self.nodes = editor, node, Nodes()
        self.kind, self.found = kind, attributes(node)

    @property
    def source(self) -> str:
        return str(self.node.input[0])

    def constant(self, value: Array | float) -> str:
        return self.editor.constant(np.asarray(value), "constant", self.kind)

    def put(self, operator: str, *inputs: str, target: str | None = None, **fields: Any) -> str:
        name = target or self.editor.name(operator.lower())
        # ezkl's reader mixes up nodes of one name
        label = f"{self.node.name}.{self.editor.name('node')}" if self.node.name else ""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=label, **fields))
        return name

    def finish(self, tensor: str, doublings: int = 0) -> bool:
        """Give the tensor, so often halved, as the node's output; the weights before a homogeneous node take that."""
        if doublings and not (self.node.op_type in _HALVED_BEFORE and self.halve_before(doublings)):
            self.put("Mul", tensor, self.constant(0.5**doublings), target=self.node.output[0])
        elif self.nodes and self.nodes[-1].output[0] == tensor:
            self.nodes[-1].output[0] = self.node.output[0]
        else:
            self.put("Identity", tensor, target=self.node.output[0])
        return True

    def halve_before(self, times: int = 1) -> bool:
        return scale_before(self.editor, self.source, 0.5**times)

    def cut(self, tensor: str, axis: int, start: int, stop: int, step: int = 1) -> str:
        names = [self.editor.constant([each], "bound", np.int64) for each in (start, stop, axis, step)]
        return self.put("Slice", tensor, *names)

    def twice_the_greater(self, first: str, second: str, *, least: bool = False) -> str:
        """2 max(a, b), or 2 min(a, b)."""
        apart = self.put("Abs", self.put("Sub", first, second))
        return self.put("Sub" if least else "Add", self.put("Add", first, second), apart)

    def greatest(self, parts: Sequence[str], *, least: bool = False) -> tuple[str, int]:
        """The greatest of tensors of one shape, times a power of two, and which power."""
        if len(parts) == 1:
            return parts[0], 0
        middle = len(parts) // 2
        halves = [self.greatest(each, least=least) for each in (parts[:middle], parts[middle:])]
        most = max(doublings for _, doublings in halves)
        first, second = (self.doubled(tensor, most - doublings) for tensor, doublings in halves)
        return self.twice_the_greater(first, second, least=least), most + 1

    def doubled(self, tensor: str, times: int) -> str:
        for _ in range(times):
            tensor = self.put("Add", tensor, tensor)
        return tensor


def _relu(made: _Graph) -> bool:
    """Where the weights before can be halved: a rescale later would cost more than is saved."""
    return made.halve_before() and made.finish(made.put("Add", made.source, made.put("Abs", made.source)))


def _leaky_relu(made: _Graph) -> bool:
    slope = float(made.found.get("alpha", 0.01))
    straight = made.put("Mul", made.source, made.constant((1 + slope) / 2))
    bent = made.put("Mul", made.put("Abs", made.source), made.constant((1 - slope) / 2))
    return made.finish(made.put("Add", straight, bent))


def _clip(made: _Graph) -> bool:
    """``2 clip(x, l, u) = |x - l| - |x - u| + l + u``."""
    low, high = (_bound(made, index, name) for index, name in ((1, "min"), (2, "max")))
    if low is None or high is None:
        return False
    if not math.isfinite(low) and not math.isfinite(high):
        return made.finish(made.source)
    if not math.isfinite(high):
        return made.finish(made.twice_the_greater(made.source, made.constant(low)), 1)
    if not math.isfinite(low):
        return made.finish(made.twice_the_greater(made.source, made.constant(high), least=True), 1)
    if low > high:
        return False
    halved = made.halve_before()
    if halved:
        low, high = low / 2, high / 2
    above = made.put("Abs", made.put("Sub", made.source, made.constant(low)))
    below = made.put("Abs", made.put("Sub", made.source, made.constant(high)))
    return made.finish(made.put("Add", made.put("Sub", above, below), made.constant(low + high)), not halved)


def _bound(made: _Graph, index: int, name: str) -> float | None:
    """A bound of a Clip, infinite where there is none; None where it is no constant number."""
    none = -math.inf if name == "min" else math.inf
    if made.editor.opset < 11:
        given = float(made.found.get(name, none))
    elif len(made.node.input) <= index or not made.node.input[index]:
        return none
    else:
        value = made.editor.constants.get(made.node.input[index])
        if value is None or value.size != 1:
            return None
        given = float(value.reshape(-1)[0])
    # exporters write the type's largest number for no bound
    if abs(given) >= float(np.finfo(made.kind).max):
        return none if (given < 0) is (none < 0) else None
    return given if abs(given) <= _FAR else None


def _pairs(made: _Graph) -> bool:
    """Max and Min of several tensors that need no broadcasting but of constants."""
    shapes = {made.editor.shapes.get(name) for name in made.node.input if name not in made.editor.constants}
    if len(shapes) != 1 or None in shapes or not 2 <= len(made.node.input) <= MAX_WINDOW:
        return False
    fixed = [made.editor.constants[name] for name in made.node.input if name in made.editor.constants]
    if not all(bool((np.abs(value) <= _FAR).all()) for value in fixed):
        return False
    return made.finish(*made.greatest(list(made.node.input), least=made.node.op_type == "Min"))


def _max_pool(made: _Graph) -> bool:
    """Axis by axis; padding and rounding up were made explicit before."""
    window, auto = window_of(made.editor, made.node), made.found.get("auto_pad", b"NOTSET")
    if window is None or any((*window.begins, *window.ends)) or auto not in {b"NOTSET", b"VALID"}:
        return False
    if math.prod(window.kernel) > MAX_WINDOW:
        return False
    tensor, doublings = made.source, 0
    sides = zip(window.shape[2:], window.kernel, window.strides, strict=True)
    for axis, (size, width, stride) in enumerate(sides, start=2):
        if width > size:
            return False
        reach = (size - width) // stride * stride + 1
        parts = [made.cut(tensor, axis, start, start + reach, stride) for start in range(width)]
        tensor, more = made.greatest(parts)
        doublings += more
    return made.finish(tensor, doublings)


def _reduce(made: _Graph) -> bool:
    """ReduceMax and ReduceMin: each axis is cut in halves until one value is left."""
    shape, axes = made.editor.shapes.get(made.source), _axes(made)
    if shape is None or axes is None or math.prod(shape[axis] for axis in axes) > MAX_WINDOW:
        return False
    tensor, doublings = made.source, 0
    for axis in axes:
        size = shape[axis]
        while size > 1:
            half = size // 2
            first, second = (made.cut(tensor, axis, at, at + half) for at in (0, half))
            joined = made.twice_the_greater(first, second, least=made.node.op_type == "ReduceMin")
            if size % 2:
                rest = made.doubled(made.cut(tensor, axis, size - 1, size), 1)
                joined = made.put("Concat", joined, rest, axis=axis)
            tensor, size, doublings = joined, half + size % 2, doublings + 1
    if not made.found.get("keepdims", 1):
        kept = [width for axis, width in enumerate(shape) if axis not in axes]
        tensor = made.put("Reshape", tensor, made.editor.constant(kept, "shape", np.int64))
    return made.finish(tensor, doublings)


def _axes(made: _Graph) -> list[int] | None:
    shape = made.editor.shapes.get(made.source)
    given = made.found.get("axes")
    if len(made.node.input) > 1 and made.node.input[1]:
        value = made.editor.constants.get(made.node.input[1])
        given = None if value is None else value.reshape(-1).tolist()
    if given is None and not made.found.get("noop_with_empty_axes", 0) and len(made.node.input) < 2:
        given = range(len(shape or ()))
    if shape is None or not given or 0 in shape:
        return None
    axes = sorted({int(axis) + len(shape) * (int(axis) < 0) for axis in given})
    return axes if axes[0] >= 0 and axes[-1] < len(shape) else None


_WRITERS = {
    "Relu": _relu,
    "LeakyRelu": _leaky_relu,
    "Clip": _clip,
    "Max": _pairs,
    "Min": _pairs,
    "MaxPool": _max_pool,
    "ReduceMax": _reduce,
    "ReduceMin": _reduce,
}
