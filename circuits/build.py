"""From an ONNX file and samples to a circuit in a store: searched, compiled, compared, proved, certified.

A circuit that is not the model, that some input in the samples' range would make unprovable, that this machine could
not prove, or whose verifier no chain would hold is refused before it is published.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from circuits import admission, compare, ezkl_runner, fidelity, registry, srs
from circuits import compile as compiling
from circuits.check.reading import read_with_samples
from circuits.compile import EZKL_VERSION, Compiled
from circuits.ezkl_runner import Limits, Outcome, Witness
from circuits.ezkl_session import Session
from circuits.fidelity import Fidelity, Floats
from circuits.graph import sample_input
from circuits.model import MAX_ONNX_BYTES, Model
from circuits.registry import CircuitFolder
from circuits.run_arguments import RunArguments
from circuits.samples import Sample
from circuits.tuner import baseline, data_sets
from circuits.tuner.baseline import Baseline
from circuits.tuner.cost import Machine
from circuits.tuner.data_sets import DataSets
from circuits.tuner.layouts import Target
from circuits.tuner.probe import HEADROOM_BITS, Probes, cache_key
from circuits.tuner.search import Candidate, Found, Goal, Search, describe
from circuits.tuner.search_cache import SearchCache
from circuits.tuner.timing import in_true_order, this_machine, time_proofs
from circuits.tuner.visibility import Alternative, with_other_inputs
from verifier.errors import CircuitError
from verifier.statement.certificates import Cost, CostRecord, FidelityCertificate
from verifier.statement.manifest import Visibility
from verifier.statement.scalars import Count, Measure, Text

DEFAULT_SHARES = (0.001, 0.01)
"""Largest errors that are asked for unless told otherwise, as shares of the span of the model's outputs.

