"""What an audit of an archive found, for people and machines. Nothing is checked here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from verifier.archive.findings import Finding
from verifier.archive.structure import Structure
from verifier.statement.scalars import Bytes32


@dataclass(frozen=True, slots=True)
class Block:
    """A block that evidence stands on; whoever is named gave its hash, and only they say that it is the chain's."""

    chain_id: int
    number: int
    block_hash: Bytes32
    source: str


@dataclass(slots=True)
class AuditReport:
    """What an audit found.

    Attributes:
        structure: of the archive, with the findings of part A.
        findings: all damage, that of the structure first.
        undecided: what could not be decided here, as with an EVM that does not run; nothing is said of the archive.
        notes: what was not checked.
        verified: bundles that are VALID again, each counted once.
        evidenced: entries whose ending is shown by chain evidence.
        blocks: that the evidence stands on.
    """

    structure: Structure
    findings: list[Finding] = field(default_factory=list)
    undecided: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verified: int = 0
    evidenced: int = 0
    blocks: set[Block] = field(default_factory=set)

    @property
    def entries(self) -> int:
        """Entries under the checkpoint, or those that could be read where there is none."""
        checkpoint = self.structure.checkpoint
        return len(self.structure.entries) if checkpoint is None else checkpoint.size

    @property
    def clean(self) -> bool:
        """Nothing is damaged and nothing was left undecided."""
        return not self.findings and not self.undecided

    def to_json(self) -> dict[str, Any]:
        """The report for machines."""
        checkpoint, key = self.structure.checkpoint, self.structure.key
        return {
            "clean": self.clean,
            "entries": self.entries,
            "damage_found": [finding.to_json() for finding in self.findings],
            "undecided": [finding.to_json() for finding in self.undecided],
            "verified": self.verified,
            "evidenced": self.evidenced,
            "notes": self.notes,
            "log": None if checkpoint is None else {"origin": checkpoint.origin, "root": "0x" + checkpoint.root.hex()},
            "key": None if key is None else str(key),
            "blocks": [
                {
                    "chain_id": block.chain_id,
                    "number": block.number,
                    "block_hash": str(block.block_hash),
                    "source": block.source,
                }
                for block in self.sorted_blocks()
            ],
        }

    def sorted_blocks(self) -> list[Block]:
        """The blocks by chain and number."""
        return sorted(self.blocks, key=lambda block: (block.chain_id, block.number, block.block_hash))
