"""What an archive holds beside bundles: log entries, and the evidence that a chain closed a job."""

from __future__ import annotations

from typing import Literal

import msgspec

from verifier.statement.scalars import Bytes32, Count, HexBytes, Text, Timestamp

EntryKind = Literal["intent", "settled", "reclaimed", "declined", "cancelled"]


class ChainEvidence(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/evidence/1"
):
    """A mined transaction and its receipt, provable against a block header; who is trusted for the header is named.

    `transaction` and `receipt` are the consensus encodings (EIP-2718), `header` the RLP of the block's header,
    `receipt_proof` the nodes of the receipts trie from its root to the receipt at `index`, then those of the
    transactions trie from its root to the transaction: without them a true receipt could be paired with a false call.
    """

    chain_id: Count
    transaction: HexBytes
    receipt: HexBytes
    receipt_proof: tuple[HexBytes, ...]
    index: Count
    header: HexBytes
    source: Text


class LogEntry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/entry/1"
):
    """One line of an archive's log: what became of a job, and the sha256 of every blob that shows it, by role.

    Roles: bundle, verdict, terms_verdict, policy, manifest, code, record.0 …, terms, evidence, evidence.funded.
    `intent` is written before a signature leaves; the other kinds when a chain has closed the job.
    """

    kind: EntryKind
    job_id: Bytes32
    recorded_at: Timestamp
    digests: dict[str, Bytes32]
