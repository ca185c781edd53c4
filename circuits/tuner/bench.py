"""Measures what proofs cost on this machine and fits the constants of `cost.Machine`, within a few minutes.

A handful of small circuits of different rows, columns and extension are proved; the terms of the prediction are known
from their settings. How well the fit predicts is told by leaving each circuit out in turn.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from circuits import ezkl_runner
from circuits.ezkl_runner import Limits
from circuits.parsing import parse_model
from circuits.run_arguments import RunArguments
from circuits.tuner.cost import Layout, Machine, layout, physical_memory
from circuits.tuner.timing import time_proofs
from verifier.errors import CircuitError
from verifier.statement.manifest import Visibility

MAX_SECONDS = 300.0
TURNS = 3
FEWEST = 5
_WIDTH = 8
SAMPLE = (np.linspace(-1, 1, _WIDTH, dtype=np.float32).reshape(1, _WIDTH),)
_RIDGE = 0.05
_LEAST_WORKING = 24 << 20
"""Below this many working bytes the memory is the child's own, and says nothing of a byte's share."""

Progress = Callable[[str], None]


class Case(NamedTuple):
    """One circuit to prove."""

    activation: str
    visibility: Visibility
    logrows: int
    inner: int


CASES = (
    Case("Relu", "public", 9, 1),
    Case("Relu", "public", 11, 1),
    Case("Sigmoid", "public", 12, 1),
    Case("Relu", "hashed", 11, 1),
    Case("Relu", "public", 12, 2),
    Case("Relu", "public", 13, 1),
    Case("Sigmoid", "public", 11, 2),
    Case("Relu", "hashed", 12, 1),
    Case("Relu", "public", 10, 3),
    Case("Relu", "public", 14, 1),
)


class Measured(NamedTuple):
    """What one circuit cost, and what its settings said."""

    shape: Layout
    seconds: float
    peak_bytes: int


class Fit(NamedTuple):
    """A machine's constants, and how far off they are on circuits that they were not fitted on."""

    machine: Machine
    measured: tuple[Measured, ...]
    median_error: float
    memory_from: float
    memory_to: float
    seconds: float


def bench(
    srs_store: Path,
    *,
    name: str,
    max_seconds: float = MAX_SECONDS,
    cases: Sequence[Case] = CASES,
    progress: Progress = lambda _: None,
) -> Fit:
    """Prove the cases, as far as the time goes, and fit.

    Args:
        srs_store: where SRS are kept.
        name: what the machine is called in records.
        max_seconds: no case is begun after it.
        cases: what is proved.
        progress: told each step, in words.

    Raises:
        CircuitError: C-bench where fewer than five circuits were proved in that time.
    """
    begun = time.monotonic()
    limits = Limits(threads=ezkl_runner.usable_cores(), wall_seconds=max_seconds)
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="opgate-bench-") as folder:
        for turn, case in enumerate(cases):
            spent = time.monotonic() - begun
            if spent > max_seconds:
                break
            left = spent / turn * (len(cases) - turn) if turn else 0.0
            kind = f"{case.activation}, {case.visibility}, k={case.logrows}, {case.inner} columns"
            progress(f"circuit {turn + 1} of {len(cases)} ({kind}), about {left:.0f} s left")
            measured.append(_measure(case, srs_store, Path(folder) / str(turn), limits))
    if len(measured) < FEWEST:
        raise CircuitError(
            "C-bench",
            "too few circuits were proved to fit anything",
            expected=f"{FEWEST} or more",
            found=str(len(measured)),
            do="Give it more time: --max-seconds.",
        )
    return _judged(name, measured, time.monotonic() - begun)


def fit(name: str, measured: Sequence[Measured]) -> Machine:
    """The constants that predict the measurements best.

    Seconds: least squares of the relative error over the terms, held near one common factor, since few circuits cannot
    tell the terms apart by themselves. Memory: the child's own from the smallest circuit, and the largest share
    of a working byte that was seen, both raised until nothing that was measured is predicted too low.
    """
    terms = np.array([each.shape.terms for each in measured])
    seconds = np.array([each.seconds for each in measured])
    common = float(np.median(seconds / terms.sum(axis=1)))
    relative = terms / seconds[:, None]
    matrix = relative.T @ relative + _RIDGE * len(measured) * np.eye(2) / common**2
    vector = relative.sum(axis=0) + _RIDGE * len(measured) * np.ones(2) / common
    factors = np.maximum(np.linalg.solve(matrix, vector), common / 10)
    smallest = min(measured, key=lambda each: each.shape.working_bytes)
    base = max(smallest.peak_bytes - smallest.shape.working_bytes, 16 << 20)
    shares = [
        (each.peak_bytes - base) / each.shape.working_bytes
        for each in measured
        if each.shape.working_bytes > _LEAST_WORKING
    ]
    share = max([0.8, *shares])
    least = max(each.peak_bytes - int(share * each.shape.working_bytes) for each in measured)
    return Machine(
        name=name,
        seconds_a_term=(float(factors[0]), float(factors[1])),
        base_bytes=max(base, least),
        memory_a_byte=share,
        memory_bytes=physical_memory(),
    )


def _judged(name: str, measured: Sequence[Measured], seconds: float) -> Fit:
    errors, memory = [], []
    for index, each in enumerate(measured):
        others = fit(name, [*measured[:index], *measured[index + 1 :]])
        errors.append(abs(others.seconds(each.shape) / each.seconds - 1))
        memory.append(others.memory_of(each.shape) / each.peak_bytes - 1)
    machine = fit(name, measured)
    return Fit(machine, tuple(measured), float(np.median(errors)), min(memory), max(memory), seconds)


def _measure(case: Case, srs_store: Path, work: Path, limits: Limits) -> Measured:
    proofs = time_proofs(
        parse_model(_model(case.activation)), run_arguments(case), SAMPLE, srs_store, work, limits, turns=TURNS
    )
    shape = layout(proofs.keys.settings, case.logrows)
    if shape is None:
        raise CircuitError("C-bench", "a circuit of the bench has no layout", where=str(case))
    return Measured(shape, proofs.seconds, proofs.peak_bytes)


def run_arguments(case: Case) -> RunArguments:
    """The knobs of a case, which leave its look-ups inside their table."""
    return RunArguments(
        visibility=case.visibility,
        input_scale=7,
        param_scale=7,
        scale_rebase_multiplier=1,
        lookup_min=-500,  # beyond all that the model looks up: what no proof holds for may hang ezkl
        lookup_max=500,
        logrows=case.logrows,
        num_inner_cols=case.inner,
        decomp_base=500,
        decomp_legs=3,
    )


def _model(activation: str) -> bytes:
    weights = np.linspace(-1, 1, _WIDTH * _WIDTH, dtype=np.float32).reshape(_WIDTH, _WIDTH)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node(activation, ["z"], ["y"])],
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, _WIDTH])],
        [numpy_helper.from_array(weights, "w")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))
