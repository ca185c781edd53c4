"""The ten invariants of the escrow against every order of calls, hostile tokens and time; planted bugs are found.

The short form runs always; OPGATE_LONG=1 takes 10,000 steps and plants every bug.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contracts.machine import EscrowMachine
from tests.contracts.planted import BUGS, FIVE, Bug, planted
from tests.contracts.revm import Built, RevmWorld

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

LONG = bool(os.environ.get("OPGATE_LONG"))
STEPS = 40
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def machine_on(zoo: dict[str, Built], parties: dict[str, LocalAccount], bug: Bug | None = None) -> type[EscrowMachine]:
    """The machine, each of whose runs has a fresh escrow, with a bug in it where one is given."""
    escrow = planted(bug)

    def world() -> RevmWorld:
        return RevmWorld(parties, token=zoo["hostile_token"], escrow=escrow, wallet=zoo["wallet"])

    return type("Machine", (EscrowMachine,), {"world": staticmethod(world), "steps": 0, "outcomes": {}})


def run(machine: type[EscrowMachine], examples: int, *phases: Phase) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=False,
            phases=phases or (Phase.generate, Phase.shrink),
            suppress_health_check=QUIET,
        ),
    )


def test_the_invariants_hold(zoo: dict[str, Built], parties: dict[str, LocalAccount]) -> None:
    """Each verb must have succeeded and been refused, or the run showed less than it says."""
    machine = machine_on(zoo, parties)
    run(machine, 10_000 // STEPS + 60 if LONG else 60)
    assert machine.steps >= (10_000 if LONG else 1_000)
    verbs = {"fund", "fund_with_permit2", "fund_many", "release", "release_many", "release_by_proof"}
    verbs |= {"decline", "reclaim", "cancel"}
    missing = {f"{verb} {end}" for verb in verbs for end in ("done", "refused")} - set(machine.outcomes)
    assert not missing, sorted(machine.outcomes.items())


@pytest.mark.parametrize("bug", BUGS if LONG else FIVE[:2], ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug, zoo: dict[str, Built], parties: dict[str, LocalAccount]) -> None:
    machine = machine_on(zoo, parties, bug)
    with pytest.raises(AssertionError) as found:
        run(machine, 1_000, Phase.generate)
    print(f"{bug.name}: after {machine.steps} steps: {str(found.value).splitlines()[0]}")  # noqa: T201 - shown by pytest -s
