"""Graphs of one operator each: every ONNX operator that ezkl claims, with several shapes and attributes.

Nothing here says what is right: the test computes that with onnxruntime. Data come in three kinds: mixed signs,
positive only, and large values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
UNARY = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "Celu",
    "Mish",
    "Gelu",
    "Flatten",
    "GlobalAveragePool",
    "ReduceMean",
    "Hardmax",
]
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Mod", "Mean", "Sum", "MatMul"]
COMPARISONS = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
REDUCTIONS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
]
OPSET = 20
OLD_OPSET = 12


class Case(NamedTuple):
    """A graph with inputs named x0, x1…, and the range that its data are drawn from."""

    name: str
    model: bytes
    shapes: tuple[tuple[int, ...], ...]
    low: float
    high: float

    def samples(self, seed: int, count: int) -> list[tuple[Array, ...]]:
        """Fresh inputs: uniform in the range, the first ones at its ends."""
        chosen = np.random.default_rng(seed)
        made: list[tuple[Array, ...]] = [
            tuple(np.full(shape, end, np.float32) for shape in self.shapes) for end in (self.low, self.high)
        ]
        while len(made) < count:
            drawn = [chosen.uniform(self.low, self.high, shape).astype(np.float32) for shape in self.shapes]
            made.append(tuple(drawn))
        return made[:count]


def one(  # noqa: PLR0917 - a graph is that many things
    name: str,
    operator: str,
    shapes: list[tuple[int, ...]],
    constants: dict[str, Array] | None = None,
    span: tuple[float, float] = (-3.0, 3.0),
    opset: int = OPSET,
    outputs: int = 1,
    inputs: list[str] | None = None,
    **attributes: Any,
) -> Case:
    """A graph of one node on inputs x0… and constants, whose output 0 is y."""
    stored = constants or {}
    names = [f"x{index}" for index in range(len(shapes))]
    given = inputs if inputs is not None else [*names, *stored]
    made = ["y", *(f"y{index}" for index in range(1, outputs))]
    graph = helper.make_graph(
        [helper.make_node(operator, given, made, name=f"the_{operator}", **attributes)],
        "one",
        [
            helper.make_tensor_value_info(each, TensorProto.FLOAT, shape)
            for each, shape in zip(names, shapes, strict=True)
        ],
        [onnx.ValueInfoProto(name="y")],  # its type follows from the operator: ArgMax gives integers
        [numpy_helper.from_array(array, each) for each, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    inferred = onnx.shape_inference.infer_shapes(model)
    unknown = not inferred.graph.output[0].type.tensor_type.elem_type  # shape inference knows no GroupNormalization
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None) if unknown else inferred.graph.output[0]
    model.graph.output[0].CopyFrom(output)
    return Case(name, bytes(model.SerializeToString()), tuple(shapes), *span)


def floats(seed: int, *shape: int) -> Array:
    """Constant weights."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def ints(*values: int) -> Array:
    """A constant vector of int64."""
    return np.array(values, np.int64)


def corpus() -> Iterator[Case]:
    """All cases, in a fixed order."""
    yield from _elementwise()
    yield from _reductions()
    yield from _windows()
    yield from _moves()
    yield from _indexed()
    yield from _recurrent()
    yield from _others()


