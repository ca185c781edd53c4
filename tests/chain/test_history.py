"""A job's history as the chain tells it: each event on one line, with block, hash, gas and cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.chain.conftest import AMOUNT, Node
from verifier.payer.history import history, whole
from verifier.statement.terms import JobTerms


def steps_of(node: Node, terms: JobTerms) -> list[Any]:
    """The steps as a payer with only chain and escrow sees them."""
    payer: Any = SimpleNamespace(escrow=node.client("payer"), chain=node.chain)
    job: Any = SimpleNamespace(job_id=node.job_id(terms), terms=SimpleNamespace(terms=terms))
    return history(payer, job)


def test_funding_and_both_closes_are_one_line_each(node: Node) -> None:
    by_signature, by_proof, declined = node.terms(), node.terms(), node.terms()
    for terms in (by_signature, by_proof, declined):
        node.fund(terms)
    provider = node.client("provider")
    closes = (
        ("released by signature", by_signature, provider.release(by_signature, node.signed_release(by_signature))),
        ("released by proof", by_proof, provider.release_by_proof(by_proof, node.calldata(by_proof))),
        ("declined", declined, provider.decline(declined)),
    )
    for what, terms, mined in closes:
        assert mined is not None
        funded, closed = steps_of(node, terms)
        assert (funded.what, funded.opg_wei) == ("funded", AMOUNT)
        assert (closed.what, closed.block, closed.gas) == (what, mined.block_number, mined.gas_used)
        assert closed.transaction == str(mined.transaction_hash)
        assert closed.fee_wei == mined.gas_used * mined.gas_price == mined.fee
        line = closed.line()
        for shown in (what, str(mined.block_number), str(mined.transaction_hash), f"{mined.gas_used:,} gas", "5 OPG"):
            assert shown in line
        assert f"{whole(mined.fee)} ETH" in line
        assert "\n" not in line
        assert closed.to_json()["opg"] == "5"


def test_terms_that_were_never_funded_have_no_history_and_cancelled_ones_cost_no_opg(node: Node) -> None:
    terms = node.terms()
    assert steps_of(node, terms) == []
    node.client("payer").cancel(terms)
    (step,) = steps_of(node, terms)
    assert (step.what, step.opg_wei) == ("cancelled", 0)


@pytest.mark.parametrize(
    ("wei", "text"),
    [
        (0, "0"),
        (1, "0.000000000000000001"),
        (10**18, "1"),
        (15 * 10**17, "1.5"),
        (10**27 + 10, "1000000000.00000000000000001"),
    ],
)
def test_amounts_are_exact(wei: int, text: str) -> None:
    assert whole(wei) == text
