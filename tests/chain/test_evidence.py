"""Evidence of a close: fetched from both nodes, checked without them, and refused after any tampering."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from functools import partial

import msgspec
import pytest
import rlp  # type: ignore[import-untyped]  # it has no types

from tests.chain.conftest import Node
from verifier.chain_evidence import SIGNATURES, check_event, check_evidence, check_released
from verifier.errors import OpgateError, UndecidedError, VerifierError
from verifier.keccak import keccak256
from verifier.payment import artifacts
from verifier.payment.evidence import fetch_evidence
from verifier.payment.keys import Transaction
from verifier.statement import canonical
from verifier.statement.evidence import ChainEvidence
from verifier.statement.scalars import Bytes32, Count, HexBytes
from verifier.statement.terms import JobTerms


@pytest.fixture(scope="module")
def closed(node: Node) -> tuple[JobTerms, ChainEvidence]:
    """A job closed by proof, and the evidence of it."""
    terms = node.terms()
    node.fund(terms)
    mined = node.client("provider").release_by_proof(terms, node.calldata(terms))
    assert mined is not None
    return terms, fetch_evidence(node.chain, mined.transaction_hash)


def test_evidence_round_trip(node: Node, closed: tuple[JobTerms, ChainEvidence]) -> None:
    terms, evidence = closed
    again = canonical.decode(ChainEvidence, canonical.encode(evidence), where="evidence")
    assert again == evidence
    call, domain = node.calldata(terms), node.client("payer").domain
    instances_hash = keccak256(call[-13 * 32 :])
    checked = check_released(again, domain, node.job_id(terms), instances_hash)
    closing = node.client("payer").closing(node.job_id(terms))
    assert closing is not None
    assert checked.transaction_hash == closing.transaction_hash
    assert checked.transaction_to == node.escrow
    assert call in checked.transaction_input
    mined = node.chain.mined(checked.transaction_hash)
    assert mined is not None
    assert (checked.block_hash, checked.block_number) == (mined.block_hash, mined.block_number)
    assert check_event(again, "InstancesShown", domain, node.job_id(terms)) == checked

    for wrong in (
        (domain, node.job_id(terms), Bytes32(b"\x01" * 32)),
        (domain, Bytes32(b"\x01" * 32), instances_hash),
        (msgspec.structs.replace(domain, chain_id=Count(8453)), node.job_id(terms), instances_hash),
        (msgspec.structs.replace(domain, verifying_contract=node.token), node.job_id(terms), instances_hash),
    ):
        with pytest.raises(VerifierError, match=r"^V3-evidence-released"):
            check_released(evidence, *wrong)
    with pytest.raises(VerifierError, match=r"^V3-evidence-event"):
        check_event(evidence, "Reclaimed", domain, node.job_id(terms))


def test_every_flipped_byte_is_refused_or_changes_the_block(closed: tuple[JobTerms, ChainEvidence]) -> None:
    """Only the header may differ and still hold together, and then it has another hash."""
    _, evidence = closed
    block_hash = check_evidence(evidence).block_hash

    def flips(raw: bytes, step: int) -> list[HexBytes]:
        return [HexBytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]) for at in range(0, len(raw), step)]

    for name in ("transaction", "receipt"):
        for bad in flips(getattr(evidence, name), 7):
            with pytest.raises(VerifierError, match=rf"^V3-evidence-{name}"):
                check_evidence(msgspec.structs.replace(evidence, **{name: bad}))
    for place, node_bytes in enumerate(evidence.receipt_proof):
        for bad in flips(node_bytes, 11):
            nodes = (*evidence.receipt_proof[:place], bad, *evidence.receipt_proof[place + 1 :])
            with pytest.raises(VerifierError, match=r"^V3-evidence-"):
                check_evidence(msgspec.structs.replace(evidence, receipt_proof=nodes))
    for bad in flips(evidence.header, 3):
        with suppress(VerifierError):
            assert check_evidence(msgspec.structs.replace(evidence, header=bad)).block_hash != block_hash


def test_each_tampering_has_its_code(closed: tuple[JobTerms, ChainEvidence]) -> None:
    """The traps: another chain's number, another index, nodes that prove nothing, trailing bytes, deep nesting."""
    _, evidence = closed
    proof, header = evidence.receipt_proof, evidence.header
    deep = HexBytes(b"\xc0")
    for _ in range(3000):
        deep = HexBytes(rlp.codec.encode_raw([deep])) if len(deep) < 50 else HexBytes(b"\xf9" + b"\xff\xff" + deep)
    cases: dict[str, tuple[str, object]] = {
        "chain": ("chain_id", Count(evidence.chain_id + 1)),
        "receipt": ("index", Count(evidence.index + 1)),
        "proof": ("receipt_proof", ()),
        "header": ("header", HexBytes(header + b"\0")),
    }
    for word, (field, value) in cases.items():
        with pytest.raises(VerifierError, match=rf"^V3-evidence-{word}:"):
            check_evidence(msgspec.structs.replace(evidence, **{field: value}))
    for nodes in ((*proof, proof[0]), (HexBytes(b"\xc0"), *proof), proof[::-1], proof[:1], (proof[0],) * 65):
        with pytest.raises(VerifierError, match=r"^V3-evidence-(proof|receipt|transaction):"):
            check_evidence(msgspec.structs.replace(evidence, receipt_proof=nodes))
    for bad in (HexBytes(b""), HexBytes(b"\xc0"), HexBytes(b"\x80"), deep, HexBytes(b"\xff" * 9000)):
        with pytest.raises(VerifierError, match=r"^V3-evidence-header:"):
            check_evidence(msgspec.structs.replace(evidence, header=bad))


