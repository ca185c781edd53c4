"""What a circuit would cost with its inputs hashed instead of shown, or the other way round, by prediction alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from circuits import ezkl_runner
from circuits.ezkl_runner import Limits
from circuits.graph import circuit_graph
from circuits.model import Model
from circuits.run_arguments import RunArguments
from circuits.settings import canonical_settings, read_settings
from circuits.tuner.cost import Layout, layout
from circuits.tuner.layouts import LOGROWS
from verifier.errors import CircuitError


class Alternative(NamedTuple):
    """The run arguments with the other visibility, at the least k that holds it, and the columns they give."""

    run_args: RunArguments
    layout: Layout


def with_other_inputs(model: Model, run_args: RunArguments, folder: Path, limits: Limits) -> Alternative | None:
    """The same scales and digits with the other visibility of inputs; None where the model cannot have it.

    One `gen_settings`, whose files go into the folder; nothing is set up or proved.
    """
    changed = msgspec.structs.replace(
        run_args, visibility="public" if run_args.visibility == "hashed" else "hashed", logrows=LOGROWS[-1]
    )
    try:
        graph = folder / "other.onnx"
        graph.write_bytes(circuit_graph(model, changed.visibility))
        written = folder / "other.json"
        ezkl_runner.require([ezkl_runner.gen_settings(graph, written, changed.to_ezkl())], limits)
        found = read_settings(canonical_settings(written.read_bytes()))
    except CircuitError:
        return None
    for logrows in LOGROWS:
        shape = layout(found, logrows, (run_args.lookup_min, run_args.lookup_max))
        if logrows >= run_args.logrows and shape is not None:
            return Alternative(msgspec.structs.replace(changed, logrows=logrows), shape)
    return None
