"""The owner's ONNX graph: parsed strictly, made static, rewritten for ezkl, and given the job id as its last input.

Hostile bytes: only the confined child (`circuits.check.child`), tests and models of our own making come through here;
everything else reads a model by `circuits.check.reading`. Nothing is run but the folding of constants.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # protobuf ships no types
from onnx import TensorProto, helper

from circuits.blinding import add_blind, taken_names
from circuits.model import JOB_INPUT, MAX_ONNX_BYTES, Model, Tensor
from circuits.rewrite import rewrite
from circuits.rewrite.economies import economise
from circuits.rewrite.scores import keep_scores
from verifier.errors import CircuitError
from verifier.statement.manifest import JOB_LIMBS

MAX_ELEMENTS = 1 << 16
MAX_REWRITE_CHARS = 200

_DTYPES: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.BOOL: "bool",
}


def parse_model(source: bytes) -> Model:
    """Parse a model, make its shapes static, rewrite it and add the job input, unused in the graph, as the last one.

    The bytes that come out depend on nothing but the bytes that go in and onnx's version.

    Raises:
        CircuitError: C-onnx for bytes that are no model, C-onnx-external for weights outside the file, C-onnx-name
            where the job input's name is taken, C-onnx-dynamic for a symbolic dimension other than the batch,
            C-onnx-dtype, C-onnx-size, C-onnx-graph for a graph whose parts do not fit together.
    """
    try:
        return _read(source)
    except CircuitError:
        raise
    except Exception as error:  # onnx's checks, inference and converters have no common exception
        raise CircuitError(
            "C-onnx-graph",
            "the graph does not hold together",
            found=f"{type(error).__name__}: {error}"[:300],
            do="Look at it with onnx.checker.check_model(model, full_check=True), and export it again.",
        ) from error


def _read(source: bytes) -> Model:
    proto = _parse(source)
    graph = proto.graph
    rewrites: list[str] = []
    stored = {each.name for each in graph.initializer}
    kept = [each for each in graph.input if each.name not in stored]
    if len(kept) != len(graph.input):
        rewrites.append("weights listed as inputs are weights only")
        del graph.input[:]
        graph.input.extend(kept)
    if not graph.input or not graph.output:
        raise CircuitError("C-onnx", "the model has no input or no output")
    if JOB_INPUT in _names(proto):
        raise CircuitError("C-onnx-name", "a tensor of the model has the job input's name", found=JOB_INPUT)
    rewrites.extend(keep_scores(proto))
    for each in graph.output:
        _forget_open_shape(each)
    changed = [_make_static(each) for each in (*graph.input, *graph.output)]
    if any(changed):
        rewrites.append("batch dimension set to 1")
        del graph.value_info[:]
    inputs = tuple(_tensor(each) for each in graph.input)
    outputs = tuple((each.name, _dtype(each)) for each in graph.output)
    static = proto.SerializeToString(deterministic=True)
    rewrites.extend(rewrite(proto))
    plain = _with_job(proto).SerializeToString(deterministic=True)
    rewrites.extend(economise(proto))
    rewritten = proto.SerializeToString(deterministic=True)
    proto = _with_job(proto)
    with_job = proto.SerializeToString(deterministic=True)
    return Model(
        source=source,
        static=static,
        plain=plain,
        rewritten=rewritten,
        with_job=with_job,
        with_blind=add_blind(proto, inputs[0]) if len(inputs) == 1 and not taken_names(proto) else b"",
        inputs=inputs,
        output_names=tuple(name for name, _ in outputs),
        output_dtypes=tuple(dtype for _, dtype in outputs),
        rewrites=(*(each[:MAX_REWRITE_CHARS] for each in rewrites), f"input {JOB_INPUT} added"),
    )


def _with_job(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the job id as its last input, which no node reads."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    made.graph.input.append(helper.make_tensor_value_info(JOB_INPUT, TensorProto.INT64, [1, JOB_LIMBS]))
    return made


def _parse(source: bytes) -> onnx.ModelProto:
    if len(source) > MAX_ONNX_BYTES:
        raise CircuitError("C-onnx-size", "the model is too large", expected=f"at most {MAX_ONNX_BYTES} bytes")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(source)
    except (DecodeError, RecursionError, ValueError) as error:
        raise CircuitError("C-onnx", "these bytes are no ONNX model", found=str(error)[:200]) from error
    if any(each.data_location == TensorProto.EXTERNAL or each.external_data for each in _tensors(proto)):
        raise CircuitError(
            "C-onnx-external",
            "the model keeps weights outside its file, so that its digest would not cover them",
            do="Save it in one file: onnx.save(model, path, save_as_external_data=False).",
        )
    return proto


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The graph, the functions, and every graph inside a node of one of them, such as the branches of an If."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _names(proto: onnx.ModelProto) -> set[str]:
    """The names of all tensors, inner graphs' included: a branch sees the names of the graph around it."""
    names: set[str] = set()
    for graph in _graphs(proto):
        names.update(name for node in graph.node for name in (*node.input, *node.output))
        if isinstance(graph, onnx.GraphProto):
            names.update(each.name for each in (*graph.initializer, *graph.input, *graph.output))
    return names


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor, wherever it hides."""
    for graph in _graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def _forget_open_shape(info: onnx.ValueInfoProto) -> None:
    """Drop an output's shape where an axis beyond the batch is open: what inputs give decides it, not the exporter."""
    shape = info.type.tensor_type.shape
    if any(not axis.dim_value for axis in shape.dim[1:]):
        info.type.tensor_type.ClearField("shape")


def _make_static(info: onnx.ValueInfoProto) -> bool:
    """Set an unknown first dimension to 1; refuse any other unknown one of an input or output."""
    changed = False
    for axis, dimension in enumerate(info.type.tensor_type.shape.dim):
        if dimension.HasField("dim_value") and dimension.dim_value > 0:
            continue
        if axis != 0:
            raise CircuitError(
                "C-onnx-dynamic",
                "a dimension other than the batch is not fixed",
                where=f"{info.name}, axis {axis}",
                found=dimension.dim_param or "no value",
                do="Export the model with a fixed shape.",
            )
        dimension.Clear()
        dimension.dim_value = 1
        changed = True
    return changed


def _dtype(info: onnx.ValueInfoProto) -> str:
    element = info.type.tensor_type.elem_type
    if not info.type.HasField("tensor_type") or element not in _DTYPES:
        raise CircuitError(
            "C-onnx-dtype", "a tensor has a type that no circuit takes", where=info.name, found=str(element)
        )
    return _DTYPES[element]


def _tensor(info: onnx.ValueInfoProto) -> Tensor:
    dtype = _dtype(info)
    if not info.type.tensor_type.HasField("shape"):
        raise CircuitError(
            "C-onnx-dynamic", "an input has no shape", where=info.name, do="Export it with a fixed shape."
        )
    tensor = Tensor(info.name, tuple(int(each.dim_value) for each in info.type.tensor_type.shape.dim), dtype)
    if not 0 < tensor.size <= MAX_ELEMENTS:
        raise CircuitError("C-onnx-size", "an input has too many values", where=info.name, found=str(tensor.size))
    return tensor
