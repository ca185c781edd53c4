"""The picture of a search: seconds of a proof against memory, gas and error; EZKL's own choice is a point in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.tuner.cost import Machine
from circuits.tuner.search import describe
from verifier.errors import CircuitError
from verifier.statement.manifest import MAX_CODE_BYTES

if TYPE_CHECKING:
    from circuits.tuner.baseline import Baseline
    from circuits.tuner.search import Candidate

_DOTS = 150


def front(candidates: Sequence[Candidate], machine: Machine) -> list[Candidate]:
    """The candidates that no other one beats in seconds, memory and gas at once, fastest first."""
    kept: list[Candidate] = []
    for each in sorted(candidates, key=lambda one: one.seconds(machine)):
        costs = (machine.memory_of(each.layout), each.layout.gas)
        if not any(machine.memory_of(other.layout) <= costs[0] and other.layout.gas <= costs[1] for other in kept):
            kept.append(each)
    return kept


def draw(
    path: Path, candidates: Sequence[Candidate], chosen: Candidate, given: Baseline | None, machine: Machine
) -> None:
    """Write the picture as PNG or whatever the path's ending says.

    Raises:
        CircuitError: C-plot where matplotlib is missing or does not write it.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - half a second, only where a picture is asked for

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415 - the same
    except ImportError as error:
        raise CircuitError("C-plot", "matplotlib is not installed", do="Run: pip install matplotlib") from error
    best = front(candidates, machine)
    figure: Any
    axes: Any
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    views: tuple[tuple[str, Callable[[Candidate], float]], ...] = (
        ("peak memory, MB", lambda each: machine.memory_of(each.layout) / 1e6),
        ("gas of a verification", lambda each: each.layout.gas),
        ("largest error on the search's samples", lambda each: each.fidelity.max_error),
    )
    for axis, (title, value) in zip(axes, views, strict=True):
        shown = [*candidates[:_DOTS], *best]
        axis.scatter(
            [each.seconds(machine) for each in shown], [value(each) for each in shown], s=8, c="#9bb", label="tried"
        )
        axis.plot(
            [each.seconds(machine) for each in best], [value(each) for each in best], "o", c="#258", ms=4, label="front"
        )
        axis.plot(chosen.seconds(machine), value(chosen), "*", c="#c30", ms=14, label=describe(chosen.run_args))
        axis.set_xlabel("seconds of a proof, predicted")
        axis.set_ylabel(title)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter("")
        axis.xaxis.set_major_formatter("{x:g}")
    if given is not None:
        if given.layout is not None:
            seconds = machine.seconds(given.layout)
            points = (machine.memory_of(given.layout) / 1e6, given.layout.gas, given.fidelity.max_error)
            for axis, point in zip(axes, points, strict=True):
                axis.plot(seconds, point, "s", c="#000", ms=8, label=f"EZKL's own, k={given.logrows}")
        axes[2].set_title(f"EZKL's own error: {given.fidelity.max_error:.2g}", fontsize=9)
    axes[1].set_title(f"all verifiers within {MAX_CODE_BYTES} bytes of code unless off chain", fontsize=9)
    axes[0].legend(fontsize=8)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise CircuitError("C-plot", "the picture cannot be written", where=str(path), found=str(error)) from error
    finally:
        plt.close(figure)
