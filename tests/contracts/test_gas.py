"""The gas of every verb is exactly the snapshot's, and the goals hold in it.

A change of a figure is a change of this file: ``python -m tests.contracts.gas`` writes it anew, and the diff is judged.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contracts.anvil import BASE, AnvilWorld, anvil
from tests.contracts.conftest import NOW
from tests.contracts.gas import SNAPSHOT, measure, release_by_parts

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

PAGE = Path(__file__).parents[2] / "docs" / "gas.md"
LOG_GAS = 8 * 32
"""What one instance costs as log data (EVM, Yellow Paper G_logdata)."""


@pytest.fixture(scope="module")
def snapshot() -> dict[str, int]:
    found: dict[str, int] = json.loads(SNAPSHOT.read_text())
    return found


def above_the_verifier(snapshot: dict[str, int], count: int) -> int:
    close, alone = (f"release_by_proof, {count} instances", f"verifier alone, {count} instances")
    return snapshot[close] - snapshot[alone]


@pytest.mark.enable_socket
def test_the_gas_is_exactly_the_snapshots(parties: dict[str, LocalAccount], snapshot: dict[str, int]) -> None:
    with anvil() as port:
        assert measure(AnvilWorld(port, parties)) == snapshot


def test_the_cooperative_close_is_at_most_60_000(snapshot: dict[str, int]) -> None:
    assert snapshot["release"] <= 60_000


def test_the_unilateral_close_adds_at_most_65_000_at_18_instances(snapshot: dict[str, int]) -> None:
    assert above_the_verifier(snapshot, 18) <= 65_000


def test_at_800_instances_it_adds_the_log_and_little_more(snapshot: dict[str, int]) -> None:
    """The goal of 85,000 cannot hold with logged instances, which are 204,800 by themselves: see docs/adr."""
    assert above_the_verifier(snapshot, 800) <= 93_000 + 800 * LOG_GAS


def test_a_job_of_a_batch_costs_less_the_larger_the_batch(snapshot: dict[str, int]) -> None:
    """And a release less than a transfer of the token by itself."""
    for verb, single in (("fund_many", "fund, relayed"), ("release_many", "release")):
        each = [snapshot[single], *(snapshot[f"{verb}, {size} jobs"] / size for size in (8, 64))]
        assert each == sorted(each, reverse=True)
    assert snapshot["release_many, 64 jobs"] / 64 < snapshot["token transfer"]


def test_the_page_says_what_was_measured(snapshot: dict[str, int]) -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([0-9,]+) \| .*\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name: int(gas.replace(",", "")) for name, gas in rows.items()} == snapshot


@pytest.mark.enable_socket
def test_the_page_says_where_the_gas_of_a_release_goes(
    parties: dict[str, LocalAccount], snapshot: dict[str, int]
) -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Where the gas")[1]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([0-9,]+) \|$", section, re.MULTILINE))
    with anvil(BASE, NOW, "--steps-tracing") as port:
        parts = release_by_parts(AnvilWorld(port, parties))
    assert {name: int(gas.replace(",", "")) for name, gas in rows.items()} == parts
    assert sum(parts.values()) == snapshot["release"]
