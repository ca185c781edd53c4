"""What EZKL chooses for a model itself: its `calibrate_settings(target="resources")` on the same samples.

It is the yardstick of a search and a point in its picture; no circuit is built of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from circuits import ezkl_runner, fidelity
from circuits.ezkl_runner import Limits, Outcome
from circuits.ezkl_session import Session
from circuits.fidelity import Fidelity, Floats
from circuits.graph import TRIAL_JOB, sample_input
from circuits.model import Model
from circuits.samples import Sample
from circuits.settings import canonical_settings, read_settings
from circuits.tuner.cost import Layout, layout
from circuits.tuner.data_sets import DataSets
from verifier.errors import CircuitError


class Baseline(NamedTuple):
    """EZKL's own settings, canonical; their fidelity on the samples that they take, and how many they refuse."""

    settings: bytes
    logrows: int
    fidelity: Fidelity
    refused: int
    layout: Layout | None


def of_ezkl(model: Model, sets: DataSets, floats: Floats, folder: Path, limits: Limits) -> Baseline:
    """Let EZKL calibrate on the tuning samples, with public inputs and outputs and fixed weights.

    It gets the graph without what only makes it cheaper (`Model.plain`).

    Raises:
        CircuitError: C-ezkl where EZKL cannot calibrate the model, or takes none of the samples afterwards.
    """
    graph, settings, compiled = (folder / f"ezkl.{each}" for each in ("onnx", "json", "compiled"))
    graph.write_bytes(model.plain)
    samples = folder / "ezkl-samples.json"
    samples.write_text(_samples(sets.tuning), encoding="utf-8")
    arguments = {
        "input_visibility": "public",
        "output_visibility": "public",
        "param_visibility": "fixed",
        "disable_freivalds": True,
    }
    with Session(limits) as session:
        session.require(ezkl_runner.gen_settings(graph, settings, arguments))
        session.require(ezkl_runner.calibrate(samples, graph, settings))
        raw = canonical_settings(settings.read_bytes())
        settings.write_bytes(raw)
        session.require(ezkl_runner.compile_model(graph, settings, compiled))
        witness = folder / "ezkl.witness"
        answers = [
            session.ask(ezkl_runner.gen_witness(sample_input(sample, "public"), compiled, witness))
            for sample in sets.tuning
        ]
    taken = [
        (ezkl_runner.read_witness(answer), floats.run(sample))
        for answer, sample in zip(answers, sets.tuning, strict=True)
        if isinstance(answer, Outcome)
    ]
    if not taken:
        raise CircuitError("C-ezkl", "EZKL's own settings take none of the samples", where="gen_witness")
    chosen = read_settings(raw)
    found = fidelity.compare([each[0] for each in taken], [each[1] for each in taken], chosen.model_output_scales)
    logrows = int(chosen.run_args["logrows"])
    return Baseline(raw, logrows, found, len(answers) - len(taken), layout(chosen, logrows))


def _samples(samples: Sequence[Sample]) -> str:
    """All samples in one input file, tensor by tensor, as EZKL takes a batch."""
    columns = [
        [value for sample in column for value in sample.reshape(-1).tolist()] for column in zip(*samples, strict=True)
    ]
    return json.dumps({"input_data": [*columns, list(TRIAL_JOB) * len(samples)]}, allow_nan=False)
