"""The audit of an archive: is it whole, and does everything in it verify again? Offline, without a key, years later.

A structure    checkpoint, tiles, entries, blobs against each other (`structure`)
B terms        each entry's terms give its job_id, and the provider's Acceptance is over them
C verdicts     each bundle is verified again, from archived circuit and policy; the archived verdict is the one it gives
D evidence     a chain's evidence shows the event that the entry names, for this job
E policy       under the auditor's own policy the bundles hold too, where one is given

It does not see what was never archived, and does not know whether a block hash is the chain's: it lists whom to ask.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeVar

import msgspec

from verifier.archive.blobs import BlobStore
from verifier.archive.findings import Finding
from verifier.archive.note import VerifierKey
from verifier.archive.report import AuditReport, Block
from verifier.archive.structure import check_structure
from verifier.bundles import parse_bundle
from verifier.chain_evidence import Checked, EventName, check_event, check_released
from verifier.circuit import Circuit
from verifier.errors import OpgateError
from verifier.evm import signed_by
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle
from verifier.statement.eip712 import Domain
from verifier.statement.evidence import ChainEvidence, LogEntry
from verifier.statement.scalars import Bytes32
from verifier.statement.terms import Acceptance, SignedRelease, SignedTerms
from verifier.statement.verdict import TermsVerdict, Verdict
from verifier.verify import check_terms, verify

_EVENTS: dict[str, EventName] = {
    "settled": "Released",
    "reclaimed": "Reclaimed",
    "declined": "Declined",
    "cancelled": "Cancelled",
}
"""The escrow's event that each kind of ending entry stands for."""
_JUDGED_BY = ("policy", "manifest", "code")
_MAX_NAMED = 10

T = TypeVar("T", bound=msgspec.Struct)


def audit(
    folder: Path, *, key: VerifierKey | None = None, policy: Policy | None = None, seen: bytes | None = None
) -> AuditReport:
    """Audit an archive.

    Args:
        folder: the archive, which is not written to.
        key: the log's key as somebody trusted told it; None takes the archive's own.
        policy: the auditor's own policy, under which the bundles are verified beside the archived one.
        seen: the bytes of a checkpoint of this archive that the auditor kept.

    Raises:
        AuditError: A-none where there is no archive.
    """
    structure = check_structure(folder, key, seen=seen)
    report = AuditReport(structure, findings=list(structure.findings), notes=list(structure.notes))
    auditor = _Auditor(BlobStore(folder.absolute(), staging=folder), report, policy)
    for at, entry in structure.entries:
        auditor.check(at, entry)
    auditor.conclude()
    return report


