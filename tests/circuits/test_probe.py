"""What a search asks of the real ezkl: whether a proof at some scales could hold at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits.ezkl_runner import Limits
from circuits.ezkl_session import Session
from circuits.float_model import FloatModel
from circuits.parsing import parse_model
from circuits.run_arguments import RunArguments
from circuits.tuner import data_sets
from circuits.tuner.probe import Probes, Scales
from circuits.tuner.search_cache import SearchCache

WIDTH = 10


def normalisation() -> bytes:
    """``y = LayerNormalization(x)`` over one row."""
    graph = helper.make_graph(
        [helper.make_node("LayerNormalization", ["x", "scale"], ["y"])],
        "normalisation",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH])],
        [numpy_helper.from_array(np.ones(WIDTH, np.float32), "scale")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def run_arguments(scale: int, multiplier: int) -> RunArguments:
    return RunArguments(
        input_scale=scale,
        param_scale=scale,
        scale_rebase_multiplier=multiplier,
        lookup_min=-4,
        lookup_max=4,
        logrows=13,
        num_inner_cols=1,
        decomp_base=3361,
        decomp_legs=7,
    )


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probes]:
    folder: Path = tmp_path_factory.mktemp("probe")
    model = parse_model(normalisation())
    values = np.random.default_rng(5).normal(size=(4, 1, WIDTH)).astype(np.float32)
    sets = data_sets.split(tuple((each,) for each in values), model.inputs)
    floats = FloatModel(model.static, model.inputs)
    with Session(Limits()) as session:
        yield Probes(
            model,
            "public",
            samples=sets.tuning,
            extremes=sets.extremes,
            floats=[floats.run(sample) for sample in (*sets.tuning, *sets.extremes)],
            folder=folder,
            session=session,
            cache=SearchCache(folder / "cache"),
        )


def test_scales_at_which_witnesses_are_made_and_no_proof_holds_are_found(probes: Probes) -> None:
    """Trap: at scale 13 x10 every sample has a witness and even a proof, which no verifier takes; at x3 they hold."""
    assert probes.look(Scales(13, 13, 10), 1) is not None
    why = probes.unprovable(run_arguments(13, 10))
    assert why is not None
    assert "not satisfied" in why
    assert probes.unprovable(run_arguments(13, 3)) is None


def test_the_answer_is_kept(probes: Probes) -> None:
    """A mock costs as much as a proof."""
    first, hits = probes.unprovable(run_arguments(13, 10)), probes.cached
    assert probes.unprovable(run_arguments(13, 10)) == first
    assert probes.cached == hits + 1
