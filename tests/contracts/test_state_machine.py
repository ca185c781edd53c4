"""The ten invariants of the escrow against every order of calls, hostile tokens and time; planted bugs are found.

The short form runs always; OPGATE_LONG=1 takes 10,000 steps and plants every bug.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contracts.conftest import World, digest
from tests.contracts.machine import EscrowMachine
from tests.contracts.planted import BUGS, FIVE, Bug, planted
from tests.contracts.revm import Built, RevmWorld, shipped

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

LONG = bool(os.environ.get("OPGATE_LONG"))
STEPS = 40
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def machine_on(zoo: dict[str, Built], parties: dict[str, LocalAccount], bug: Bug | None = None) -> type[EscrowMachine]:
    """The machine, each of whose runs has a fresh escrow, with a bug in it where one is given."""
    escrow = shipped("escrow") if bug is None else planted(bug)

    def world() -> RevmWorld:
        return RevmWorld(parties, token=zoo["hostile_token"], escrow=escrow, wallet=zoo["wallet"])

    return type("Machine", (EscrowMachine,), {"world": staticmethod(world), "steps": 0, "outcomes": {}, "found": []})


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
            report_multiple_bugs=False,
            phases=phases or (Phase.generate, Phase.shrink),
            suppress_health_check=QUIET,
        ),
    )


def test_the_invariants_hold(zoo: dict[str, Built], parties: dict[str, LocalAccount]) -> None:
    """Each verb must have succeeded and been refused, or the run showed less than it says.

    Hypothesis also draws constants of the modules that are loaded, so other tests in the process change the orders,
    and the first sixty may lack one of the rare successes.
    """
    verbs = {"fund", "fund_with_permit", "fund_with_permit2", "fund_many", "decline", "reclaim", "cancel"}
    verbs |= {"release", "release_many", "release_by_proof"}
    wanted = {f"{verb} {end}" for verb in verbs for end in ("done", "refused")}
    for turns in (1, 2, 4, 8):
        machine = machine_on(zoo, parties)
        run(machine, turns * (10_000 // STEPS + 60 if LONG else 60))
        calls = sum(machine.outcomes.values())
        print(f"{machine.steps} steps, {calls} calls judged: {sorted(machine.outcomes.items())}")  # noqa: T201 - pytest -s
        assert machine.steps >= (10_000 if LONG else 1_000)
        missing = wanted - set(machine.outcomes)
        if not missing:
            break
    assert not missing, sorted(machine.outcomes.items())


@pytest.mark.parametrize("bug", BUGS if LONG else FIVE, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug, zoo: dict[str, Built], parties: dict[str, LocalAccount]) -> None:
    machine = machine_on(zoo, parties, bug)
    with pytest.raises(AssertionError):
        run(machine, 1_000, Phase.generate)
    what, steps = machine.found  # empty where something else than the model objected
    print(f"{bug.name}: after {steps} steps: {what}")  # noqa: T201 - shown by pytest -s


def test_what_the_machine_encodes_quickly_is_what_eth_account_encodes(
    zoo: dict[str, Built], parties: dict[str, LocalAccount]
) -> None:
    """The oracle stays eth-account's and eth-abi's; the machine only has no time for them in each step."""
    world = RevmWorld(parties, token=zoo["hostile_token"], escrow=shipped("escrow"), wallet=zoo["wallet"])
    terms = world.terms()
    changes: list[dict[str, Any]] = [{}, {"spender": world.stranger}, {"deadline": 5}, {"domain": {"chainId": 1}}]
    for change in changes:
        assert digest(world.typed_permit2(terms, 5, **change)) == digest(World.typed_permit2(world, terms, 5, **change))
    message = world.typed("Acceptance", {"job_id": world.job_id(terms)})
    assert digest(message) == digest(World.typed(world, "Acceptance", {"job_id": World.job_id(world, terms)}))
    for at in range(32):
        message = world.typed("Acceptance", {"job_id": bytes([at]) * 32})
        assert world.signature("payer", message) == World.signature(world, "payer", message)
    word = b"\x1a" * 32
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("fund", (b"abc", b"x" * 65)),
        ("fund_with_permit", (b"", b"1", 5, 27, word, word)),
        ("fund_with_permit2", (b"12", 7, b"x" * 70)),
        ("release", (word, b"1" * 64)),
        ("release_item", (word, b"q", world.stranger)),
        ("release_by_proof", (world.call(terms),)),
        ("decline", ()),
    ]
    for verb, arguments in calls:
        assert world.payload(verb, terms, *arguments) == World.payload(world, verb, terms, *arguments), verb
