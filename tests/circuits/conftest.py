"""Circuits that the tests share: each is built once a session, since a build takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits.build import Built, build
from verifier.payment.keys import Key, create_key

ModelBytes = Callable[..., bytes]


@pytest.fixture(scope="session")
def linear_model() -> ModelBytes:
    """Makes ``y = activation(x @ w + b)`` of three values and two outputs, other weights for another seed."""

    def make(seed: int = 1, activation: str | None = None, batch: str | int = 1) -> bytes:
        chosen = np.random.default_rng(seed)
        stored = {
            "w": chosen.uniform(-1, 1, (3, 2)).astype(np.float32),
            "b": chosen.uniform(-1, 1, 2).astype(np.float32),
        }
        last = "y" if activation is None else "linear"
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], [last])]
        if activation is not None:
            nodes.append(helper.make_node(activation, [last], ["y"]))
        graph = helper.make_graph(
            nodes,
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2])],
            [numpy_helper.from_array(array, name) for name, array in stored.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    return make


@pytest.fixture(scope="session")
def srs_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("srs")


@pytest.fixture(scope="session")
def build_linear(
    tmp_path_factory: pytest.TempPathFactory, srs_store: Path, linear_model: ModelBytes
) -> Callable[..., Built]:
    def make(seed: int = 1, activation: str | None = None) -> Built:
        folder = tmp_path_factory.mktemp("linear")
        (folder / "model.onnx").write_bytes(linear_model(seed, activation))
        values = np.random.default_rng(5).uniform(-2, 2, (12, 3)).astype(np.float32)
        np.savez(folder / "samples.npz", x=values)
        return build(folder / "model.onnx", folder / "samples.npz", store=folder / "circuits", srs_store=srs_store)

    return make


@pytest.fixture(scope="session")
def tiny(build_linear: Callable[..., Built]) -> Built:
    """The smallest circuit that has every part, without lookups."""
    return build_linear()


@pytest.fixture(scope="session")
def looking_up(build_linear: Callable[..., Built]) -> Built:
    """A circuit with a lookup table."""
    return build_linear(activation="Sigmoid")


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return create_key(tmp_path_factory.mktemp("keys") / "owner")
