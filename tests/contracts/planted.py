"""Bugs to plant in the contract, each by a change of its source, and escrows made from changed sources.

Each is a mistake that somebody could make, and each lets money go where it must not, or keeps it where it must not be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from verifier.payment import artifacts
from verifier.payment.compile_contracts import FOLDER, compile_contract, read_sources
from verifier.statement import canonical


@dataclass(frozen=True)
class Bug:
    """What is changed in which file; the old text has to be there exactly `times`."""

    name: str
    file: str
    old: str
    new: str
    times: int = 1


BUGS = (
    # The five that the issue asks for, one for each kind of harm.
    Bug(
        "a release at the deadline",
        "escrow.vy",
        "assert block.timestamp < deadline",
        "assert block.timestamp <= deadline",
    ),
    Bug("the payer's word is not asked for", "escrow.vy", "if msg.sender != terms.payer:", "if False:"),
    Bug("a reclaim leaves the job funded", "escrow.vy", "    self.state[job] = RECLAIMED\n", ""),
    Bug("a job's proof pays another job", "escrow.vy", "range(job_terms.JOB_LIMBS)", "range(10)"),
    Bug(
        "a fee token's payee is unpaid",
        "transfers.vy",
        "assert staticcall token.balanceOf(payee) == there + amount",
        "assert True",
    ),
    # And more.
    Bug("a reclaim before the deadline", "escrow.vy", 'assert block.timestamp >= terms.deadline, "early"', "pass"),
    Bug(
        "the provider did not accept",
        "escrow.vy",
        "assert job_terms._accepted(terms.provider,",
        "assert True or job_terms._accepted(terms.provider,",
    ),
    Bug(
        "a cancel of a funded job",
        "escrow.vy",
        'assert self.state[job] == UNSEEN, "state"\n    self.state[job] = CANCELLED',
        "self.state[job] = CANCELLED",
    ),
    Bug(
        "a job is funded twice",
        "escrow.vy",
        'assert self.state[job] == UNSEEN, "state"\n    assert terms.token',
        "assert terms.token",
    ),
    Bug(
        "anyone may decline",
        "escrow.vy",
        "assert msg.sender == terms.provider",
        "assert True or msg.sender == terms.provider",
    ),
    Bug(
        "whoever reclaims is paid",
        "transfers.vy",
        "extcall token.transfer(payer, amount",
        "extcall token.transfer(msg.sender, amount",
    ),
    Bug(
        "another input's proof pays",
        "escrow.vy",
        "32 * rule.input_len)) == terms.input_commitment",
        "32 * rule.input_len)) != empty(bytes32)",
    ),
    Bug("changed code may judge", "escrow.vy", "assert rule.verifier.codehash == rule.code_hash", "assert True"),
    Bug("any answer is a yes", "escrow.vy", "assert ok and len(answer) == 32 and", "assert ok and"),
    Bug(
        "the release's signature is not checked",
        "escrow.vy",
        "assert job_terms._signed(terms.payer, digest, payer_sig)",
        "assert True",
        2,
    ),
    Bug("a batch's inner call is open", "escrow.vy", "assert msg.sender == self", "assert True", 2),
    Bug(
        "one item blocks its batch",
        "escrow.vy",
        "    if not ok:\n        log Skipped",
        "    assert ok\n    if not ok:\n        log Skipped",
    ),
    Bug("a release enters another call", "escrow.vy", "@nonreentrant\ndef release(", "def release("),
    Bug("a proof enters another call", "escrow.vy", "@nonreentrant\ndef release_by_proof(", "def release_by_proof("),
    Bug("the payee is not under job_id", "job_terms.vy", "            terms.payee,\n", "            terms.provider,\n"),
)
FIVE = BUGS[:5]


def planted(bug: Bug) -> tuple[bytes, list[dict[str, Any]]]:
    """Creation code and ABI of the escrow with a bug."""
    sources = read_sources(FOLDER, "escrow")
    assert sources[bug.file].count(bug.old) == bug.times, bug.name
    sources[bug.file] = sources[bug.file].replace(bug.old, bug.new)
    built = canonical.decode(artifacts.Artifact, compile_contract("escrow", sources), where=bug.name)
    return bytes(built.bytecode), built.abi
