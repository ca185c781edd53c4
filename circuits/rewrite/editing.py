"""A graph that passes edit: constants as arrays, shapes where they are known, fresh names, nodes replaced in order.

Names that are added begin with `rw_`, so that nobody confuses them with the owner's; `opgate_` is kept for the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper, shape_inference

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Nodes = list[onnx.NodeProto]
ML_DOMAIN = "ai.onnx.ml"
MAX_FOLDED = 1 << 22
"""Values that a constant made here may have: a graph of ten bytes can ask for 2^60."""

MAX_WALKED = 4096
"""Tensors that are looked at behind one."""


class Editor:
    """One model's main graph while it is rewritten. The proto given is changed in place."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        """Read the constants and infer the shapes."""
        self.proto = proto
        self.graph = proto.graph
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}
        self._names: set[str] = set()
        self._count = 0
        self.refresh()

    @property
    def opset(self) -> int:
        """The version of the default operator set."""
        return next((each.version for each in self.proto.opset_import if each.domain in {"", "ai.onnx"}), 1)

    @property
    def outputs(self) -> frozenset[str]:
        """The names of the graph's outputs."""
        return frozenset(each.name for each in self.graph.output)

    def inner_names(self) -> frozenset[str]:
        """What the branches and bodies inside nodes read and make."""
        found: set[str] = set()
        for node in self.graph.node:
            for attribute in node.attribute:
                for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                    found.update(inner_reads(graph))
        return frozenset(found)

    def refresh(self) -> None:
        """Read constants, shapes and types anew after a pass."""
        graph = self.graph
        self.constants = {}
        for each in graph.initializer:
            if each.data_type != onnx.TensorProto.STRING:
                self.constants[each.name] = numpy_helper.to_array(each)
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in {"", "ai.onnx"}:
                value = _constant_of(node)
                if value is not None:
                    self.constants[node.output[0]] = value
        self._names = {name for node in graph.node for name in (*node.input, *node.output)}
        self._names.update(each.name for each in (*graph.initializer, *graph.input, *graph.output))
        self._names.update(self.inner_names())
        self._infer()

    def _infer(self) -> None:
        bare = onnx.ModelProto()
        bare.CopyFrom(self.proto)
        del bare.graph.value_info[:]
        for each in bare.graph.output:  # what an exporter declares of an output may be wrong: it is inferred
            each.type.tensor_type.ClearField("shape")
        try:
            inferred = shape_inference.infer_shapes(bare, data_prop=True).graph
        except Exception:  # noqa: BLE001 - inference is a convenience: where it fails, less is known and less is rewritten
            inferred = bare.graph
        self.shapes, self.types = {}, {}
        for info in (*inferred.input, *inferred.value_info, *inferred.output):
            tensor = info.type.tensor_type
            self.types[info.name] = tensor.elem_type
            if tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in tensor.shape.dim):
                self.shapes[info.name] = tuple(int(axis.dim_value) for axis in tensor.shape.dim)
        for name, array in self.constants.items():
            self.shapes[name] = tuple(array.shape)
            self.types[name] = helper.np_dtype_to_tensor_dtype(array.dtype)

    def name(self, hint: str) -> str:
        """A name that no tensor of the graph has."""
        while True:
            self._count += 1
            found = f"rw_{hint}_{self._count}"
            if found not in self._names:
                self._names.add(found)
                return found

    def constant(self, value: Any, hint: str = "constant", dtype: Any = None) -> str:
        """The name of a new initializer."""
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        array = array.reshape(np.shape(value))
        found = self.name(hint)
        self.graph.initializer.append(numpy_helper.from_array(array, found))
        self.constants[found] = array
        self.shapes[found] = tuple(array.shape)
        self.types[found] = helper.np_dtype_to_tensor_dtype(array.dtype)
        return found

    def each(self, change: Callable[[onnx.NodeProto], Sequence[onnx.NodeProto] | None]) -> int:
        """Replace each node by what `change` gives for it; None keeps the node. How many were replaced."""
        kept: list[onnx.NodeProto] = []
        count = 0
        for node in list(self.graph.node):
            new = change(node)
            if new is None:
                kept.append(node)
            else:
                count += 1
                kept.extend(new)
        if count:
            self.put(kept)
            self.refresh()
        return count

    def put(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Make these the graph's nodes, in this order; `refresh` is the caller's, once names are right again."""
        copies = [_copy(node) for node in nodes]  # nodes of the graph itself would die with its list
        del self.graph.node[:]
        self.graph.node.extend(copies)

    def rename(self, names: dict[str, str]) -> None:
        """Let every reader of a tensor read another one instead; a graph's output keeps its name by an Identity."""
        final = {name: _last(names, name) for name in names}
        outputs = {each.name for each in self.graph.output}
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                if name in final:
                    node.input[index] = final[name]
        for name, source in final.items():
            if name in outputs:
                self.graph.node.append(helper.make_node("Identity", [source], [name]))

    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that makes each tensor."""
        return {name: node for node in self.graph.node for name in node.output if name}

    def readers(self) -> dict[str, int]:
        """How often each tensor is read; being a graph's output counts as once."""
        counts: dict[str, int] = {}
        for name in self._read():
            counts[name] = counts.get(name, 0) + 1
        return counts

    def _read(self) -> Iterator[str]:
        for node in self.graph.node:
            yield from (name for name in node.input if name)
            for attribute in node.attribute:
                for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                    yield from inner_reads(graph)
        yield from (each.name for each in self.graph.output)

    def all_behind(self, name: str, judge: Callable[[str, onnx.NodeProto | None], bool | None]) -> bool:
        """Whether `judge` takes all that a tensor is made from, given each tensor and the node that makes it.

        True and False decide; None asks for what the node reads. A graph too large to be walked is not taken.
        """
        producers = self.producers()
        waiting, seen = [name], {name}
        while waiting:
            at = waiting.pop()
            maker = producers.get(at)
            answer = judge(at, maker)
            if answer is False or (answer is None and (maker is None or len(seen) > MAX_WALKED)):
                return False
            if answer is None and maker is not None:
                new = {each for each in maker.input if each} - seen
                seen |= new
                waiting.extend(new)
        return True

    def prune(self) -> int:
        """Drop nodes and initializers that nothing reads; how many nodes went."""
        before = len(self.graph.node)
        kept: list[onnx.NodeProto] = []
        needed = {each.name for each in self.graph.output}
        for node in reversed(self.graph.node):
            if any(name in needed for name in node.output if name):
                kept.append(_copy(node))
                needed.update(node.input)
                for attribute in node.attribute:
                    for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                        needed.update(inner_reads(graph))
        del self.graph.node[:]
        self.graph.node.extend(reversed(kept))
        stored = [each for each in self.graph.initializer if each.name in needed]
        if len(stored) != len(self.graph.initializer):
            copies = []
            for each in stored:
                copy = onnx.TensorProto()
                copy.CopyFrom(each)
                copies.append(copy)
            del self.graph.initializer[:]
            self.graph.initializer.extend(copies)
        del self.graph.value_info[:]
        self.refresh()
        return before - len(kept)


def inner_reads(graph: onnx.GraphProto) -> Iterator[str]:
    """All names that the nodes of an inner graph read or make, those of the graph around it among them."""
    waiting = [graph]
    while waiting:
        inner = waiting.pop()
        yield from (each.name for each in inner.output)
        for node in inner.node:
            yield from (*node.input, *node.output)
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values; strings stay bytes."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def text(value: Any, default: str = "") -> str:
    """A string attribute as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or default)


def is_plain(node: onnx.NodeProto, *operators: str) -> bool:
    """Whether a node is one of these operators of the default domain."""
    return node.domain in {"", "ai.onnx"} and node.op_type in operators


def _constant_of(node: onnx.NodeProto) -> Array | None:
    for each in node.attribute:
        if each.name == "value" and each.t.data_type != onnx.TensorProto.STRING:
            return numpy_helper.to_array(each.t)
        if each.name == "value_float":
            return np.array(each.f, np.float32)
        if each.name == "value_int":
            return np.array(each.i, np.int64)
        if each.name == "value_floats":
            return np.array(each.floats, np.float32)
        if each.name == "value_ints":
            return np.array(each.ints, np.int64)
    return None


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _last(names: dict[str, str], name: str) -> str:
    for _ in range(len(names) + 1):
        if name not in names:
            break
        name = names[name]
    return name