class _Auditor:
    """Checks one entry after the other; what several entries share is read and verified once."""

    def __init__(self, store: BlobStore, report: AuditReport, policy: Policy | None) -> None:
        self._store = store
        self._report = report
        self._policy = policy
        self._roles: dict[Bytes32, dict[str, Bytes32]] = {}
        for _, entry in report.structure.entries:
            self._roles.setdefault(entry.job_id, {}).update(entry.digests)
        self._verdicts: dict[tuple[Bytes32, ...], Verdict] = {}
        self._valid: set[Bytes32] = set()
        self._unverified: list[int] = []
        self._unevidenced: list[int] = []

    def check(self, at: int, entry: LogEntry) -> None:
        """Parts B to E for one entry."""
        signed = self._decoded(at, entry, "terms", SignedTerms)
        bundle = self._bundle(at, entry)
        if signed is not None:
            self._check_terms(at, entry, signed)
        if bundle is not None:
            self._check_bundle(at, entry, bundle, signed)
        domain = signed.domain if signed is not None else bundle.domain if bundle is not None else None
        self._check_evidence(at, entry, domain, bundle)
        self._check_release(at, entry, bundle)

    def conclude(self) -> None:
        """What can be said only of the archive as a whole."""
        report, entries = self._report, self._report.structure.entries
        report.verified = len(self._valid)
        if self._unverified:
            report.notes.append(
                f"not verified again, since what they rest on is damaged: entries {_some(self._unverified)}"
            )
        if self._unevidenced:
            listed = _some(self._unevidenced)
            report.notes.append(
                f"completeness not checked: no chain evidence of how the jobs of entries {listed} ended"
            )
        report.notes.append(
            "completeness not checked: whether every job on the chain is in this archive, only the chain can say"
        )
        ended = {entry.job_id for _, entry in entries if entry.kind in _EVENTS}
        unended = {entry.job_id: at for at, entry in entries if entry.kind == "intent" and entry.job_id not in ended}
        if unended:
            report.notes.append(f"no ending is archived for the jobs of entries {_some(sorted(unended.values()))}")
        endings = Counter(job_id for job_id, kind in {(e.job_id, e.kind) for _, e in entries} if kind in _EVENTS)
        for job_id in (job_id for job_id, count in endings.items() if count > 1):
            report.notes.append(
                f"job {job_id} ended in more than one way: a chain that was reorganised, or a false entry"
            )

    def _check_terms(self, at: int, entry: LogEntry, signed: SignedTerms) -> None:
        digest = entry.digests["terms"]
        job_id = signed.terms.job_id(signed.domain)
        if job_id != entry.job_id:
            self._damage(at, "A-other-job", "terms", digest, f"the terms are those of job {job_id}, not {entry.job_id}")
            return
        if signed.acceptance is not None:
            acceptance = Acceptance(job_id=job_id).digest(signed.domain)
            if not self._signed(at, signed, acceptance):
                message = f"the Acceptance is not that of provider {signed.terms.provider}"
                self._damage(at, "A-acceptance", "terms", digest, message)
        archived = self._decoded(at, entry, "terms_verdict", TermsVerdict)
        judged = self._judged_by(at, entry) if archived is not None else None
        if archived is not None and judged is not None:
            again = check_terms(signed.terms, signed.domain, *judged)
            self._compare(at, "terms_verdict", entry.digests["terms_verdict"], archived, again)

    def _signed(self, at: int, signed: SignedTerms, digest: Bytes32) -> bool:
        try:
            return signed.acceptance is not None and signed_by(signed.terms.provider, digest, signed.acceptance)
        except OpgateError as error:
            self._report.undecided.append(Finding.of(error, kind="terms", entry=at))
            return True

    def _check_bundle(self, at: int, entry: LogEntry, bundle: ProofBundle, signed: SignedTerms | None) -> None:
        digest = entry.digests["bundle"]
        if bundle.job_id != entry.job_id:
            self._damage(
                at, "A-other-job", "bundle", digest, f"the bundle is that of job {bundle.job_id}, not {entry.job_id}"
            )
            return
        if signed is not None and (signed.terms, signed.domain) != (bundle.terms, bundle.domain):
            self._damage(at, "A-other-job", "bundle", digest, "the bundle's terms are not those beside it")
        judged = self._judged_by(at, entry)
        if judged is None:
            return
        circuit, policy = judged
        again = self._verify(entry, bundle, circuit, policy)
        if again.outcome == "UNDECIDED":
            self._report.undecided.append(_undecided(at, digest, again))
            return
        archived = self._decoded(at, entry, "verdict", Verdict)
        if archived is not None:
            self._compare(at, "verdict", entry.digests["verdict"], archived, again)
        if again.outcome != "VALID":
            self._damage(at, "A-bundle-invalid", "bundle", digest, f"the bundle is not valid: {again.message}")
            return
        self._valid.add(digest)
        if self._policy is not None:
            own = self._verify(entry, bundle, circuit, self._policy)
            if own.outcome == "UNDECIDED":
                self._report.undecided.append(_undecided(at, digest, own))
            elif own.outcome == "INVALID":
                message = f"valid under the archived policy, refused by the one given: {own.message}"
                self._damage(at, "A-policy-refuses", "policy", digest, message)

    def _judged_by(self, at: int, entry: LogEntry) -> tuple[Circuit, Policy] | None:
        """Circuit and policy that an entry rests on, from it or its job's other entries; None where damaged."""
        roles = self._roles[entry.job_id] | entry.digests
        missing = [role for role in _JUDGED_BY if role not in roles]
        for role in missing:
            message = f"no entry of job {entry.job_id} names the {role}: the bundle cannot be verified again"
            self._damage(at, "A-role-missing", role, None, message)
        if missing:
            return None
        records = sorted((role for role in roles if role.startswith("record.")), key=lambda role: (len(role), role))
        blobs = {role: self._blob(roles[role]) for role in (*_JUDGED_BY, *records)}
        policy, manifest, code = (blobs[role] for role in _JUDGED_BY)
        kept = [blob for role in records if (blob := blobs[role]) is not None]
        if policy is None or manifest is None or code is None or len(kept) < len(records):
            self._unverified.append(at)
            return None
        try:
            circuit = Circuit.from_bytes(manifest, code, tuple(kept))
            return circuit, canonical.decode(Policy, policy, where=f"policy of entry {at}")
        except OpgateError as error:
            self._report.findings.append(Finding.of(error, kind="circuit or policy", entry=at))
            return None

    def _verify(self, entry: LogEntry, bundle: ProofBundle, circuit: Circuit, policy: Policy) -> Verdict:
        # The records are part of the key: they decide the assurance.
        records = (canonical.digest(record) for record in circuit.records)
        key = (entry.digests["bundle"], circuit.circuit_id, circuit.code_hash, policy.digest, *records)
        if key not in self._verdicts:
            self._verdicts[key] = verify(bundle, circuit, policy)
        return self._verdicts[key]

    def _compare(
        self, at: int, role: str, digest: Bytes32, archived: Verdict | TermsVerdict, again: Verdict | TermsVerdict
    ) -> None:
        """The archived verdict is what the same bytes give now; sentences may differ between versions of opgate."""
        if again.outcome == "UNDECIDED":
            self._report.undecided.append(_undecided(at, digest, again))
            return
        differing = _differing(archived, again)
        if differing:
            outcomes = f"the archived {role} says {archived.outcome}, the same bytes give {again.outcome}"
            message = f"{outcomes}: differs in {', '.join(differing)}"
            self._damage(at, "A-verdict-differs", role, digest, message)

    def _check_evidence(self, at: int, entry: LogEntry, domain: Domain | None, bundle: ProofBundle | None) -> None:
        event = _EVENTS.get(entry.kind)
        closing = self._decoded(at, entry, "evidence", ChainEvidence)
        funding = self._decoded(at, entry, "evidence.funded", ChainEvidence)
        if event is not None and "evidence" not in entry.digests:
            self._unevidenced.append(at)
        if domain is None:
            return
        if closing is not None and event is not None:
            try:
                if event == "Released" and bundle is not None:
                    checked = check_released(closing, domain, entry.job_id, keccak256(claimed_words(bundle)))
                else:
                    checked = check_event(closing, event, domain, entry.job_id)
                self._report.evidenced += 1
                self._note_block(checked, closing)
            except OpgateError as error:
                self._report.findings.append(_evidence_finding(at, entry, "evidence", error))
        if funding is not None:
            try:
                self._note_block(check_event(funding, "Funded", domain, entry.job_id), funding)
            except OpgateError as error:
                self._report.findings.append(_evidence_finding(at, entry, "evidence.funded", error))

    def _note_block(self, checked: Checked, evidence: ChainEvidence) -> None:
        self._report.blocks.add(Block(checked.chain_id, checked.block_number, checked.block_hash, str(evidence.source)))

    def _check_release(self, at: int, entry: LogEntry, bundle: ProofBundle | None) -> None:
        """A release names this job and these instances. Its signature may be a wallet contract's: not judged."""
        signed = self._decoded(at, entry, "release", SignedRelease)
        if signed is None:
            return
        release, digest = signed.release, entry.digests["release"]
        if release.job_id != entry.job_id:
            self._damage(at, "A-other-job", "release", digest, f"the release is that of job {release.job_id}")
        elif bundle is not None and release.instances_hash != keccak256(claimed_words(bundle)):
            self._damage(
                at, "A-release-instances", "release", digest, "the release is for other instances than the bundle's"
            )

    def _bundle(self, at: int, entry: LogEntry) -> ProofBundle | None:
        raw = self._named(at, entry, "bundle")
        if raw is None:
            return None
        try:
            return parse_bundle(raw, where=f"bundle of entry {at}")
        except OpgateError as error:
            self._report.findings.append(Finding.of(error, kind="bundle", entry=at, digest=entry.digests["bundle"]))
            return None

    def _decoded(self, at: int, entry: LogEntry, role: str, kind: type[T]) -> T | None:
        """The blob of a role, where the entry names one that is whole; a finding where it is nothing of that kind."""
        raw = self._named(at, entry, role)
        if raw is None:
            return None
        try:
            return canonical.decode(kind, raw, where=f"{role} of entry {at}")
        except OpgateError as error:
            self._report.findings.append(Finding.of(error, kind=role, entry=at, digest=entry.digests[role]))
            return None

    def _named(self, at: int, entry: LogEntry, role: str) -> bytes | None:
        digest = entry.digests.get(role)
        if digest is None:
            return None
        raw = self._blob(digest)
        if raw is None and at not in self._unverified:
            self._unverified.append(at)
        return raw

    def _blob(self, digest: Bytes32) -> bytes | None:
        """The bytes of a blob, or None where part A has named it as damaged or missing."""
        try:
            return self._store.get(digest)
        except OpgateError:
            return None

    def _damage(self, at: int, code: str, kind: str, digest: Bytes32 | None, message: str) -> None:
        text = f"entry {at}: {message}"
        self._report.findings.append(Finding(code=code, entry=at, kind=kind, digest=digest, message=text))