The first that some scales reach counts. Without lookups a thousandth costs little more than a hundredth.
"""
DEFAULT_SECONDS = 600.0
_TOO_MUCH_ASKED = ("C-unfaithful", "C-unsatisfiable", "C-closable", "C-machine")
"""Refusals of a search after which a larger error may still be reached."""
_MARGINS = (0.8, 0.5, 0.25, 0.1)
"""Of the goal on the samples of the search, one after another until held-out samples meet the goal itself."""
MAX_ATTEMPTS = 6

Progress = Callable[[str], None]


class Wishes(NamedTuple):
    """What the owner asks of a circuit.

    `shares` are largest errors as shares of the span of the model's outputs, of which the first that is reached counts;
    none asks for no more error and no less agreement than EZKL's own calibration gives.
    """

    inputs: Visibility = "public"
    target: Target = "closable"
    shares: tuple[float, ...] = DEFAULT_SHARES
    max_seconds: float = DEFAULT_SECONDS
    compare_ezkl: bool = False


class Built(NamedTuple):
    """A circuit in its store, and what was measured on the way. The records are not signed yet.

    `other_inputs` is what it would cost with hashed inputs where they are shown, and shown where they are hashed.
    """

    folder: CircuitFolder
    compiled: Compiled
    run_args: RunArguments
    certificate: FidelityCertificate
    cost: CostRecord
    found: Found
    baseline: Baseline | None
    other_inputs: Alternative | None


class _Chosen(NamedTuple):
    compiled: Compiled
    candidate: Candidate
    srs_file: Path


def build(  # noqa: PLR0913 - two places to read, two to write, each by keyword
    onnx: Path,
    samples_file: Path,
    *,
    store: Path,
    srs_store: Path,
    wishes: Wishes | None = None,
    inputs: Visibility = "public",
    machine: Machine | None = None,
    cache: Path | None = None,
    is_open: bool = True,
    limits: Limits | None = None,
    progress: Progress = lambda _: None,
) -> Built:
    """Build a circuit and put it into a store.

    Args:
        onnx: the model.
        samples_file: EZKL's input.json, .npz or .csv.
        store: the folder of circuits.
        srs_store: where SRS are kept; where no ceremony's file was imported, a development one is made.
        wishes: what is asked of the circuit.
        inputs: shorthand for `wishes.inputs` where there are no wishes.
        machine: constants of this machine by `opgate circuit bench`.
        cache: a folder where the search keeps its answers, to go on from when it was stopped.
        is_open: whether the ONNX file may be public.
        limits: of each ezkl child.
        progress: told each step, in words.

    Raises:
        CircuitError: C-… with the step that refused and what to do.
    """
    model, samples, floats = read_with_samples(registry.read_onnx(onnx, limit=MAX_ONNX_BYTES), samples_file, split=True)
    job = _Build(
        model=model,
        wishes=wishes or Wishes(inputs=inputs),
        sets=data_sets.answered(data_sets.split(samples, model.inputs), floats.knows),
        floats=floats,
        machine=machine or Machine(),
        limits=limits or Limits(threads=ezkl_runner.usable_cores()),
        srs_store=srs_store,
        progress=progress,
    )
    fidelity.check_not_constant([job.floats.run(sample) for sample in job.sets.tuning])
    with tempfile.TemporaryDirectory(prefix="opgate-build-") as name:
        return job.run(Path(name), cache, store, is_open=is_open)


class _Build(NamedTuple):
    """One build: what it is made of, and its steps."""

    model: Model
    wishes: Wishes
    sets: DataSets
    floats: Floats
    machine: Machine
    limits: Limits
    srs_store: Path
    progress: Progress

    def run(self, folder: Path, cache: Path | None, store: Path, *, is_open: bool) -> Built:
        given = baseline.of_ezkl(self.model, self.sets, self.floats, folder, self.limits) if self._asks_ezkl() else None
        found, chosen, compared = self._faithful(given, folder, cache)
        manifest, files = chosen.compiled.manifest, chosen.compiled.keys.files
        self.progress("mock at the extremes")
        compare.mock(manifest, files.compiled, self.sets)
        self.progress("looking how far beyond the samples inputs may go")
        ends = admission.admitted(files.compiled, chosen.candidate.run_args, self.model.inputs, self.sets, self.limits)
        self.progress("proving one sample and verifying it in the EVM and by ezkl")
        proved = self._prove_one(chosen)
        certificate = self._certify(chosen, compared, ends)
        cost = self._cost(chosen, proved)
        run_args = chosen.candidate.run_args
        onto = registry.publish(store, chosen.compiled, run_args, self.model.source, chosen.srs_file, is_open=is_open)
        other = with_other_inputs(self.model, run_args, folder, self.limits)
        return Built(onto, chosen.compiled, run_args, certificate, cost, found, given, other)

    def _faithful(
        self, given: Baseline | None, folder: Path, cache: Path | None
    ) -> tuple[Found, _Chosen, compare.Compared]:
        """The first goal that is reached, with the first margin at which held-out samples meet it too."""
        refusal: CircuitError | None = None
        kept = self._cache(cache)
        for turn, goal in enumerate(self._goals(given)):
            for margin in _MARGINS:
                try:
                    found = self._search(goal._replace(error=goal.error * margin), folder, kept)
                except CircuitError as error:
                    if error.code not in _TOO_MUCH_ASKED:
                        raise
                    refusal = refusal or error
                    break
                chosen = self._compile(found, folder / f"goal-{turn}-{margin}")
                manifest, files = chosen.compiled.manifest, chosen.compiled.keys.files
                self.progress(f"comparing with onnxruntime on {len(self.sets.held_out)} samples the search never saw")
                try:
                    compared = compare.compare(manifest, files.compiled, self.floats, self.sets)
                except CircuitError as error:
                    if error.code != "C-unfaithful":
                        raise
                    refusal = error  # outputs may lie so near to each other that only a finer scale ranks them
                    continue
                if compared.held_out.ties:
                    self.progress(f"{compared.held_out.ties} of them are ties of the model's own, ranked otherwise")
                if goal.met_by(compared.held_out) or not self.wishes.shares:
                    return found, chosen, compared
                refusal = _short_of(goal, compared.held_out)
        raise refusal or CircuitError("C-unfaithful", "no goal was tried")

    def _asks_ezkl(self) -> bool:
        return not self.wishes.shares or self.wishes.compare_ezkl

    def _goals(self, given: Baseline | None) -> list[Goal]:
        """On the samples of the search: the owner's shares of the outputs' span, or what EZKL's own knobs reach."""
        drawn = (*self.sets.extremes, *self.sets.random) or self.sets.tuning
        elsewhere = _MARGINS[0] * max(fidelity.MAX_SHARE * self._span(drawn), 1e-6)
        if not self.wishes.shares and given is not None:
            return [Goal(given.fidelity.max_error, given.fidelity.ranked, elsewhere)]
        span = self._span(self.sets.tuning)
        return [Goal(max(share * span, 1e-6), 1.0, elsewhere) for share in self.wishes.shares]

    def _span(self, samples: Sequence[Sample]) -> float:
        outputs = [np.concatenate([each.reshape(-1) for each in self.floats.run(one)]) for one in samples]
        every = np.stack(outputs).astype(np.float64)
        return float(every.max() - every.min()) or float(np.abs(every).max())

    def _cache(self, cache: Path | None) -> SearchCache:
        if cache is None:
            return SearchCache()
        every = (*self.sets.tuning, *self.sets.extremes, *self.sets.random)
        return SearchCache(cache / f"{cache_key(self.model, self.wishes.inputs, every, EZKL_VERSION)}.jsonl")

    def _search(self, goal: Goal, folder: Path, cache: SearchCache) -> Found:
        extremes = (*self.sets.extremes, *self.sets.random)
        wanted = [self.floats.run(sample) for sample in (*self.sets.tuning, *extremes)]
        with Session(self.limits) as session:
            probes = Probes(
                self.model,
                self.wishes.inputs,
                samples=self.sets.tuning,
                extremes=extremes,
                floats=wanted,
                folder=folder,
                session=session,
                cache=cache,
            )
            found = Search(
                probes,
                self.machine,
                visibility=self.wishes.inputs,
                goal=goal,
                target=self.wishes.target,
                max_seconds=self.wishes.max_seconds,
                progress=self.progress,
            ).run()
        best = found.candidates[0]
        why = f", {found.stopped}" if found.stopped else ""
        self.progress(
            f"searched {found.probes} scales ({found.cached} answers from the cache{why}): "
            f"best {describe(best.run_args)}, {best.seconds(self.machine):.2f} s predicted"
        )
        return found

    def _compile(self, found: Found, folder: Path) -> _Chosen:
        """The first candidate, cheapest first, whose true code and proof a chain and the escrow would take."""
        folder.mkdir(mode=0o700)
        refusal: CircuitError | None = None
        waiting = self._measured(found, folder)
        for turn in range(MAX_ATTEMPTS):
            if not waiting:
                break
            candidate = waiting.pop(0)
            run_args = candidate.run_args
            self.progress(f"keys and code at {describe(run_args)}")
            work = folder / f"candidate-{turn}"
            work.mkdir(mode=0o700)
            srs_file = srs.srs_for(self.srs_store, run_args.logrows)
            keys = compiling.make_keys(self.model, run_args, srs_file, work, self.limits)
            compiled = compiling.finish(self.model, run_args, srs_file, keys, self.limits)
            try:
                if self.wishes.target == "closable":
                    compiling.check_closable(compiled.manifest, keys.code)
            except CircuitError as error:
                refusal = error
                # code and proof grow together: of what is left only a shorter proof may do
                waiting = [each for each in waiting if each.layout.proof_bytes < candidate.layout.proof_bytes]
                continue
            return _Chosen(compiled, candidate, srs_file)
        raise refusal or CircuitError("C-closable", "there is no layout to try")

    def _measured(self, found: Found, folder: Path) -> list[Candidate]:
        """The candidates with those near the best in the order of a proof's true seconds."""
        if found.stopped:
            return list(found.candidates)

        def prove(candidate: Candidate, work: Path) -> float:
            sample = self.sets.tuning[0]
            return time_proofs(self.model, candidate.run_args, sample, self.srs_store, work, self.limits).seconds

        return in_true_order(found.candidates, self.machine, prove, folder, self.progress)

    def _prove_one(self, chosen: _Chosen) -> Outcome:
        """Prove a real sample; the code, with the manifest's own gas, and ezkl.verify must both accept it."""
        compiled, files = chosen.compiled, chosen.compiled.keys.files
        witness, proof = files.folder / "one.witness", files.folder / "one.proof"
        written = sample_input(self.sets.held_out[0], compiled.manifest.visibility)
        made = ezkl_runner.require([ezkl_runner.gen_witness(written, files.compiled, witness)])[0]
        done = ezkl_runner.prove(
            witness=witness,
            compiled=files.compiled,
            pk=files.pk,
            srs=chosen.srs_file,
            proof=proof,
            limits=self.limits,
        )
        gas = compiling.measure_gas(compiled.keys.code, compiling.read_proof(proof), ezkl_runner.read_witness(made))
        if gas != compiled.manifest.evm.gas:
            expected = str(compiled.manifest.evm.gas)
            raise CircuitError("C-gas", "two proofs cost different gas", expected=expected, found=str(gas))
        ezkl_runner.verify(proof=proof, settings=files.settings, vk=files.vk, srs=files.srs_k1, limits=self.limits)
        return done

    def _certify(self, chosen: _Chosen, compared: compare.Compared, ends: Sequence[Witness]) -> FidelityCertificate:
        manifest = chosen.compiled.manifest
        sizes = [tensor.size for tensor in self.model.inputs]
        seen = [
            tuple(tensor[:size] for tensor, size in zip(witness.inputs, sizes, strict=False))
            for witness in (*compared.witnesses, *ends)
        ]
        needed = chosen.candidate.bits - HEADROOM_BITS
        return fidelity.certify(
            circuit_id=manifest.circuit_id,
            fidelity=compared.held_out,
            samples=self.sets.held_out,
            domain=fidelity.value_ranges([spec.name for spec in manifest.inputs], seen),
            outputs=fidelity.value_ranges(
                [spec.name for spec in manifest.outputs], [witness.outputs for witness in compared.witnesses]
            ),
            headroom_bits=max(0, (int(manifest.value_bound) + 1).bit_length() - 1 - needed),
            rewrites=self.model.rewrites,
            acceptance=compared.acceptance,
        )

    def _cost(self, chosen: _Chosen, proved: Outcome) -> CostRecord:
        compiled, shape = chosen.compiled, chosen.candidate.layout
        return CostRecord(
            circuit_id=compiled.manifest.circuit_id,
            machine=Text(f"{this_machine()}, predicted by {self.machine.label}"),
            predicted=Cost(
                prove_seconds=Measure.of(self.machine.seconds(shape), 3),
                memory_bytes=Count(self.machine.memory_of(shape)),
                pk_bytes=Count(shape.pk_bytes),
                gas=Count(shape.gas),
                code_bytes=Count(shape.code_bytes),
            ),
            measured=Cost(
                prove_seconds=Measure.of(proved.seconds, 3),
                memory_bytes=Count(proved.peak_bytes),
                pk_bytes=Count(compiled.keys.files.pk.stat().st_size),
                gas=compiled.manifest.evm.gas,
                code_bytes=Count(len(compiled.keys.code)),
            ),
        )


def _short_of(goal: Goal, found: Fidelity) -> CircuitError:
    return CircuitError(
        "C-unfaithful",
        "the circuit is less faithful on samples that the search never saw than was asked",
        where="held-out samples",
        expected=f"error at most {goal.error:.3g}, equal argmax {goal.agreement:.1%}",
        found=f"error {found.max_error:.3g}, equal argmax {found.ranked:.1%}",
        do="Give more samples, or ask for less: --fidelity.",
    )
