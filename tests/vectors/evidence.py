"""Blocks for bundles whose origin is the chain: made here byte by byte, since a real chain makes no false ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import rlp  # type: ignore[import-untyped]  # it has no types
from msgspec.structs import replace
from trie.hexary import HexaryTrie

from tests.vectors.base import Case, resign
from verifier.chain_evidence import TOPICS
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.evidence import ChainEvidence
from verifier.statement.scalars import Count, HexBytes, Text

if TYPE_CHECKING:
    from tests.vectors.base import Base
    from verifier.statement.bundle import ProofBundle

_CHAIN_AT = {1: 0, 2: 0, 3: 0, 4: 0}
_FIELDS = {0: 9, 1: 11, 2: 12, 3: 14, 4: 13}
_RECEIVER_AT = {0: 3, 1: 4, 2: 5, 3: 5, 4: 5}
_LISTS = {1: (7,), 2: (8,), 3: (8, 10), 4: (8, 9)}
_HEADER_FIELDS = 17


@dataclass(frozen=True)
class Block:
    """One block with a transaction that closed a job; each field is a way in which it can be another one."""

    kind: int = 2
    receipt_kind: int | None = None
    chain_id: int = 31337
    stated_chain_id: int | None = None
    index: int = 0
    stated_index: int | None = None
    transactions: int = 1
    status: bytes = b"\x01"
    event: str = "Released"
    escrow: bytes | None = None
    job_id: bytes | None = None
    payload: bytes | None = None
    logs_before: int = 0
    no_log: bool = False
    header: dict[int, bytes] = field(default_factory=dict)
    header_fields: int = _HEADER_FIELDS
    fields: int | None = None
    receipt_fields: int = 4
    access_lists_deep: int = 0

    def evidence(self, bundle: ProofBundle) -> ChainEvidence:
        """That this block closed the bundle's job."""
        transaction, receipt = self._transaction(bundle), self._receipt(bundle)
        roots, proofs = zip(*(self._trie(value) for value in (transaction, receipt)), strict=True)
        fields: list[Any] = [bytes(32)] * 4 + list(roots) + [bytes(256), b"", b"\x07", b"", b"", b"\x65\0\0\0", b""]
        fields += [bytes(32), bytes(8), b"\x07", bytes(32)]
        for place, value in self.header.items():
            fields[place] = value
        return ChainEvidence(
            chain_id=Count(self.chain_id if self.stated_chain_id is None else self.stated_chain_id),
            transaction=HexBytes(transaction),
            receipt=HexBytes(receipt),
            receipt_proof=tuple(HexBytes(node) for node in (*proofs[1], *proofs[0])),
            index=Count(self.index if self.stated_index is None else self.stated_index),
            header=HexBytes(rlp.encode((fields + [b""] * 30)[: self.header_fields])),
            source=Text("a node of the auditor's"),
        )

    def _transaction(self, bundle: ProofBundle) -> bytes:
        kind = self.kind
        count = self.fields or _FIELDS.get(kind, 12)
        fields: list[Any] = [b"\x01"] * count
        for place in _LISTS.get(kind, ()):
            fields[place] = []
        for _ in range(self.access_lists_deep - 1):
            fields[_LISTS[kind][0]] = [fields[_LISTS[kind][0]]]
        if kind == 0:
            fields[6] = rlp.sedes.big_endian_int.serialize(self.chain_id * 2 + 35 if self.chain_id else 27)
        else:
            fields[_CHAIN_AT.get(kind, 0)] = rlp.sedes.big_endian_int.serialize(self.chain_id)
        fields[_RECEIVER_AT.get(kind, 5)] = bytes(bundle.domain.verifying_contract)
        encoded: bytes = rlp.encode(fields)
        return encoded if kind == 0 else bytes([kind]) + encoded

    def _receipt(self, bundle: ProofBundle) -> bytes:
        kind = self.kind if self.receipt_kind is None else self.receipt_kind
        instances_hash = keccak256(claimed_words(bundle))
        log = [
            self.escrow or bytes(bundle.domain.verifying_contract),
            [bytes(TOPICS[self.event]), self.job_id or bytes(bundle.job_id), bytes(32)],  # type: ignore[index] # a name
            instances_hash if self.payload is None else self.payload,
        ]
        transfer = [bytes(bundle.terms.token), [bytes(32), bytes(32)], bytes(32)]
        logs = [transfer] * self.logs_before + ([] if self.no_log else [log])
        fields = [self.status, b"\x52\x08", bytes(256), logs, b""][: self.receipt_fields]
        encoded: bytes = rlp.encode(fields)
        return encoded if kind == 0 else bytes([kind]) + encoded

    def _trie(self, value: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """The root of a trie of as many values as there are transactions, and the nodes down to ours."""
        trie = HexaryTrie({})
        for index in range(self.transactions):
            trie[rlp.encode(index)] = value if index == self.index else b"\x02" + bytes([index % 256]) * 40
        path: Any = trie.get_proof(rlp.encode(self.index))  # type: ignore[no-untyped-call] # it has no types
        return trie.root_hash, tuple(rlp.encode(node) for node in path)


def closed_by(bundle: ProofBundle, block: Block) -> ProofBundle:
    """The bundle with a block's evidence in place of the provider's Delivery."""
    return replace(bundle, origin="chain", delivery=None, receipt=None, evidence=block.evidence(bundle))


def chain_cases(base: Base) -> dict[str, Case]:
    """Bundles read from a chain: good ones of every type of transaction, and each fault of the evidence."""
    small, hashed = base.small, base.bundles["hashed"]
    blocks: dict[str, tuple[Block, str | None]] = {
        "valid_chain_legacy_transaction": (Block(kind=0), None),
        "valid_chain_access_list_transaction": (Block(kind=1), None),
        "valid_chain_fee_market_transaction": (Block(kind=2), None),
        "valid_chain_blob_transaction": (Block(kind=3), None),
        "valid_chain_delegating_transaction": (Block(kind=4), None),
        "valid_chain_among_20_transactions": (Block(transactions=20, index=17), None),
        "valid_chain_first_of_200_transactions": (Block(transactions=200), None),
        "valid_chain_last_of_200_transactions": (Block(transactions=200, index=199), None),
        "valid_chain_behind_other_events": (Block(logs_before=3), None),
        "valid_chain_header_of_15_fields": (Block(header_fields=15), None),
        "valid_chain_header_of_40_fields": (Block(header_fields=40), None),
        "valid_chain_transaction_16_lists_deep": (Block(kind=1, access_lists_deep=15), None),
        "3_evidence_transaction_17_lists_deep": (Block(kind=1, access_lists_deep=16), "V3-evidence-transaction"),
        "3_evidence_transaction_2000_lists_deep": (Block(kind=1, access_lists_deep=1999), "V3-evidence-transaction"),
        "3_evidence_header_14_fields": (Block(header_fields=14), "V3-evidence-header"),
        "3_evidence_header_41_fields": (Block(header_fields=41), "V3-evidence-header"),
        "3_evidence_header_short_root": (Block(header={5: bytes(31)}), "V3-evidence-header"),
        "3_evidence_header_long_number": (Block(header={8: b"\x01" * 9}), "V3-evidence-header"),
        "3_evidence_header_large": (Block(header={12: bytes(8200)}), "V3-evidence-header"),
        "3_evidence_receipts_root_of_other_block": (Block(header={5: b"\x01" * 32}), "V3-evidence-receipt"),
        "3_evidence_transactions_root_of_other_block": (Block(header={4: b"\x01" * 32}), "V3-evidence-transaction"),
        "3_evidence_other_index": (Block(transactions=20, index=3, stated_index=4), "V3-evidence-receipt"),
        "3_evidence_index_behind_the_last": (Block(stated_index=1), "V3-evidence-receipt"),
        "3_evidence_stated_chain": (Block(stated_chain_id=1), "V3-evidence-chain"),
        "3_evidence_chain_of_transaction": (Block(chain_id=1), "V3-evidence-released"),
        "3_evidence_legacy_without_chain": (Block(kind=0, chain_id=0), "V3-evidence-released"),
        "3_evidence_transaction_of_type_5": (Block(kind=5), "V3-evidence-transaction"),
        "3_evidence_transaction_field_more": (Block(fields=13), "V3-evidence-transaction"),
        "3_evidence_receipt_of_other_type": (Block(receipt_kind=1), "V3-evidence-receipt"),
        "3_evidence_receipt_field_more": (Block(receipt_fields=5), "V3-evidence-receipt"),
        "3_evidence_receipt_field_less": (Block(receipt_fields=3), "V3-evidence-receipt"),
        "3_evidence_failed_transaction": (Block(status=b""), "V3-evidence-status"),
        "3_evidence_status_2": (Block(status=b"\x02"), "V3-evidence-status"),
        "3_evidence_no_event": (Block(no_log=True), "V3-evidence-released"),
        "3_evidence_reclaimed": (Block(event="Reclaimed"), "V3-evidence-released"),
        "3_evidence_event_of_other_contract": (Block(escrow=b"\x99" * 20), "V3-evidence-released"),
        "3_evidence_event_of_other_job": (Block(job_id=bytes(base.other_job.job_id)), "V3-evidence-released"),
        "3_evidence_other_instances": (Block(payload=b"\x01" * 32), "V3-evidence-released"),
        "3_evidence_instances_and_more": (
            Block(payload=bytes(keccak256(claimed_words(small))) + b"\0"),
            "V3-evidence-released",
        ),
    }
    cases = {name: Case(canonical.encode(closed_by(small, block)), code) for name, (block, code) in blocks.items()}
    cases["valid_chain_hashed_input"] = Case(canonical.encode(closed_by(hashed, Block())), None)
    good = closed_by(small, Block()).evidence
    many = closed_by(small, Block(transactions=200, index=150)).evidence
    assert good is not None
    assert many is not None
    nodes = many.receipt_proof
    long = HexBytes(bytes(good.header) + b"\0")
    flipped = HexBytes(bytes([*good.receipt[:-1], good.receipt[-1] ^ 1]))
    called = HexBytes(bytes([*good.transaction[:-1], good.transaction[-1] ^ 1]))
    altered: dict[str, tuple[ChainEvidence, str]] = {
        "3_evidence_header_trailing_byte": (replace(good, header=long), "V3-evidence-header"),
        "3_evidence_header_empty": (replace(good, header=HexBytes(b"")), "V3-evidence-header"),
        "3_evidence_header_no_list": (replace(good, header=HexBytes(b"\x83abc")), "V3-evidence-header"),
        "3_evidence_no_nodes": (replace(good, receipt_proof=()), "V3-evidence-proof"),
        "3_evidence_65_nodes": (replace(good, receipt_proof=good.receipt_proof * 33), "V3-evidence-proof"),
        "3_evidence_node_more": (replace(good, receipt_proof=(*good.receipt_proof, nodes[0])), "V3-evidence-proof"),
        "3_evidence_node_doubled": (replace(many, receipt_proof=(nodes[0], *nodes)), "V3-evidence-proof"),
        "3_evidence_receipt_node_missing": (replace(many, receipt_proof=nodes[1:]), "V3-evidence-receipt"),
        "3_evidence_transaction_node_missing": (replace(many, receipt_proof=nodes[:-1]), "V3-evidence-transaction"),
        "3_evidence_nodes_swapped": (
            replace(many, receipt_proof=(nodes[1], nodes[0], *nodes[2:])),
            "V3-evidence-proof",
        ),
        "3_evidence_tries_swapped": (
            replace(good, receipt_proof=(good.receipt_proof[1], good.receipt_proof[0])),
            "V3-evidence-proof",
        ),
        "3_evidence_receipt_altered": (replace(good, receipt=flipped), "V3-evidence-receipt"),
        "3_evidence_transaction_altered": (replace(good, transaction=called), "V3-evidence-transaction"),
    }
    chain = closed_by(small, Block())
    for name, (evidence, code) in altered.items():
        cases[name] = Case(canonical.encode(replace(chain, evidence=evidence)), code)
    stale = replace(chain, outputs=((*small.outputs[0][:-1], small.outputs[0][0]), *small.outputs[1:]))
    cases["3_evidence_output_altered"] = Case(canonical.encode(stale), "V3-evidence-released")
    forged = replace(small, proof=base.bundles["two_outputs_other_job"].proof)
    cases["7_chain_proof_of_other_job"] = Case(canonical.encode(closed_by(forged, Block())), "V7-proof")
    cases["3_chain_acceptance_of_other_job"] = Case(
        canonical.encode(replace(chain, acceptance=base.bundles["two_outputs_other_job"].acceptance)), "V3-acceptance"
    )
    moved = replace(small, domain=replace(small.domain, verifying_contract=base.job.terms.token))
    cases["2_chain_of_other_escrow"] = Case(canonical.encode(closed_by(resign(moved), Block())), "V2-escrow")
    return cases
