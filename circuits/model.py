"""What a model is once it was read: its graph in several forms, its inputs and outputs. Nothing is parsed here.

`circuits.check.reading` makes one of a file, in a confined child.
"""

from __future__ import annotations

import math
from typing import NamedTuple

JOB_INPUT = "opgate_job"
MAX_ONNX_BYTES = 256 << 20
GRAPHS = ("static", "plain", "rewritten", "with_job", "with_blind")
"""The fields of a `Model` that are graphs of our making."""

CHEAPER = "cheaper: "
"""How the words begin for a change of the graph that only saves rows: the model was faithful without it."""


class Tensor(NamedTuple):
    """Name, static shape and ONNX element type of a graph's input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


class Model(NamedTuple):
    """A model in six forms; `rewrites` names what was changed from the first to the last.

    `static` is the owner's graph with fixed shapes, for onnxruntime; `rewritten` computes the same by operators that
    ezkl has, in few rows; `with_job` is that with the job input, for ezkl, and `with_blind` the same for hashed inputs:
    empty where the model has several inputs or a name of ours. `plain` is for ezkl too, without what only makes it
    cheaper: what its own calibration gets, as a yardstick.
    """

    source: bytes
    static: bytes
    plain: bytes
    rewritten: bytes
    with_job: bytes
    with_blind: bytes
    inputs: tuple[Tensor, ...]
    output_names: tuple[str, ...]
    output_dtypes: tuple[str, ...]
    rewrites: tuple[str, ...]
