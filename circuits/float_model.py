"""The model in floating point, by onnxruntime: what a circuit's outputs are compared with. It proves nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped] # it ships no types

from circuits.model import Model
from circuits.samples import Array, Sample
from verifier.errors import CircuitError

_QUIET = 4


class FloatModel:
    """An onnxruntime session of the static graph; one thread, so that it disturbs no proof."""

    def __init__(self, model: Model) -> None:
        """Load the graph; CircuitError C-onnxruntime where onnxruntime refuses it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        try:
            self._session = onnxruntime.InferenceSession(model.static, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has one class an error code, and no common one of its own
            raise _refused(error) from error
        self._names = tuple(tensor.name for tensor in model.inputs)

    def run(self, sample: Sample) -> tuple[Array, ...]:
        """The outputs for one sample, in the graph's order, in the types that the graph declares."""
        try:
            outputs: list[Any] = self._session.run(None, dict(zip(self._names, sample, strict=True)))
        except Exception as error:  # see __init__
            raise _refused(error) from error
        return tuple(np.asarray(output) for output in outputs)


def _refused(error: Exception) -> CircuitError:
    return CircuitError("C-onnxruntime", "onnxruntime does not run the model", found=str(error)[:300])
