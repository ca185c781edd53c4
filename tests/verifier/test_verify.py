"""Verification beside the vectors: circuits that would hang or break the verifier get a verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.vectors.cases import read_base, with_terms
from verifier.circuit import Circuit
from verifier.keccak import keccak256
from verifier.policy import ANY, CircuitRule
from verifier.statement.scalars import Count
from verifier.statement.terms import ProofRule
from verifier.verify import MAX_GAS, check_terms, verify

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
ENDLESS = bytes.fromhex("5b600056")
"""JUMPDEST, PUSH1 0, JUMP: it runs until its gas is used up."""


@pytest.mark.parametrize("gas", [MAX_GAS + 1, 2**50, 2**53 - 1])
def test_code_that_never_ends_is_not_run_for_years(gas: int) -> None:
    """Under a policy that takes unattested circuits, their maker chooses code and gas; 2^53 broke the sums too."""
    manifest = replace(BASE.circuit.manifest, evm=replace(BASE.circuit.manifest.evm, gas=Count(gas)))
    manifest = replace(manifest, evm=replace(manifest.evm, code_hash=keccak256(ENDLESS)))
    circuit = Circuit(manifest=manifest, code=ENDLESS)
    policy = replace(BASE.policy, circuits={ANY: CircuitRule(assurance="unattested")})
    cap = Count(min(-(-gas * 5 // 40_000) * 10_000, 2**53 - 1))
    rule = replace(BASE.job.terms.rule, code_hash=circuit.code_hash, gas_cap=cap)
    bundle = with_terms(replace(BASE.job, circuit_id=circuit.circuit_id), circuit_id=circuit.circuit_id, rule=rule)
    verdict = verify(bundle, circuit, policy)
    assert (verdict.outcome, verdict.code) == ("INVALID", "V2-gas")
    terms = check_terms(bundle.terms, bundle.domain, circuit, policy)
    assert (terms.outcome, terms.code) == ("INVALID", "V2-gas")


def test_the_greatest_gas_is_the_escrows() -> None:
    evm = replace(BASE.circuit.manifest.evm, gas=Count(MAX_GAS))
    rule = ProofRule.derive(replace(BASE.circuit.manifest, evm=evm), BASE.job.terms.rule.verifier)
    assert rule.gas_cap == 16_000_000
