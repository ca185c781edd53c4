"""The verdict of `check` on one operator after another: no wrong yes. What is right is computed here, by onnxruntime.

A yes is tried on inputs that the check never saw, inside the range that it stated, against the owner's own graph; the
circuit's answer comes from ezkl's witness. A circuit sees of an input what quantisation leaves: its answer is right
where the model gives it for an input that is quantised to the same integers (Round at 0.498, Tan near its pole). A
short form runs always, the whole corpus with OPGATE_LONG=1.
"""

from __future__ import annotations

import collections
import json
import math
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from circuits import ezkl_runner
from circuits.check.preflight import check
from circuits.check.report import Report
from circuits.ezkl_runner import Outcome
from circuits.parsing import parse_model
from circuits.run_arguments import ezkl_arguments
from circuits.samples import ezkl_input
from tests.circuits.operators.corpus import Array, Case, corpus

FRESH = 12
SHORT = (
    "AveragePool-one-s2-0",
    "MaxPool-one-s2-negative",
    "CumSum-10-axis2",
    "Equal-two",
    "Cast-int",
    "LSTM-reverse",
    "ScatterElements-plain-add",
)
"""Those that ezkl gets silently wrong as they stand, one a kind."""
CASES = {case.name: case for case in corpus()}
CHOSEN = CASES if os.environ.get("OPGATE_LONG") else {name: CASES[name] for name in SHORT}
MAX_SHARE = 0.05
"""What a yes promises: an error of at most this share of the outputs' span."""


def classify(case: Case, folder: Path) -> Report:
    model, samples = folder / "model.onnx", folder / "samples.npz"
    model.write_bytes(case.model)
    columns = list(zip(*case.samples(1, 12), strict=True))
    np.savez(samples, **{f"x{index}": np.stack(column) for index, column in enumerate(columns)})
    return check(model, samples)


def worst_error(case: Case, report: Report, folder: Path) -> tuple[float, int]:
    """The largest error on fresh inputs as a share of the outputs' span, and how many inputs the circuit took."""
    model = parse_model(case.model)
    graph, settings, compiled, witness = (folder / name for name in ("job.onnx", "s.json", "c", "w"))
    graph.write_bytes(model.with_job)
    fresh = case.samples(99, FRESH)
    arguments = ezkl_arguments(
        input_scale=report.scale,
        param_scale=report.scale,
        scale_rebase_multiplier=1,
        lookup_range=[-(1 << 30), 1 << 30],
        logrows=17,
        num_inner_cols=1,
        decomp_base=math.isqrt((1 << 96) - 1) + 1,
        decomp_legs=2,
    )
    session = onnxruntime.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    found, wanted = [], []
    head = [
        ezkl_runner.gen_settings(graph, settings, arguments),
        ezkl_runner.compile_model(graph, settings, compiled),
    ]
    outcomes = ezkl_runner.run([*head, *(ezkl_runner.gen_witness(ezkl_input(s), compiled, witness) for s in fresh)])
    scales = json.loads(settings.read_bytes())["model_output_scales"]
    for sample, outcome in zip(fresh, outcomes[2:], strict=False):
        if not isinstance(outcome, Outcome):
            continue
        values = ezkl_runner.read_witness(outcome).outputs[0]
        found.append(np.array([int(value) for value in values]) / 2.0 ** scales[0])
        wanted.append(
            [
                session.run(None, {f"x{i}": array for i, array in enumerate(alike)})[0].astype(float).reshape(-1)
                for alike in seen_alike(sample, report.scale)
            ]
        )
    truth = np.stack(wanted)
    span = float(np.ptp(truth[:, 0])) or float(np.abs(truth[:, 0]).max()) or 1.0
    return float(np.abs(np.stack(found)[:, None] - truth).min(axis=1).max()) / span, len(found)


def seen_alike(sample: tuple[Array, ...], scale: int) -> list[tuple[Array, ...]]:
    """The sample, and what a circuit of that scale cannot tell from it: what it sees, and the cell's two ends."""

    def moved(array: Array, steps: float) -> Array:
        if array.dtype.kind != "f":
            return array
        return ((np.rint(array * 2.0**scale) + steps) / 2.0**scale).astype(array.dtype)

    return [sample, *(tuple(moved(array, steps) for array in sample) for steps in (0.0, -0.49, 0.49))]


@pytest.mark.parametrize("name", CHOSEN)
def test_no_yes_is_wrong(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    report = classify(case, tmp_path)
    assert report.code != "C-check", report.reason
    if not report.is_yes:
        assert report.reason
        assert report.advice
        return
    share, ran = worst_error(case, report, tmp_path)
    assert ran >= 2, "a yes of which nothing runs"
    steps = collections.Counter({name: share})
    assert share <= MAX_SHARE, f"wrong yes: {steps} {report}"


def test_the_corpus_covers_what_ezkl_claims() -> None:
    assert len(CASES) == len(list(corpus())) > 400, "each has a name of its own"
    assert len({name.split("-")[0] for name in CASES}) > 90
