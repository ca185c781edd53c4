"""What inputs are drawn of samples, and that those on which a model itself does not run speak against no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits.check import confined
from circuits.check.confined import Bounds
from circuits.check.drawing import GIVEN, draw
from circuits.check.preflight import check
from circuits.check.reading import read_with_samples
from circuits.model import Tensor
from circuits.ranges import MAX_COLUMNS, Range
from circuits.samples import Array, Sample
from circuits.tuner import data_sets
from verifier.errors import CircuitError

TABLE = Tensor("x", (1, 3), "float32")
CATEGORIES = (0, 1, 2, 9)


def table(count: int = 16) -> Array:
    """A category, a share and a salary."""
    chosen = np.random.default_rng(3)
    columns = (np.resize(CATEGORIES, count), chosen.uniform(0.2, 0.4, count), chosen.uniform(900, 2000, count))
    return np.stack(columns, axis=1).astype(np.float32)


def rows(values: Array) -> tuple[Sample, ...]:
    return tuple((each.reshape(1, -1),) for each in values)


def model_of_categories(folder: Path) -> Path:
    """The first column one-hot, for the categories 0, 1, 2 and 9 alone; onnxruntime refuses any other."""
    stored = {
        "first": np.array([0]),
        "rest": np.array([1, 2]),
        "w": np.random.default_rng(0).uniform(-1, 1, (6, 2)).astype(np.float32),
        "unit": np.array([[1, 0.001]], np.float32),
        "flat": np.array([1, 4]),
    }
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["category"], axis=1),
        helper.make_node("OneHotEncoder", ["category"], ["hot"], domain="ai.onnx.ml", cats_int64s=CATEGORIES, zeros=0),
        helper.make_node("Reshape", ["hot", "flat"], ["row"]),
        helper.make_node("Gather", ["x", "rest"], ["numbers"], axis=1),
        helper.make_node("Mul", ["numbers", "unit"], ["scaled"]),
        helper.make_node("Concat", ["row", "scaled"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "categories",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    onnx.checker.check_model(str(path))
    return path


def test_columns_of_a_table_are_drawn_in_their_own_ranges() -> None:
    """Trap: a share of 1,500, and a category of 2.7."""
    values = table()
    drawn = np.concatenate([sample[0] for kind, sample in draw((TABLE,), rows(values), limit=40) if kind != GIVEN])
    assert (drawn >= values.min(axis=0)).all()
    assert (drawn <= values.max(axis=0)).all()
    assert (drawn[:, 0] == np.rint(drawn[:, 0])).all()
    assert np.ptp(drawn[:, 1]) == pytest.approx(np.ptp(values[:, 1]))
    assert len(set(drawn[:, 1].tolist())) > 8


def test_one_range_holds_where_columns_tell_no_other() -> None:
    """Traps: three samples, columns that are alike, an image, a column that never moves."""
    alike = np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)
    still = alike.copy()
    still[:, 0] = 0
    image = np.random.default_rng(0).uniform(0, 1, (16, MAX_COLUMNS + 1)).astype(np.float32)
    image[:, 0] *= 0.01
    wide = Tensor("x", (1, MAX_COLUMNS + 1), "float32")
    for tensor, values in ((TABLE, table(3)), (TABLE, alike), (TABLE, still), (wide, image)):
        found = Range.of_samples(tensor, list(values))
        assert found.columns == 0
        assert set(found.low) == {values.min()}
        assert set(found.high) == {values.max()}
    assert Range.of_samples(TABLE, list(table())).columns == 3


def test_the_extremes_of_a_build_span_what_its_certificate_states() -> None:
    """Trap: a certificate has one range for a tensor, which columns drawn each for itself never reach together."""
    values = table()
    sets = data_sets.split(rows(values), (TABLE,))
    seen = values[::2]
    assert sets.extremes == sets.corners
    assert set(sets.corners[0][0].reshape(-1)) == {seen.min()}
    assert set(sets.corners[1][0].reshape(-1)) == {seen.max()}
    like = np.concatenate([sample[0] for sample in sets.random[1::2]])
    assert (like <= seen.max(axis=0)).all()
    assert (np.concatenate([sample[0] for sample in sets.random[::2]]) > seen.max(axis=0)).any()


def test_inputs_of_ours_that_the_model_refuses_are_left_out(tmp_path: Path) -> None:
    """Trap: a model is refused since we drew a category that there is none of, though its own samples run."""
    path, samples = model_of_categories(tmp_path), tmp_path / "table.npz"
    np.savez(samples, x=table())
    answer = confined.run("prepare", tmp_path, Bounds(), model=str(path), samples=str(samples), limit=32)
    assert answer["left_out"] > 0
    assert answer["kinds"].count(GIVEN) == 16
    assert len(confined.read_arrays(tmp_path / "samples.npz")) == len(answer["kinds"]) > 16
    assert check(path, samples).code != "C-onnxruntime"
    model, given, floats = read_with_samples(path.read_bytes(), samples, split=True)
    whole = data_sets.split(given, model.inputs)
    sets = data_sets.answered(whole, floats.knows)
    assert 0 < len(sets.every) < len(whole.every)
    assert (sets.tuning, sets.held_out, sets.acceptance) == (whole.tuning, whole.held_out, whole.acceptance)
    assert len(sets.corners) == data_sets.CORNERS
    assert all(floats.run(sample) for sample in sets.every)


def test_samples_of_the_owner_that_the_model_refuses_are_a_refusal(tmp_path: Path) -> None:
    path, samples = model_of_categories(tmp_path), tmp_path / "samples.npz"
    values = table()
    values[5, 0] = 4
    np.savez(samples, x=values)
    assert check(path, samples).code == "C-onnxruntime"
    with pytest.raises(CircuitError) as caught:
        read_with_samples(path.read_bytes(), samples, split=True)
    assert caught.value.code == "C-onnxruntime"


def test_columns_of_different_size_have_a_domain_each(tmp_path: Path) -> None:
    """Trap: one range for a share and a salary, most of which the circuit does not even run on."""
    weights = np.array([[0.5, 0.1], [2.0, -3.0], [0.001, 0.002]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    path, samples = tmp_path / "model.onnx", tmp_path / "samples.npz"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    values = table()
    np.savez(samples, x=values)
    report = check(path, samples)
    assert report.verdict == "faithful"
    category, share, salary = report.domain
    assert (category.name, category.least, category.greatest) == ("x[0]", "0", "9")
    assert float(share.greatest) < float(salary.greatest)
    assert float(share.least) <= values[:, 1].min()
    assert float(salary.greatest) >= values[:, 2].max()
