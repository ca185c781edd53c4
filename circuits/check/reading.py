"""Reads a model of a stranger, and its own outputs on samples: in the confined child, so that no ONNX is parsed here.

Whatever builds, rebuilds or compares a circuit gets its model by this module.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from circuits import fidelity
from circuits.check import confined
from circuits.check.confined import Bounds
from circuits.model import GRAPHS, Model, Tensor
from circuits.samples import Array, Sample
from verifier.statement.scalars import Bytes32

BOUNDS = Bounds(wall_seconds=240.0)
"""A build may take its time; a model that takes longer to read or to run on a few hundred samples is no circuit."""


class Truth:
    """The model's own outputs on some samples; those of another sample are not known."""

    def __init__(self, samples: Sequence[Sample], outputs: Sequence[tuple[Array, ...]], engine: str) -> None:
        """`engine` says whose outputs they are: onnxruntime's, or the reference evaluator's where that refuses."""
        self._outputs = {_key(sample): each for sample, each in zip(samples, outputs, strict=True)}
        self.engine = engine

    def run(self, sample: Sample) -> tuple[Array, ...]:
        """The outputs for a sample, in the graph's order, as float64."""
        return self._outputs[_key(sample)]

    def knows(self, sample: Sample) -> bool:
        """Whether the model ran on that sample."""
        return _key(sample) in self._outputs


class Read(NamedTuple):
    """A model, all samples of a file in its types, and its outputs on those that are compared."""

    model: Model
    samples: tuple[Sample, ...]
    truth: Truth


def read_model(source: bytes, bounds: Bounds | None = None) -> Model:
    """The model of ONNX bytes.

    Raises:
        CircuitError: C-onnx…, as `circuits.parsing`; C-wall, C-memory or C-died where it goes beyond the bounds.
    """
    with tempfile.TemporaryDirectory(prefix="opgate-read-") as name:
        return _read(source, Path(name), bounds or BOUNDS)[0]


def read_with_samples(source: bytes, samples_file: Path, *, split: bool, bounds: Bounds | None = None) -> Read:
    """The model, the samples of EZKL's input.json, .npz or .csv, and its outputs on them in floating point.

    With `split` the outputs are those of the samples, extreme and random inputs that a build compares
    (`DataSets.every`), without those drawn on which the model does not run; else of all samples.

    Raises:
        CircuitError: as `read_model`; C-samples; C-onnxruntime where the model does not run.
    """
    with tempfile.TemporaryDirectory(prefix="opgate-read-") as name:
        folder = Path(name)
        model, answer = _read(source, folder, bounds or BOUNDS, samples=str(samples_file.absolute()), split=split)
        compared, outputs = (confined.read_arrays(folder / each) for each in ("samples.npz", "truth.npz"))
        truth = Truth(compared, outputs, str(answer["engine"]))
        return Read(model, confined.read_columns(folder / "given.npz"), truth)


def outputs_of(model: Model, samples: tuple[Sample, ...], bounds: Bounds | None = None) -> Truth:
    """The outputs of a model that was read before; C-onnxruntime, C-wall, C-memory, C-died."""
    with tempfile.TemporaryDirectory(prefix="opgate-truth-") as name:
        folder = Path(name)
        (folder / "static.onnx").write_bytes(model.static)
        confined.write_arrays(folder / "asked.npz", samples)
        inputs = [[each.name, list(each.shape), each.dtype] for each in model.inputs]
        answer = confined.run("truth", folder, bounds or BOUNDS, graph="static", inputs=inputs)
        return Truth(samples, confined.read_arrays(folder / "truth.npz"), str(answer["engine"]))


def _read(
    source: bytes, folder: Path, bounds: Bounds, *, samples: str = "", split: bool = False
) -> tuple[Model, dict[str, Any]]:
    given = folder / "given.onnx"
    given.write_bytes(source)
    answer = confined.run("read", folder, bounds, model=str(given), samples=samples, split=split)
    model = Model(
        source=source,
        **{name: (folder / f"{name}.onnx").read_bytes() for name in GRAPHS},
        inputs=tuple(Tensor(name, tuple(shape), dtype) for name, shape, dtype in answer["inputs"]),
        output_names=tuple(answer["outputs"]),
        output_dtypes=tuple(answer["output_dtypes"]),
        rewrites=tuple(answer["rewrites"]),
    )
    return model, answer


def _key(sample: Sample) -> Bytes32:
    return fidelity.samples_sha256([sample])
