"""From a closing transaction to the bundle that it shows, whoever closed the job and through whatever contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vectors.cases import read_base
from verifier.chain_evidence import TOPICS, Checked, Log
from verifier.errors import VerifierError
from verifier.instances import calldata, claimed_words
from verifier.keccak import keccak256
from verifier.payment import closing
from verifier.payment.closing import bundle_from_chain
from verifier.statement.bundle import ProofBundle
from verifier.statement.evidence import ChainEvidence
from verifier.statement.scalars import Address, Bytes32, Count, HexBytes, Text

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
JOB = BASE.job
WORDS = claimed_words(JOB)
CALL = calldata(JOB.proof, WORDS)
OTHER_CALL = calldata(BASE.other_job.proof, claimed_words(BASE.other_job))
EVIDENCE = ChainEvidence(
    chain_id=JOB.domain.chain_id,
    transaction=HexBytes(b"\x01"),
    receipt=HexBytes(b"\x01"),
    receipt_proof=(HexBytes(b"\x01"),),
    index=Count(0),
    header=HexBytes(b"\x01"),
    source=Text("test"),
)
BEFORE = b"\xaa" * 1000


def shown(monkeypatch: pytest.MonkeyPatch, transaction_input: bytes, *, instances: bytes = WORDS) -> ProofBundle:
    """The bundle of a transaction with this input that released the job for these instances."""
    released = Log(JOB.domain.verifying_contract, (TOPICS["Released"], JOB.job_id), keccak256(instances))
    checked = Checked(
        chain_id=JOB.domain.chain_id,
        transaction_hash=Bytes32(b"\x01" * 32),
        transaction_to=Address(b"\x02" * 20),
        transaction_input=transaction_input,
        block_hash=Bytes32(b"\x03" * 32),
        block_number=1,
        timestamp=1,
        logs=(released,),
    )
    monkeypatch.setattr(closing, "check_evidence", lambda _: checked)
    return bundle_from_chain(
        EVIDENCE, domain=JOB.domain, terms=JOB.terms, manifest=BASE.circuit.manifest, acceptance=JOB.acceptance
    )


@pytest.mark.parametrize(
    "transaction_input",
    [
        BEFORE + CALL,
        BEFORE + CALL + b"\0" * 28,
        BEFORE + CALL + OTHER_CALL,
        OTHER_CALL + CALL + BEFORE,
        CALL + CALL[: len(CALL) // 2],
        CALL[:100] + CALL,
    ],
    ids=["direct", "padded", "another_after", "another_before", "cut_after", "cut_before"],
)
def test_the_call_that_was_released_is_found(monkeypatch: pytest.MonkeyPatch, transaction_input: bytes) -> None:
    """The trap: a stranger closes through a contract of theirs, with another call's bytes behind the real one."""
    bundle = shown(monkeypatch, transaction_input)
    assert (bundle.origin, bundle.inputs, bundle.outputs, bundle.proof) == ("chain", JOB.inputs, JOB.outputs, JOB.proof)
    assert bundle.job_id == JOB.job_id


@pytest.mark.parametrize(
    "transaction_input",
    [b"", BEFORE, CALL[:-1], OTHER_CALL, CALL[:4] + b"\xff" * 32 + CALL[36:], CALL[:68] + b"\xff" * 32 + CALL[100:]],
    ids=["empty", "hidden", "cut", "another", "head", "length"],
)
def test_a_transaction_that_hides_the_call_shows_no_bundle(
    monkeypatch: pytest.MonkeyPatch, transaction_input: bytes
) -> None:
    with pytest.raises(VerifierError, match=r"^V3-calldata"):
        shown(monkeypatch, transaction_input)


def test_instances_that_were_not_released_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VerifierError, match=r"^V3-calldata"):
        shown(monkeypatch, CALL, instances=claimed_words(BASE.other_job))
