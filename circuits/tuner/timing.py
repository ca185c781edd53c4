"""Times true proofs: one of a circuit, and candidates of a search that predictions cannot tell apart.

The one place where a proof is timed; `bench` fits its constants on what this gives.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from circuits import compile as compiling
from circuits import ezkl_runner, srs
from circuits.compile import Keys
from circuits.ezkl_runner import Limits, Outcome
from circuits.graph import sample_input
from circuits.model import Model
from circuits.run_arguments import RunArguments
from circuits.samples import Sample
from circuits.tuner.cost import Machine
from circuits.tuner.search import Candidate, describe
from verifier.statement.scalars import Text

MEASURED = 3
SLOW = 2.0
"""Predicted seconds beyond which only two candidates are proved: with their keys each takes thrice as long."""
MEASURE_BETWEEN = (0.25, 6.0)
"""Predicted seconds between which near candidates are proved once: below it is noise, above it costs too much."""
NEAR = 1.2
"""Candidates predicted to cost at most this many times the best are near it: predictions err by 10 %."""


class Proofs(NamedTuple):
    """A circuit's keys, made without code, and what each proof with them cost."""

    keys: Keys
    outcomes: tuple[Outcome, ...]

    @property
    def seconds(self) -> float:
        """Of the fastest proof."""
        return min(each.seconds for each in self.outcomes)

    @property
    def peak_bytes(self) -> int:
        """Of the proof that took most memory."""
        return max(each.peak_bytes for each in self.outcomes)


def time_proofs(  # noqa: PLR0913, PLR0917 - a circuit's sources, where it goes, and how often
    model: Model,
    run_args: RunArguments,
    sample: Sample,
    srs_store: Path,
    folder: Path,
    limits: Limits,
    *,
    turns: int = 1,
) -> Proofs:
    """Make a circuit's keys, without any code or manifest, and prove a sample so many times. The folder must be new."""
    folder.mkdir(mode=0o700)
    srs_file = srs.srs_for(srs_store, run_args.logrows)
    keys = compiling.make_keys(model, run_args, srs_file, folder, limits, with_code=False)
    files, witness = keys.files, folder / "timing.witness"
    written = sample_input(sample, run_args.visibility)
    ezkl_runner.require([ezkl_runner.gen_witness(written, files.compiled, witness)], limits)
    outcomes = [
        ezkl_runner.prove(
            witness=witness,
            compiled=files.compiled,
            pk=files.pk,
            srs=srs_file,
            proof=folder / "timing.proof",
            limits=limits,
        )
        for _ in range(turns)
    ]
    return Proofs(keys, tuple(outcomes))


def in_true_order(
    candidates: Sequence[Candidate],
    machine: Machine,
    prove: Callable[[Candidate, Path], float],
    folder: Path,
    progress: Callable[[str], None],
) -> list[Candidate]:
    """The candidates, those near the best in the order of a proof's true seconds.

    `prove` gives the seconds of one proof of a candidate; its files go into the new folder that it is told.
    """
    first = candidates[0].seconds(machine)
    if not MEASURE_BETWEEN[0] <= first <= MEASURE_BETWEEN[1]:
        return list(candidates)
    timed = []
    for turn, candidate in enumerate(near(candidates, machine)):
        progress(f"timing a proof at {describe(candidate.run_args)}")
        timed.append((prove(candidate, folder / f"timing-{turn}"), turn, candidate))
    chosen = [candidate for _, _, candidate in sorted(timed)]
    return [*chosen, *(each for each in candidates if each not in chosen)]


def near(candidates: Sequence[Candidate], machine: Machine) -> list[Candidate]:
    """The few candidates near the best that differ in k, columns or legs: those that differ in scales cost the same."""
    most = NEAR * candidates[0].seconds(machine)
    found: dict[tuple[int, int, int], Candidate] = {}
    for each in candidates:
        if each.seconds(machine) <= most:
            knobs = (each.run_args.logrows, each.run_args.num_inner_cols, each.run_args.decomp_legs)
            found.setdefault(knobs, each)
    return list(found.values())[: MEASURED if candidates[0].seconds(machine) <= SLOW else MEASURED - 1]


def this_machine() -> Text:
    """The kind of machine in words: system, architecture and cores; no name of it."""
    return Text(f"{platform.system()} {platform.machine()}, {ezkl_runner.usable_cores()} cores")
