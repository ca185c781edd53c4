"""Whether a model becomes a circuit that computes it: a verdict within a minute for any file, without building.

Numbered as they happen: 1 the file is read, rewritten and run in floating point, in a child; 2 ezkl takes the graph;
3 its outputs are the model's on given, random and extreme inputs, at the scales that a build tries; 4 what error is
left goes away at a higher scale, else the graph is cut and the first wrong node named; 5 the constraints hold at the
extremes; 6 the range of inputs that the circuit takes is searched.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from circuits.check import confined, differential
from circuits.check.bisection import Bisection
from circuits.check.causes import Cause, Node, find_cause
from circuits.check.confined import Bounds
from circuits.check.differential import Comparison
from circuits.check.domain import search_domain
from circuits.check.refusals import Spent, refused
from circuits.check.report import Report
from circuits.check.trial import BITS, Graph, Refusal, Trial
from circuits.ezkl_runner import Limits
from circuits.ezkl_session import Session
from circuits.model import CHEAPER, JOB_INPUT, Tensor
from circuits.samples import Array, Sample
from verifier.errors import CircuitError

WALL_SECONDS = 55.0
SAMPLES = 32
PLAIN_SCALES, LOOKUP_SCALES = (13, 10, 7), (7, 10, 12)
"""What a build's quick rule tries, and `raise-scale` means more than these."""
HIGHER = (4, 2)
LOWER = 3
EXTREMES = 4
MAX_CELLS = 12 << 20
"""Twelve blocks of columns at k = 20, the largest circuit that run arguments can ask for."""
PLAIN_MULTIPLIER, LOOKUP_MULTIPLIER = 10, 1
NEIGHBOURS = 6
HOUSEKEEPING = ("batch dimension set to 1", "weights listed as inputs", f"input {JOB_INPUT} added", CHEAPER)
"""Changes that leave each node as it is: a model with no other is faithful as it stands."""


class _Stop(Exception):  # noqa: N818 - it carries a finished report, not an error
    def __init__(self, report: Report) -> None:
        super().__init__(report.reason)
        self.report = report


def check(model: Path, samples: Path | None = None, *, scale: int | None = None, wall: float = WALL_SECONDS) -> Report:
    """Check a model; never raises for what a file holds.

    Args:
        model: the ONNX file.
        samples: EZKL's input.json, .npz or .csv; without it inputs between -4 and 4 are drawn.
        scale: the one scale to judge at; by default those that a build tries.
        wall: seconds for all of it.
    """
    spent = Spent()
    begun = time.monotonic()
    judge: _Check | None = None
    try:
        with tempfile.TemporaryDirectory(prefix="opgate-check-") as name:
            judge = _Check(model, samples, scale, Path(name), begun + wall)
            report = judge.run()
    except _Stop as stop:
        report = stop.report
    except CircuitError as error:
        report = refused(error, spent, judge.rewrites if judge else ())
    except Exception as error:  # noqa: BLE001 - a file of a stranger must not bring this process down
        report = Report(
            verdict="refused",
            code="C-check",
            reason=f"the check itself failed ({type(error).__name__}: {error})"[:300],
            advice="Report it with the model; do not build.",
        )
    return _with(report, seconds=f"{time.monotonic() - begun:.1f}")


def _with(report: Report, **fields: Any) -> Report:
    import msgspec  # noqa: PLC0415 - one small use

    return msgspec.structs.replace(report, **fields)


