"""The provider's own archive: what it delivered, and how each job was closed. Written before money moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from verifier.archive.keyfile import load_or_create_signing_key
from verifier.archive.log import Archive
from verifier.statement import canonical
from verifier.statement.evidence import ChainEvidence, LogEntry
from verifier.statement.scalars import Timestamp
from verifier.statement.terms import SignedTerms

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.circuit import Circuit
    from verifier.policy import Policy
    from verifier.statement.verdict import Verdict
    from workers.jobs import Job

LOG_NAME = "opgate.provider"
Ending = Literal["settled", "reclaimed", "declined", "cancelled"]


class ProviderArchive:
    """An archive that is opened at each write, so that any process of the provider may write to it."""

    def __init__(self, folder: Path, keyfile: Path) -> None:
        """Remember where; archive and key are made at the first write."""
        self._folder = folder
        self._keyfile = keyfile

    def keep_intent(  # noqa: PLR0913 - what a verdict rests on is many things
        self, job: Job, bundle: bytes, *, circuit: Circuit, policy: Policy, verdict: Verdict, now: int
    ) -> None:
        """Log a VALID bundle with everything that its verdict rests on.

        Raises:
            AuditError: A-… where the archive cannot be written; nothing may be delivered then.
        """
        blobs = {
            "bundle": bundle,
            "verdict": canonical.encode(verdict),
            "policy": canonical.encode(policy),
            "manifest": canonical.encode(circuit.manifest),
            "code": circuit.code,
            "terms": _terms(job),
        } | {f"record.{index}": canonical.encode(record) for index, record in enumerate(circuit.records)}
        self._append("intent", job, blobs, now)

    def keep_ending(
        self, job: Job, kind: Ending, *, bundle: bytes | None, evidence: dict[str, ChainEvidence], now: int
    ) -> None:
        """Log how the chain closed a job, with the bundle where there is one, and what shows it, by role."""
        blobs = {"terms": _terms(job)} | ({} if bundle is None else {"bundle": bundle})
        blobs |= {role: canonical.encode(shown) for role, shown in evidence.items()}
        if job.release is not None:
            blobs["release"] = canonical.encode(job.release)
        self._append(kind, job, blobs, now)

    def _append(self, kind: Ending | Literal["intent"], job: Job, blobs: dict[str, bytes], now: int) -> None:
        archive = Archive.open_or_create(self._folder, load_or_create_signing_key(self._keyfile, LOG_NAME))
        digests = {role: canonical.sha256(blob) for role, blob in blobs.items()}
        entry = LogEntry(kind=kind, job_id=job.job_id, recorded_at=Timestamp(now), digests=digests)
        archive.append(entry, blobs.values())


def _terms(job: Job) -> bytes:
    return canonical.encode(SignedTerms(domain=job.domain, terms=job.terms, acceptance=job.acceptance))