def _differing(archived: Verdict | TermsVerdict, again: Verdict | TermsVerdict) -> list[str]:
    """The fields in which two verdicts differ; sentences count only where the same version of opgate wrote both."""
    names = ["outcome", "job_id", "assurance", "step", "code"]
    differing = [name for name in names if getattr(archived, name) != getattr(again, name)]
    one, two = archived.checked, again.checked
    if one is None or two is None:
        return differing if one is two else [*differing, "checked"]
    fields = [name for name in one.__struct_fields__ if name != "package"]
    differing += [f"checked.{name}" for name in fields if getattr(one, name) != getattr(two, name)]
    if one.package == two.package and not differing and archived != again:
        differing.append("its sentences")
    return differing


def _evidence_finding(at: int, entry: LogEntry, role: str, error: OpgateError) -> Finding:
    return Finding.of(error, kind=role, entry=at, digest=entry.digests[role])


def _undecided(at: int, digest: Bytes32, verdict: Verdict | TermsVerdict) -> Finding:
    message = f"entry {at}: {verdict.message}"
    return Finding(code=str(verdict.code), entry=at, kind="bundle", digest=digest, message=message)


def _some(numbers: list[int]) -> str:
    listed = ", ".join(str(number) for number in numbers[:_MAX_NAMED])
    return listed if len(numbers) <= _MAX_NAMED else f"{listed} and {len(numbers) - _MAX_NAMED} more"