class _Check:
    """One check: the state that its steps share."""

    def __init__(self, model: Path, samples: Path | None, scale: int | None, folder: Path, deadline: float) -> None:
        self._model, self._given, self._scale = model.absolute(), samples.absolute() if samples else None, scale
        self._folder, self._deadline = folder, deadline
        self.rewrites: tuple[str, ...] = ()
        self._inputs: tuple[Tensor, ...] = ()
        self._engine = ""
        self._owned = 0
        self._left_out = 0
        self._seen: dict[tuple[int, int], tuple[list[tuple[Array, ...] | None], list[int]] | Refusal] = {}

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0.5:
            raise CircuitError(
                "C-wall",
                "the model is too large to be checked in time",
                do="Make it smaller; from about 16 million multiply-adds ezkl itself takes minutes.",
            )
        return left

    def _stop(self, **fields: Any) -> _Stop:
        return _Stop(Report(rewrites=self.rewrites, compared_with=self._engine, **fields))

    def run(self) -> Report:
        """All steps; the report of the last."""
        # step 1: read, rewrite, run in floating point
        prepared = confined.run(
            "prepare",
            self._folder,
            Bounds(wall_seconds=min(30.0, self._left())),
            model=str(self._model),
            samples=str(self._given) if self._given else "",
            limit=SAMPLES,
        )
        self.rewrites = tuple(each for each in prepared["rewrites"])
        self._engine = str(prepared["engine"])
        self._left_out = int(prepared["left_out"])
        self._inputs = tuple(Tensor(name, tuple(shape), dtype) for name, shape, dtype in prepared["inputs"])
        graph = Graph(
            path=self._folder / "with_job.onnx",
            inputs=self._inputs,
            nodes=tuple(Node(name, op, tuple(i), tuple(o)) for name, op, i, o in prepared["nodes"]),
            outputs=len(prepared["outputs"]),
        )
        samples = confined.read_arrays(self._folder / "samples.npz")
        truth = confined.read_arrays(self._folder / "truth.npz")
        samples, truth = self._judge_truth(samples, truth, prepared["kinds"])
        with Session(_limits(self._left())) as session:
            trial = Trial(graph, self._folder, session, self._left)
            return self._judge(trial, graph, samples, truth)

    def _judge_truth(
        self, samples: tuple[Sample, ...], truth: tuple[Sample, ...], kinds: list[str]
    ) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        """Samples without a finite answer are left out where we drew them, and a refusal where the owner gave them."""
        finite = [differential.all_finite([outputs]) is None for outputs in truth]
        bad = [kind for kind, good in zip(kinds, finite, strict=True) if not good and kind == "given"]
        if bad or sum(finite) < 2:
            raise self._stop(
                verdict="refused",
                code="C-not-finite",
                reason="the model's own output is not a finite number"
                + (" on samples given" if bad else " on nearly all inputs that were drawn"),
                advice="Give samples (--data) inside the range where the model is defined, or scale its inputs.",
            )
        kept = [index for index, good in enumerate(finite) if good]
        samples, truth = tuple(samples[i] for i in kept), tuple(truth[i] for i in kept)
        self._owned = sum(kinds[index] == "given" for index in kept)
        if differential.is_constant(truth):
            raise self._stop(
                verdict="refused",
                code="C-constant",
                reason="the model gives the same output for every input tried, so that nothing can be compared",
                advice="Give samples (--data) on which its outputs differ.",
            )
        return samples, truth

    def _judge(  # noqa: C901, PLR0912 - the numbered steps stand together
        self, trial: Trial, graph: Graph, samples: tuple[Sample, ...], truth: tuple[Sample, ...]
    ) -> Report:
        # step 2: ezkl takes the graph
        first = trial.settings(PLAIN_SCALES[0], PLAIN_MULTIPLIER)
        overflows = isinstance(first, Refusal)
        if overflows:  # scales add up over products where they are not brought down at once
            first = trial.settings(LOOKUP_SCALES[0], LOOKUP_MULTIPLIER)
        if isinstance(first, Refusal):
            raise self._refused(trial, graph, first)
        if first.total_assignments > MAX_CELLS:
            raise self._stop(
                verdict="refused",
                code="C-too-large",
                reason=f"its circuit has {first.total_assignments} cells, more than any proof here takes ({MAX_CELLS})",
                advice="Make it smaller: fewer multiply-adds (shorter sequences, narrower layers, smaller images), or "
                "prove only the last layers of it.",
            )
        has_lookups = bool(first.required_lookups)
        multiplier = LOOKUP_MULTIPLIER if has_lookups or overflows else PLAIN_MULTIPLIER
        ladder = (self._scale,) if self._scale else LOOKUP_SCALES if has_lookups else PLAIN_SCALES
        # step 3: its outputs are the model's, at some scale of a build
        if multiplier != LOOKUP_MULTIPLIER and isinstance(self._ran(trial, samples, ladder[0], multiplier), Refusal):
            multiplier = LOOKUP_MULTIPLIER
        taken = (each for each in ladder if not isinstance(self._ran(trial, samples, each, multiplier), Refusal))
        first_scale = next(taken, None)
        if first_scale is None:
            raise self._refused(trial, graph, self._seen[ladder[0], multiplier])
        chosen: tuple[int, Comparison] | None = None
        last: tuple[int, Comparison] | None = None
        # a coarser scale than one that runs is of no use
        for scale in (each for each in ladder if each >= first_scale):
            if isinstance(self._ran(trial, samples, scale, multiplier), Refusal):
                continue
            found = self._compare(trial, samples, truth, scale, multiplier)
            last = (scale, found)
            if differential.is_close(found):
                chosen = (scale, found)
                break
        if last is None:
            raise CircuitError("C-check", "no scale was tried")
        # step 4: what is left goes away as the scale grows
        scale, low = chosen or last
        bits, below, high = self._higher(trial, samples, truth, scale, multiplier)
        high_scale = scale if below else scale + bits
        if not differential.is_rounding(below or low, high, bits):
            raise self._wrong(trial, samples, high_scale, multiplier, high)
        if chosen is None:
            raise self._raise_scale(trial, samples, truth, multiplier, ((last[0], low), (high_scale, high)))
        # steps 5 and 6: the constraints hold at the extremes; what inputs the circuit takes
        spans, untaken, refusal = search_domain(trial, samples, self._owned, scale, multiplier)
        if refusal is not None and multiplier != LOOKUP_MULTIPLIER:
            multiplier = LOOKUP_MULTIPLIER
            if not isinstance(self._ran(trial, samples, scale, multiplier), Refusal):
                low = self._compare(trial, samples, truth, scale, multiplier)
                if differential.is_close(low):
                    spans, untaken, refusal = search_domain(trial, samples, self._owned, scale, multiplier)
        if refusal is not None:
            cause = find_cause(refusal.failure, graph.nodes) if refusal.failure else Cause("", "", refusal.words, "")
            if "mock" not in refusal.words:
                raise self._stop(
                    verdict="refused",
                    code="C-domain",
                    node=cause.node,
                    operator=cause.operator,
                    reason=f"the circuit does not run on some of the inputs that it has to take: {cause.reason}",
                    advice=cause.advice or "Narrow the range of the inputs (--data), or scale them.",
                )
            raise self._stop(
                verdict="refused",
                code="C-unsatisfiable",
                node=cause.node,
                operator=cause.operator,
                reason=f"a proof of some inputs would fail though the circuit runs on them: {cause.reason}",
                advice="Narrow the range of the inputs (--data), scale them, or leave logarithm and softmax out.",
            )
        changed = [each for each in self.rewrites if not each.startswith(HOUSEKEEPING)]
        return Report(
            verdict="rewritten" if changed else "faithful",
            rewrites=self.rewrites,
            max_error=f"{low.error:.6g}",
            domain=spans,
            scale=scale,
            samples=low.samples,
            compared_with=self._engine,
            reason="; ".join(_remarks(low, untaken, self._left_out)),
            advice=self._advice(graph, first.instances),
        )

    def _advice(self, graph: Graph, instances: int) -> str:
        from verifier.statement.manifest import MAX_INSTANCES  # noqa: PLC0415 - one small use

        told = []
        if instances > MAX_INSTANCES:
            told.append(
                f"it has {instances} public values and the escrow takes {MAX_INSTANCES}: use smaller inputs "
                "or outputs, hashed inputs, or build --target offchain"
            )
        tail = [node.operator for node in graph.nodes[-3:]]
        if any(each in {"Softmax", "LogSoftmax", "ArgMax"} for each in tail):
            told.append("prove logits: softmax and argmax at the end cost more than the rest of a small model")
        return "; ".join(told)

    def _compare(
        self, trial: Trial, samples: tuple[Sample, ...], truth: tuple[Sample, ...], scale: int, multiplier: int
    ) -> Comparison:
        ran = self._ran(trial, samples, scale, multiplier)
        if isinstance(ran, Refusal):
            raise self._refused(trial, trial.graph, ran)
        outputs, scales = ran
        kept = [index for index, each in enumerate(outputs) if each is not None]
        found = [each for each in outputs if each is not None]
        wanted = [truth[index] for index in kept]
        sizes = [[array.size for array in each] for each in (found[0], wanted[0])]
        if sizes[0] != sizes[1]:
            node = Bisection(self, trial, self._folder).first_wrong(samples, scale, multiplier)
            raise self._stop(
                verdict="refused",
                code="C-shape",
                node=node.label if node else "",
                operator=node.operator if node else "",
                reason=f"the circuit has outputs of sizes {sizes[0]}, the model of {sizes[1]}",
                advice="Leave this operator out, or set its attributes (dilations, ceil_mode) otherwise.",
            )
        plain = differential.compare(found, wanted, scales)
        if plain.excess <= differential.FLOOR_SHARE:
            return plain
        near = self._nearby([samples[index] for index in kept], scale)
        return differential.compare(found, wanted, scales, near)

    def _higher(
        self, trial: Trial, samples: tuple[Sample, ...], truth: tuple[Sample, ...], scale: int, multiplier: int
    ) -> tuple[int, Comparison | None, Comparison]:
        """The error at a scale so many bits higher; where the circuit runs at none, a lower scale's and this one's."""
        for more in HIGHER:
            if not isinstance(self._ran(trial, samples, scale + more, multiplier), Refusal):
                return more, None, self._compare(trial, samples, truth, scale + more, multiplier)
        below = self._compare(trial, samples, truth, max(1, scale - LOWER), multiplier)
        return min(LOWER, scale - 1), below, self._compare(trial, samples, truth, scale, multiplier)

    def _ran(
        self, trial: Trial, samples: tuple[Sample, ...], scale: int, multiplier: int
    ) -> tuple[list[tuple[Array, ...] | None], list[int]] | Refusal:
        """The outputs at some scales, as long as the circuit takes more than half of the samples; kept."""
        key = (scale, multiplier)
        if key not in self._seen:
            # the narrowest bound that holds the owner's samples, else all but the extreme ones, as a build takes it
            required = self._owned or max(1, len(samples) - EXTREMES)
            for bits in BITS:
                trial.bits = bits
                ran = trial.outputs(samples, scale, multiplier, required=required if bits != BITS[-1] else 0)
                if isinstance(ran, Refusal) or all(trial.ran_or_left(index) for index in range(required)):
                    break
            if not isinstance(ran, Refusal):
                run = sum(each is not None for each in ran[0])
                if run < 2 or run <= trial.refusals:
                    ran = trial.refusal or Refusal("the circuit runs on few inputs", None, scale, multiplier)
            self._seen[key] = ran
        return self._seen[key]

    def _nearby(self, samples: list[Sample], scale: int) -> list[list[tuple[Array, ...]]]:
        """The model's outputs around each sample, by the child."""
        generator = np.random.default_rng(scale)
        around = [differential.nearby(sample, scale, NEIGHBOURS, generator) for sample in samples]
        flat = tuple(each for group in around for each in group)
        outputs = self.truth("static", flat)
        return [list(outputs[start : start + NEIGHBOURS]) for start in range(0, len(outputs), NEIGHBOURS)]

    def truth(self, graph: str, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        """What a graph in the folder gives in floating point."""
        confined.write_arrays(self._folder / "asked.npz", samples)
        inputs = [[each.name, list(each.shape), each.dtype] for each in self._inputs]
        bounds = Bounds(wall_seconds=min(20.0, self._left()))
        confined.run("truth", self._folder, bounds, graph=graph, inputs=inputs)
        return confined.read_arrays(self._folder / "truth.npz")

    def _refused(self, trial: Trial, graph: Graph, refusal: Any) -> _Stop:
        """Ezkl refuses: the node from its log, else by cutting the graph."""
        cause = Cause("", "", refusal.words, "Export with opset 13 to 18 and fixed shapes.")
        if refusal.failure is not None:
            cause = find_cause(trial.explained(refusal), graph.nodes)
        if not cause.node:
            node = Bisection(self, trial, self._folder).first_refused(refusal.scale, refusal.multiplier)
            if node is not None:
                cause = cause._replace(node=node.label, operator=node.operator)
        return self._stop(
            verdict="refused",
            code="C-ezkl",
            node=cause.node,
            operator=cause.operator,
            reason=cause.reason,
            advice=cause.advice,
        )

    def _wrong(
        self,
        trial: Trial,
        samples: tuple[Sample, ...],
        scale: int,
        multiplier: int,
        found: Comparison,
    ) -> _Stop:
        """An operator is computed differently: the first one whose own output differs."""
        node = Bisection(self, trial, self._folder).first_wrong(samples, scale, multiplier)
        return self._stop(
            verdict="refused",
            code="C-unfaithful",
            node=node.label if node else "",
            operator=node.operator if node else "",
            max_error=f"{found.error:.6g}",
            scale=scale,
            samples=found.samples,
            reason=f"ezkl computes this differently from ONNX: the outputs are off by {found.error:.4g} "
            f"({found.excess:.1%} of their span) even at scale {scale}, where rounding is gone",
            advice="Write this operator by others (sums, products, Relu), change the attribute that matters, or leave "
            "it out of the exported part of the model.",
        )

    def _raise_scale(
        self,
        trial: Trial,
        samples: tuple[Sample, ...],
        truth: tuple[Sample, ...],
        multiplier: int,
        tried: tuple[tuple[int, Comparison], tuple[int, Comparison]],
    ) -> _Stop:
        """The least higher scale that would do."""
        (scale, low), (high_scale, _) = tried
        for each in range(scale + 1, high_scale + 1):
            if differential.is_close(self._compare(trial, samples, truth, each, multiplier)):
                return self._stop(
                    verdict="raise-scale",
                    code="C-scale",
                    max_error=f"{low.error:.6g}",
                    scale=each,
                    samples=low.samples,
                    reason=f"at scale {scale} the outputs are off by {low.error:.4g} ({low.excess:.1%} of their span), "
                    f"at scale {each} they are the model's",
                    advice=f"Use scale {each}: small constants are lost at {scale}. Or fold factors like 1/255 into "
                    "the weights.",
                )
        return self._stop(
            verdict="refused",
            code="C-unfaithful",
            max_error=f"{low.error:.6g}",
            scale=high_scale,
            samples=low.samples,
            reason=f"up to scale {high_scale} the outputs stay off by {low.excess:.1%} of their span",
            advice="Scale inputs and weights to about -1 to 1; look for factors that are very small or very large.",
        )


def _remarks(found: Comparison, untaken: int, left_out: int) -> list[str]:
    told = []
    if found.jumps:
        told.append(f"{found.jumps} of {found.samples} inputs lie at a jump of the model")
    if untaken:
        told.append(f"the circuit does not run on {untaken} inputs inside the range: a provider refuses such")
    if left_out:
        told.append(f"the model itself does not run on {left_out} of the inputs that were drawn: they were left out")
    return told


def _limits(wall: float) -> Limits:
    return Limits(wall_seconds=wall, memory_bytes=8 << 30, threads=2)
