"""The model's own answer to a payer's integers, in floats, for people: it is never proved, signed or paid for."""

from __future__ import annotations

import numpy as np

from circuits.check.reading import outputs_of, read_model
from prover.witness import Tensors
from verifier.statement.manifest import CircuitManifest
from verifier.tensors import dequantise


def infer(onnx: bytes, manifest: CircuitManifest, inputs: Tensors) -> tuple[tuple[float, ...], ...]:
    """What onnxruntime gives for the inputs that the integers stand for, one flat tuple a tensor; a blind is left out.

    Raises:
        CircuitError: C-onnx…, C-onnxruntime.
    """
    model = read_model(onnx)
    sample = tuple(
        np.array(dequantise(values[: spec.size], int(spec.scale)), dtype=str(spec.dtype)).reshape(
            [int(axis) for axis in spec.shape]
        )
        for spec, values in zip(manifest.inputs, inputs, strict=True)
    )
    outputs = outputs_of(model, (sample,)).run(sample)
    return tuple(tuple(float(value) for value in output.reshape(-1)) for output in outputs)
