"""The model in floating point: what a circuit's outputs are compared with. It proves nothing.

By onnxruntime; where that refuses a graph (int8 products, comparisons in old operator sets), by onnx's own slow
reference evaluator. It runs in the confined child and in tests; `circuits.check.reading` brings its answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped] # it ships no types
from onnx.reference import ReferenceEvaluator

from circuits.model import Tensor
from circuits.samples import Array, Sample
from verifier.errors import CircuitError

_QUIET = 4


class FloatModel:
    """A session of the static graph; one thread, so that it disturbs no proof. `engine` says whose answers it gives."""

    def __init__(self, graph: bytes, inputs: Sequence[Tensor]) -> None:
        """Load a static graph with those inputs.

        Raises:
            CircuitError: C-onnxruntime where neither engine takes it, with onnxruntime's reason.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        self._names = tuple(tensor.name for tensor in inputs)
        self._session: Any
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            self.engine = "onnxruntime"
        except Exception as error:  # noqa: BLE001 - onnxruntime has one class an error code, and no common one of its own
            try:
                self._session = ReferenceEvaluator(onnx.load_model_from_string(graph))
            except Exception as other:  # the evaluator raises whatever the graph makes it
                raise _refused(error) from other
            self.engine = "onnx reference evaluator"
            self._refusal: Exception = error

    def run(self, sample: Sample) -> tuple[Array, ...]:
        """The outputs for one sample, in the graph's order, in the types that the graph declares."""
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs: list[Any] = self._session.run(None, dict(zip(self._names, sample, strict=True)))
        except Exception as error:  # see __init__
            raise _refused(error if self.engine == "onnxruntime" else self._refusal) from error
        return tuple(np.asarray(output) for output in outputs)


def _refused(error: Exception) -> CircuitError:
    return CircuitError("C-onnxruntime", "onnxruntime does not run the model", found=str(error)[:300])