def _elementwise() -> Iterator[Case]:
    for operator in UNARY:
        shape = (1, 2, 3, 3) if operator == "GlobalAveragePool" else (1, 5)
        opset = 18 if operator == "Celu" else OPSET
        for kind, span in (
            ("mixed", (-3.0, 3.0)),
            ("positive", (0.25, 4.0)),
            ("unit", (-0.9, 0.9)),
            ("large", (-40.0, 40.0)),
        ):
            yield one(f"{operator}-{kind}", operator, [shape], span=span, opset=opset)
    yield one("LeakyRelu-steep", "LeakyRelu", [(1, 4)], alpha=0.3)
    yield one("Elu-alpha", "Elu", [(1, 4)], alpha=2.0)
    yield one("Softmax-axis1", "Softmax", [(1, 3, 4)], axis=1)
    yield one("Softmax-old", "Softmax", [(1, 2, 3)], opset=OLD_OPSET, axis=1)
    for axis in (1, 2):
        yield one(f"LogSoftmax-old{axis}", "LogSoftmax", [(1, 2, 3)], opset=11, axis=axis)
    yield one("Clip", "Clip", [(1, 5)], {"lo": np.float32(-0.5), "hi": np.float32(1.5)})
    yield one("Clip-low", "Clip", [(1, 5)], {"lo": np.float32(0.25)})
    for operator in BINARY:
        right = (4, 2) if operator == "MatMul" else (1, 4)
        for kind, span in (("mixed", (-3.0, 3.0)), ("positive", (0.5, 3.0))):
            if operator == "Mod":
                yield one(f"Mod-{kind}", "Mod", [(1, 4), (1, 4)], span=span, fmod=1)
                continue
            yield one(f"{operator}-two-{kind}", operator, [(1, 4), right], span=span)
            yield one(f"{operator}-constant-{kind}", operator, [(1, 4)], {"c": floats(3, *right)}, span)
    for exponent in (-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0):
        for kind, span in (("mixed", (-2.0, 2.0)), ("positive", (0.5, 3.0))):
            yield one(f"Pow-{exponent}-{kind}", "Pow", [(1, 4)], {"c": np.float32(exponent)}, span)
    yield one("Add-broadcast", "Add", [(1, 3, 1), (1, 1, 4)])
    yield one("Div-by-255", "Div", [(1, 6)], {"c": np.float32(255)}, (0.0, 255.0))
    yield one("Mul-small", "Mul", [(1, 6)], {"c": np.float32(0.001)}, (0.0, 255.0))
    for operator in COMPARISONS:
        yield _cast(f"{operator}-two", operator, two=True)
        yield _cast(f"{operator}-constant", operator, two=False)
    yield _casted("Cast-int", TensorProto.INT64, (-3.0, 3.0))
    yield _casted("Cast-int-positive", TensorProto.INT32, (0.0, 6.0))
    yield _logic("And")
    yield _logic("Or")
    yield _logic("Xor")
    yield _where()