def test_a_failed_or_unknown_transaction_is_no_evidence(node: Node) -> None:
    """The trap: a reverted close stands in a block too, with all its calldata."""
    key = node.keys["stranger"]
    raw, transaction_hash = key.sign_transaction(
        Transaction(
            chain_id=31337,
            nonce=node.chain.nonce(key.address),
            to=node.escrow,
            data=b"\xff" * 4,
            gas=60_000,
            max_fee_per_gas=10**12,
            max_priority_fee_per_gas=1,
        )
    )
    node.chain.send_raw(raw)
    assert node.chain.wait_mined([transaction_hash], seconds=20) is not None
    with pytest.raises(VerifierError, match=r"^V3-evidence-status:"):
        fetch_evidence(node.chain, transaction_hash)
    with pytest.raises(UndecidedError, match=r"^E-not-mined:"):
        fetch_evidence(node.chain, Bytes32(b"\x02" * 32))


def test_a_lying_node_is_undecided(
    node: Node, closed: tuple[JobTerms, ChainEvidence], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap: a node that changes one field of a block, receipt or transaction."""
    _, evidence = closed
    transaction_hash = check_evidence(evidence).transaction_hash
    real = node.chain.rpc.call

    def lie(lied: str, name: str, value: object, method: str, *parameters: object) -> object:
        answer = real(method, *parameters)
        if method == lied:
            item = answer[0] if isinstance(answer, list) else answer
            (item["transactions"][0] if name == "input" else item)[name] = value
        return answer

    for target in (
        ("eth_getBlockByHash", "timestamp", "0x1"),
        ("eth_getBlockByHash", "input", "0x00"),
        ("eth_getBlockReceipts", "cumulativeGasUsed", "0x1"),
        ("eth_getBlockReceipts", "logs", "junk"),
        ("eth_getBlockByHash", "stateRoot", None),
    ):
        monkeypatch.setattr(node.chain.rpc, "call", partial(lie, *target))
        with pytest.raises(OpgateError) as caught:
            fetch_evidence(node.chain, transaction_hash)
        assert caught.value.code in ("E-rpc-evidence", "E-rpc-reply")


def test_event_signatures_are_the_contracts() -> None:
    def kind(item: dict[str, object]) -> str:
        parts = item.get("components")
        return f"({','.join(kind(part) for part in parts)})" if isinstance(parts, list) else str(item["type"])

    events = {
        entry["name"]: f"{entry['name']}({','.join(kind(item) for item in entry['inputs'])})"
        for entry in artifacts.load("escrow").abi
        if entry["type"] == "event"
    }
    assert {name: events[name] for name in SIGNATURES} == SIGNATURES
    assert set(events) - set(SIGNATURES) <= {"Skipped"}, "an event that a client should know"


def test_the_check_needs_no_chain_library() -> None:
    """The trap: an offline auditor who must install a chain client."""
    loaded = (
        "import sys, verifier.chain_evidence; print({'httpx', 'eth_abi', 'eth_account', 'web3'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True, text=True)
    assert shown.stdout.strip() == "set()"
