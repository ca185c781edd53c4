"""EZKL's own answers, computed in a fresh process: reads [operation, [arguments, ...]], prints the answers.

A program, not a module: ezkl holds the GIL, panics with BaseException and must never be in the tests' own process.
"""

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

ezkl: Any = importlib.import_module("ezkl")  # its type stubs lack what is used here

FIELD_MODULUS = 21888242871839275222246405745257275088548364400416034343698204186575808495617


def signed(felt: str) -> str:
    value = int.from_bytes(bytes.fromhex(felt), "little")
    return str(value - FIELD_MODULUS if value > FIELD_MODULUS // 2 else value)


def poseidon(message: list[str]) -> list[str]:
    digests = ezkl.poseidon_hash([int(element).to_bytes(32, "little").hex() for element in message])
    return [str(int.from_bytes(bytes.fromhex(digest), "little")) for digest in digests]


def quantise(value: str, scale: int, kind: str) -> str:
    try:
        return signed(ezkl.float_to_felt(float.fromhex(value), scale, getattr(ezkl.PyInputType, kind)))
    except BaseException as error:  # noqa: BLE001 - a panic of ezkl is no Exception
        return f"refused: {type(error).__name__}"


def witness(kind: str, scale: int, rows: list[float | int | bool]) -> list[str]:
    """The integers that a circuit with one input of that ONNX type reads from the rows."""
    element = getattr(onnx.TensorProto, kind)
    ends = [onnx.helper.make_tensor_value_info(name, element, [1, len(rows)]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "twice", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        onnx.save(model, str(at / "model.onnx"))
        arguments = ezkl.PyRunArgs()
        arguments.input_visibility = arguments.output_visibility = "public"
        arguments.param_visibility = "fixed"
        arguments.input_scale = scale
        arguments.logrows = 10
        arguments.decomp_base, arguments.decomp_legs = 128, 8
        ezkl.gen_settings(str(at / "model.onnx"), str(at / "settings.json"), py_run_args=arguments)
        ezkl.compile_circuit(str(at / "model.onnx"), str(at / "compiled"), str(at / "settings.json"))
        (at / "input.json").write_text(json.dumps({"input_data": [rows]}))
        ezkl.gen_witness(str(at / "input.json"), str(at / "compiled"), str(at / "witness.json"))
        return [signed(felt) for felt in json.loads((at / "witness.json").read_text())["inputs"][0]]


OPERATIONS: dict[str, Callable[..., object]] = {"poseidon": poseidon, "quantise": quantise, "witness": witness}

if __name__ == "__main__":
    operation, calls = json.load(sys.stdin)
    print(json.dumps([OPERATIONS[operation](*call) for call in calls]), flush=True)  # noqa: T201 - the answer
    os._exit(0)  # ezkl's threads may not let the interpreter finish