def _graph(name: str, nodes: list[onnx.NodeProto], inputs: int, span: tuple[float, float], **stored: Array) -> Case:
    graph = helper.make_graph(
        nodes,
        "few",
        [helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, (1, 4)) for index in range(inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4))],
        [numpy_helper.from_array(array, each) for each, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    return Case(name, bytes(model.SerializeToString()), ((1, 4),) * inputs, *span)


def _cast(name: str, operator: str, *, two: bool) -> Case:
    right = "x1" if two else "c"
    nodes = [
        helper.make_node(operator, ["x0", right], ["b"], name="the_comparison"),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    return _graph(name, nodes, 2 if two else 1, (-2.0, 2.0), c=np.array([[0.5, -1.0, 0.0, 1.25]], np.float32))


def _casted(name: str, element: int, span: tuple[float, float]) -> Case:
    nodes = [
        helper.make_node("Cast", ["x0"], ["i"], name="the_cast", to=element),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    return _graph(name, nodes, 1, span)


def _logic(operator: str) -> Case:
    nodes = [
        helper.make_node("Greater", ["x0", "z"], ["a"]),
        helper.make_node("Less", ["x1", "z"], ["b"]),
        helper.make_node(operator, ["a", "b"], ["c"], name="the_logic"),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    return _graph(operator, nodes, 2, (-2.0, 2.0), z=np.float32(0.25))


def _where() -> Case:
    nodes = [
        helper.make_node("Greater", ["x0", "z"], ["a"]),
        helper.make_node("Where", ["a", "x0", "x1"], ["y"], name="the_where"),
    ]
    return _graph("Where", nodes, 2, (-2.0, 2.0), z=np.float32(0.25))


def _reductions() -> Iterator[Case]:
    for operator in REDUCTIONS:
        span = (0.5, 2.0) if operator == "ReduceLogSum" else (-2.0, 2.0)
        for keepdims in (0, 1):
            yield one(f"{operator}-keep{keepdims}", operator, [(1, 2, 3)], {"axes": ints(2)}, span, keepdims=keepdims)
        yield one(f"{operator}-all", operator, [(1, 4)], span=span)
        yield one(f"{operator}-far", operator, [(1, 4)], {"axes": ints(-1)}, (span[0] * 20, span[1] * 20))
    for operator in ("ArgMax", "ArgMin"):
        for last in (0, 1):
            yield one(f"{operator}-last{last}", operator, [(1, 5)], axis=1, select_last_index=last)
    for exclusive in (0, 1):
        for reverse in (0, 1):
            for axis in (1, 2):
                name = f"CumSum-{exclusive}{reverse}-axis{axis}"
                yield one(name, "CumSum", [(1, 3, 4)], {"a": np.array(axis)}, exclusive=exclusive, reverse=reverse)
    for largest in (0, 1):
        yield one(f"TopK-{largest}", "TopK", [(1, 5)], {"k": ints(2)}, outputs=2, largest=largest)
    yield one("TopK-old", "TopK", [(1, 5)], opset=9, outputs=2, k=2, axis=1)


def _windows() -> Iterator[Case]:
    pads = {"none": [0, 0, 0, 0], "one": [1, 1, 1, 1], "odd": [0, 1, 1, 0]}
    for kind, pad in pads.items():
        for strides in ([1, 1], [2, 2]):
            tag = f"{kind}-s{strides[0]}"
            yield one(
                f"Conv-{tag}",
                "Conv",
                [(1, 2, 5, 5)],
                {"w": floats(1, 3, 2, 3, 3), "b": floats(2, 3)},
                pads=pad,
                strides=strides,
            )
            for negative, span in (("mixed", (-2.0, 2.0)), ("negative", (-3.0, -0.5))):
                yield one(
                    f"MaxPool-{tag}-{negative}",
                    "MaxPool",
                    [(1, 2, 5, 5)],
                    span=span,
                    kernel_shape=[3, 3],
                    pads=pad,
                    strides=strides,
                )
            for counted in (0, 1):
                yield one(
                    f"AveragePool-{tag}-{counted}",
                    "AveragePool",
                    [(1, 2, 5, 5)],
                    kernel_shape=[3, 3],
                    pads=pad,
                    strides=strides,
                    count_include_pad=counted,
                )
    yield one("Conv-bare", "Conv", [(1, 1, 4, 4)], {"w": floats(1, 2, 1, 3, 3)})
    yield one("Conv-same", "Conv", [(1, 1, 4, 4)], {"w": floats(1, 2, 1, 3, 3)}, auto_pad="SAME_UPPER")
    yield one("Conv-dilated", "Conv", [(1, 1, 6, 6)], {"w": floats(1, 2, 1, 3, 3)}, dilations=[2, 2])
    yield one("Conv-group", "Conv", [(1, 2, 4, 4)], {"w": floats(1, 2, 1, 3, 3)}, group=2)
    yield one("Conv-1d", "Conv", [(1, 2, 6)], {"w": floats(1, 3, 2, 3)}, pads=[1, 1])
    yield one("ConvTranspose", "ConvTranspose", [(1, 2, 3, 3)], {"w": floats(1, 2, 2, 2, 2)}, strides=[2, 2])
    yield one("ConvTranspose-bare", "ConvTranspose", [(1, 1, 3, 3)], {"w": floats(1, 1, 2, 2, 2)})
    yield one("MaxPool-same", "MaxPool", [(1, 1, 5, 5)], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    yield one(
        "AveragePool-same", "AveragePool", [(1, 1, 5, 5)], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"
    )
    yield one("MaxPool-ceil", "MaxPool", [(1, 1, 6, 6)], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    yield one("AveragePool-ceil", "AveragePool", [(1, 1, 6, 6)], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    yield one("MaxPool-dilated", "MaxPool", [(1, 1, 6, 6)], kernel_shape=[2, 2], dilations=[2, 2])
    yield one("LpPool", "LpPool", [(1, 1, 4, 4)], kernel_shape=[2, 2])
    yield one("GlobalMaxPool", "GlobalMaxPool", [(1, 2, 3, 3)])
    yield one("LRN", "LRN", [(1, 4, 2, 2)], size=3)
    statistics = {"s": floats(1, 3), "b": floats(2, 3), "m": floats(3, 3), "v": np.abs(floats(4, 3)) + 0.1}
    yield one("BatchNormalization", "BatchNormalization", [(1, 3, 2, 2)], statistics)
    yield one("InstanceNormalization", "InstanceNormalization", [(1, 3, 4, 4)], {"s": floats(1, 3), "b": floats(2, 3)})
    yield one("LayerNormalization", "LayerNormalization", [(1, 6)], {"s": floats(1, 6), "b": floats(2, 6)})
    yield one(
        "GroupNormalization",
        "GroupNormalization",
        [(1, 4, 3, 3)],
        {"s": floats(1, 2), "b": floats(2, 2)},
        opset=18,
        num_groups=2,
    )


def _moves() -> Iterator[Case]:
    yield one("Reshape", "Reshape", [(1, 6)], {"s": ints(2, 3)})
    yield one("Transpose", "Transpose", [(1, 2, 3)], perm=[2, 0, 1])
    yield one("Squeeze", "Squeeze", [(1, 1, 4)], {"a": ints(1)})
    yield one("Unsqueeze", "Unsqueeze", [(1, 4)], {"a": ints(1)})
    yield one("Expand", "Expand", [(1, 1, 3)], {"s": ints(1, 2, 3)})
    yield one("Tile", "Tile", [(1, 3)], {"r": ints(1, 2)})
    yield one("Concat", "Concat", [(1, 2), (1, 3)], axis=1)
    yield one("Slice", "Slice", [(1, 6)], {"s": ints(1), "e": ints(5), "a": ints(1), "t": ints(2)})
    yield one("Slice-negative", "Slice", [(1, 6)], {"s": ints(-4), "e": ints(-1), "a": ints(1)})
    yield one("Slice-backwards", "Slice", [(1, 6)], {"s": ints(5), "e": ints(0), "a": ints(1), "t": ints(-1)})
    yield one("Split", "Split", [(1, 6)], {"s": ints(2, 4)}, outputs=2, axis=1)
    for mode in ("constant", "edge", "reflect", "wrap"):
        yield one(f"Pad-{mode}", "Pad", [(1, 4)], {"p": ints(0, 1, 0, 2)}, mode=mode)
    yield one("Pad-value", "Pad", [(1, 4)], {"p": ints(0, 1, 0, 2), "v": np.float32(-1.5)})
    yield one("DepthToSpace-DCR", "DepthToSpace", [(1, 4, 2, 2)], blocksize=2)
    yield one("DepthToSpace-CRD", "DepthToSpace", [(1, 4, 2, 2)], blocksize=2, mode="CRD")
    yield one("SpaceToDepth", "SpaceToDepth", [(1, 1, 4, 4)], blocksize=2)
    for upper in (0, 1):
        yield one(f"Trilu-{upper}", "Trilu", [(1, 3, 3)], upper=upper)
    yield one(
        "Resize-nearest",
        "Resize",
        [(1, 1, 3, 3)],
        {"r": floats(0, 0), "s": np.array([1, 1, 2, 2], np.float32)},
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    yield one(
        "Resize-linear",
        "Resize",
        [(1, 1, 3, 3)],
        {"r": floats(0, 0), "s": np.array([1, 1, 2, 2], np.float32)},
        mode="linear",
    )
    yield one(
        "Upsample", "Upsample", [(1, 1, 2, 2)], {"s": np.array([1, 1, 2, 2], np.float32)}, opset=9, mode="nearest"
    )
    yield one("Upsample-older", "Upsample", [(1, 1, 2, 2)], opset=7, mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    yield one("Resize-old", "Resize", [(1, 1, 2, 2)], {"s": np.array([1, 1, 2, 2], np.float32)}, opset=10)
    yield one("ReverseSequence", "ReverseSequence", [(1, 4)], {"l": ints(3)}, batch_axis=0, time_axis=1)


def _indexed() -> Iterator[Case]:
    for kind, indices in (("plain", ints(0, 2)), ("negative", ints(-2, 0)), ("last", ints(-1))):
        yield one(f"Gather-{kind}", "Gather", [(1, 4)], {"i": indices}, axis=1)
        yield one(f"GatherElements-{kind}", "GatherElements", [(1, 4)], {"i": indices.reshape(1, -1)}, axis=1)
        update = floats(5, 1, indices.size)
        for reduction in ("none", "add", "mul", "max"):
            yield one(
                f"ScatterElements-{kind}-{reduction}",
                "ScatterElements",
                [(1, 4)],
                {"i": indices.reshape(1, -1), "u": update},
                axis=1,
                reduction=reduction,
            )
    yield one("GatherND", "GatherND", [(2, 3)], {"i": np.array([[0, 1], [1, 2]])})
    yield one("GatherND-negative", "GatherND", [(2, 3)], {"i": np.array([[-1, 1], [1, -2]])})
    for reduction in ("none", "add"):
        yield one(
            f"ScatterND-{reduction}",
            "ScatterND",
            [(2, 3)],
            {"i": np.array([[0, 1], [1, 2]]), "u": floats(5, 2)},
            reduction=reduction,
        )
    for values in ((0.0, 1.0), (2.0, 5.0)):
        nodes = [
            helper.make_node("ArgMax", ["x0"], ["m"], axis=1, keepdims=0),
            helper.make_node("OneHot", ["m", "d", "v"], ["y"], name="the_onehot", axis=-1),
        ]
        yield _graph(f"OneHot-{values[1]:.0f}", nodes, 1, (-2.0, 2.0), d=np.array(4), v=np.array(values, np.float32))


def _recurrent() -> Iterator[Case]:
    for operator, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        for direction in ("forward", "reverse", "bidirectional"):
            ways = 2 if direction == "bidirectional" else 1
            weights = {
                "w": floats(1, ways, gates * 3, 2),
                "r": floats(2, ways, gates * 3, 3),
                "b": floats(3, ways, gates * 6),
            }
            yield one(
                f"{operator}-{direction}",
                operator,
                [(4, 1, 2)],
                weights,
                (-1.0, 1.0),
                hidden_size=3,
                direction=direction,
            )
    yield one(
        "GRU-linear",
        "GRU",
        [(3, 1, 2)],
        {"w": floats(1, 1, 9, 2), "r": floats(2, 1, 9, 3), "b": floats(3, 1, 18)},
        (-1.0, 1.0),
        hidden_size=3,
        linear_before_reset=1,
    )


def _others() -> Iterator[Case]:
    for alpha, trans in ((1.0, 0), (0.5, 1)):
        yield one(
            f"Gemm-{trans}",
            "Gemm",
            [(1, 4)],
            {"w": floats(1, *((3, 4) if trans else (4, 3))), "b": floats(2, 3)},
            alpha=alpha,
            beta=2.0,
            transB=trans,
        )
    yield one("Einsum", "Einsum", [(2, 3), (3, 2)], equation="ij,jk->ik")
    yield one("Einsum-outer", "Einsum", [(3,), (2,)], equation="i,j->ij")
    yield one("Shrink", "Shrink", [(1, 5)], lambd=0.5, bias=0.25)
    yield one("ThresholdedRelu", "ThresholdedRelu", [(1, 5)], alpha=0.75)
    yield one("MeanVarianceNormalization", "MeanVarianceNormalization", [(1, 2, 3, 3)])
    yield one("LpNormalization", "LpNormalization", [(1, 4)], axis=1)
    yield one("Det", "Det", [(1, 2, 2)])
    yield one("IsNaN", "IsNaN", [(1, 4)])
    yield one("Dropout", "Dropout", [(1, 4)])
    yield one("Size", "Size", [(1, 4)])
    quantised = {"s": np.float32(0.05), "z": np.array(3, np.uint8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x0", "s", "z"], ["q"], name="the_quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    yield _graph("QuantizeLinear", nodes, 1, (-3.0, 3.0), **quantised)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"]),
        helper.make_node("Mul", ["x0", "f"], ["y"]),
    ]
    yield _graph("DequantizeLinear-weights", nodes, 1, (-3.0, 3.0), w=np.array([[1, 9, 3, 200]], np.uint8), **quantised)
