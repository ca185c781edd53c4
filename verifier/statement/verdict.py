"""Verdicts: what a verifier concluded, against what, and what that does and does not show. Data, never a permission."""

from __future__ import annotations

from typing import Literal

import msgspec

from verifier.statement.scalars import Bytes32, Count, Text

Outcome = Literal["VALID", "INVALID", "UNDECIDED"]
Assurance = Literal["rebuilt", "compiled", "attested", "unattested"]
SrsKind = Literal["ceremony", "development"]


class Opinion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What another verifier says of the same proof; it can only make a verdict UNDECIDED, never VALID."""

    engine: Text
    bundle_sha256: Bytes32
    accepts: bool


class CheckedAgainst(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The digests of everything that a verdict rests on: with these bytes anyone gets the same verdict."""

    subject_sha256: Bytes32
    circuit_id: Bytes32
    code_hash: Bytes32
    policy_sha256: Bytes32
    evm_revision: Text
    package: Text


class Verdict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/verdict/1"
):
    """The outcome for one bundle. INVALID is about this bundle, never about the job: other bytes may still be valid."""

    outcome: Outcome
    job_id: Bytes32 | None = None
    assurance: Assurance | None = None
    checked: CheckedAgainst | None = None
    shown: tuple[Text, ...]
    not_shown: tuple[Text, ...]
    step: Count | None = None
    code: Text | None = None
    message: Text | None = None


class TermsVerdict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/terms/1"
):
    """The outcome of steps 1, 2 and 4 for terms, before money moves."""

    outcome: Outcome
    job_id: Bytes32 | None = None
    assurance: Assurance | None = None
    checked: CheckedAgainst | None = None
    step: Count | None = None
    code: Text | None = None
    message: Text | None = None
