"""The audit re-verifies what an archive holds: a sound one is clean, and each kind of false content is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from tests.archive.story import KEY, POLICY, Story, evidence_of, settled, sign
from verifier.archive.audit import audit
from verifier.archive.findings import Finding
from verifier.archive.log import Archive
from verifier.chain_evidence import EventName
from verifier.cli.audit import app
from verifier.errors import UndecidedError
from verifier.policy import Amounts, CircuitRule
from verifier.statement import canonical
from verifier.statement.bundle import ProofBytes
from verifier.statement.evidence import EntryKind
from verifier.statement.scalars import (
    Bytes32,
    TensorInt,
    Uint256,
)
from verifier.statement.terms import (
    Release,
    SignedRelease,
    SignedTerms,
)


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about contents; what is synced when is `test_faults`'s."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.create(tmp_path / "archive", KEY)


def named(findings: list[Finding]) -> list[tuple[str, int | None, str]]:
    return [(finding.code, finding.entry, finding.kind) for finding in findings]


def test_a_sound_archive_is_clean(archive: Archive) -> None:
    settled(archive, 1)
    settled(archive, 2)
    report = audit(archive.folder, key=KEY.verifier_key, policy=POLICY, seen=archive.signed_checkpoint())
    assert report.findings == []
    assert report.clean
    assert (report.entries, report.verified, report.evidenced, len(report.blocks)) == (4, 2, 2, 4)
    assert all("entries" not in note for note in report.notes)


def test_endings_without_evidence_are_said_not_to_be_complete(archive: Archive) -> None:
    story = Story()
    story.log(archive)
    story.log(archive, "declined")
    Story(2).log(archive)
    report = audit(archive.folder)
    assert report.clean
    assert "completeness not checked: no chain evidence of how the jobs of entries 1 ended" in report.notes
    assert "no ending is archived for the jobs of entries 2" in report.notes


def test_an_ending_takes_circuit_and_policy_from_its_job_s_intent(archive: Archive) -> None:
    """The provider's endings name the bundle and not again what it was judged by."""
    story = Story()
    story.log(archive)
    story.log(archive, "settled", without=("verdict", "terms_verdict", "policy", "manifest", "code"))
    report = audit(archive.folder)
    assert report.clean
    assert report.verified == 1


@pytest.mark.parametrize("role", ["policy", "manifest", "code"])
def test_a_bundle_that_cannot_be_verified_again_is_named(archive: Archive, role: str) -> None:
    Story().log(archive, without=(role, "terms_verdict"))
    assert named(audit(archive.folder).findings) == [("A-role-missing", 0, role)]


@pytest.mark.parametrize(
    "role", ["bundle", "verdict", "terms", "terms_verdict", "policy", "manifest", "code", "evidence", "evidence.funded"]
)
def test_one_flipped_byte_in_any_blob_names_it_once(archive: Archive, role: str) -> None:
    story = settled(archive, 1)
    digest = canonical.sha256(story.blobs[role])
    path = archive.folder / "blobs" / digest.hex()[:2] / str(digest)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    report = audit(archive.folder)
    (finding,) = report.findings
    assert (finding.code, finding.kind, finding.digest) == ("A-blob-damaged", role, digest)
    assert finding.entry == (1 if role.startswith("evidence") else 0)
    assert any(note.startswith("not verified again") for note in report.notes)


Bend = Callable[[Story], None]


def bend_verdict(**changes: Any) -> Bend:
    def bend(story: Story) -> None:
        verdict = json.loads(story.blobs["verdict"])
        story.blobs["verdict"] = canonical.encode(verdict | changes)

    return bend


def bend_terms_verdict(story: Story) -> None:
    verdict = json.loads(story.blobs["terms_verdict"])
    story.blobs["terms_verdict"] = canonical.encode(verdict | {"assurance": "rebuilt"})


def bend_bundle(**changes: Any) -> Bend:
    def bend(story: Story) -> None:
        story.blobs["bundle"] = canonical.encode(msgspec.structs.replace(story.bundle, **changes))

    return bend


def other_role(role: str) -> Bend:
    def bend(story: Story) -> None:
        story.blobs[role] = Story(story.salt + 1).blobs[role]

    return bend


def bend_acceptance(story: Story) -> None:
    signed = canonical.decode(SignedTerms, story.blobs["terms"], where="terms")
    other = sign(Bytes32(b"\x0a" * 32))
    story.blobs["terms"] = canonical.encode(msgspec.structs.replace(signed, acceptance=other))


def swap_code(story: Story) -> None:
    story.blobs["code"] = bytes.fromhex("60015f5260205ff3")


def looser_policy(story: Story) -> None:
    policy = msgspec.structs.replace(POLICY, amounts=Amounts(per_job=Uint256(2 * 10**18)))
    story.blobs["policy"] = canonical.encode(policy)


def junk(role: str) -> Bend:
    def bend(story: Story) -> None:
        story.blobs[role] = b"{}"

    return bend


def release_of(job_id: Bytes32 | None, instances_hash: Bytes32 | None) -> Bend:
    def bend(story: Story) -> None:
        release = Release(job_id=job_id or story.job_id, instances_hash=instances_hash or story.instances_hash)
        story.blobs["release"] = canonical.encode(SignedRelease(release=release, signature=sign(story.job_id)))

    return bend


@pytest.mark.parametrize(
    ("bend", "expected"),
    [
        (release_of(None, None), set()),
        (release_of(Bytes32(bytes(32)), None), {("A-other-job", "release")}),
        (release_of(None, Bytes32(bytes(32))), {("A-release-instances", "release")}),
        (bend_verdict(outcome="INVALID"), {("A-verdict-differs", "verdict")}),
        (bend_verdict(assurance="rebuilt"), {("A-verdict-differs", "verdict")}),
        (bend_verdict(shown=["anything"]), {("A-verdict-differs", "verdict")}),
        (bend_terms_verdict, {("A-verdict-differs", "terms_verdict")}),
        (
            bend_bundle(proof=ProofBytes(b"\x78" * 64)),
            {("A-bundle-invalid", "bundle"), ("A-verdict-differs", "verdict")},
        ),
        (
            bend_bundle(outputs=((TensorInt(9), TensorInt(9)),)),
            {("A-bundle-invalid", "bundle"), ("A-verdict-differs", "verdict")},
        ),
        (other_role("bundle"), {("A-other-job", "bundle")}),
        (other_role("terms"), {("A-other-job", "terms"), ("A-other-job", "bundle")}),
        (other_role("verdict"), {("A-verdict-differs", "verdict")}),
        (bend_acceptance, {("A-acceptance", "terms")}),
        (
            swap_code,
            {
                ("A-bundle-invalid", "bundle"),
                ("A-verdict-differs", "verdict"),
                ("A-verdict-differs", "terms_verdict"),
            },
        ),
        (looser_policy, {("A-verdict-differs", "verdict"), ("A-verdict-differs", "terms_verdict")}),
        (junk("bundle"), {("V0-schema", "bundle")}),
        (junk("verdict"), {("V0-schema", "verdict")}),
        (junk("terms"), {("V0-schema", "terms")}),
        (junk("manifest"), {("V0-schema", "circuit or policy")}),
        (junk("policy"), {("V0-schema", "circuit or policy")}),
    ],
)
def test_false_content_under_a_sound_log_is_named(archive: Archive, bend: Bend, expected: set[tuple[str, str]]) -> None:
    """Trap: whoever keeps an archive can log anything; hashes alone show only that it was not altered since."""
    settled(archive, 40)
    story = Story(1)
    bend(story)
    story.log(archive)
    findings = audit(archive.folder).findings
    assert {(finding.code, finding.kind) for finding in findings} == expected
    assert {finding.entry for finding in findings} <= {2}


@pytest.mark.parametrize(
    ("kind", "event", "payload", "code"),
    [
        ("settled", "Released", b"\x01" * 32, "V3-evidence-released"),
        ("settled", "Reclaimed", None, "V3-evidence-released"),
        ("reclaimed", "Released", None, "V3-evidence-event"),
        ("declined", "Cancelled", None, "V3-evidence-event"),
        ("reclaimed", "Reclaimed", None, None),
        ("declined", "Declined", None, None),
        ("cancelled", "Cancelled", None, None),
    ],
)
def test_evidence_must_show_the_ending_that_the_entry_names(
    archive: Archive, kind: EntryKind, event: EventName, payload: bytes | None, code: str | None
) -> None:
    story = Story()
    story.log(archive)
    story.blobs["evidence"] = evidence_of(event, story.job_id, payload or story.instances_hash)
    story.log(archive, kind)
    report = audit(archive.folder)
    assert named(report.findings) == ([(code, 1, "evidence")] if code else [])
    assert report.evidenced == (0 if code else 1)


def test_evidence_of_another_job_is_named(archive: Archive) -> None:
    story = Story()
    story.blobs["evidence"] = evidence_of("Released", Story(2).job_id, story.instances_hash)
    story.blobs["evidence.funded"] = evidence_of("Funded", Story(2).job_id)
    story.log(archive, "settled")
    assert named(audit(archive.folder).findings) == [
        ("V3-evidence-released", 0, "evidence"),
        ("V3-evidence-event", 0, "evidence.funded"),
    ]


def test_the_auditor_s_own_policy_is_asked_too(archive: Archive) -> None:
    settled(archive, 1)
    strict = msgspec.structs.replace(POLICY, circuits={"*": CircuitRule()})
    findings = audit(archive.folder, policy=strict).findings
    assert {(finding.code, finding.kind) for finding in findings} == {("A-policy-refuses", "policy")}
    assert "V1-assurance" in findings[0].message


def test_a_job_that_ended_twice_is_noted(archive: Archive) -> None:
    story = settled(archive, 1)
    story.blobs["evidence"] = evidence_of("Reclaimed", story.job_id)
    story.log(archive, "reclaimed")
    report = audit(archive.folder)
    assert any(f"job {story.job_id} ended in more than one way" in note for note in report.notes)


def test_an_evm_that_does_not_run_is_no_damage(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: a fault on the auditor's machine must not read as damage, nor as a clean archive."""
    settled(archive, 1)

    def broken(*_: object, **__: object) -> None:
        raise UndecidedError("V7-engine", "the EVM failed")

    monkeypatch.setattr(sys.modules["verifier.verify"], "run_verifier", broken)
    report = audit(archive.folder)
    assert report.findings == []
    assert {finding.code for finding in report.undecided} == {"V7-engine"}
    assert not report.clean
    result = CliRunner().invoke(app, [str(archive.folder)])
    assert result.exit_code == 3


def test_command_prints_one_object_and_its_exit_code_tells(archive: Archive, tmp_path: Path) -> None:
    settled(archive, 1)
    runner = CliRunner()
    kept = tmp_path / "kept"
    kept.write_bytes(archive.signed_checkpoint())
    arguments = [str(archive.folder), "--key", str(KEY.verifier_key), "--checkpoint", str(kept)]
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["clean"], report["entries"], report["damage_found"]) == (True, 2, [])
    assert "CLEAN" in runner.invoke(app, arguments).stdout

    (archive.folder / "tile/entries/000.p/2").unlink()
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 1
    damage = json.loads(result.stdout)["damage_found"]
    assert set(damage[0]) == {"code", "entry", "kind", "digest", "message"}
    assert ("A-entry-missing", 1) in {(each["code"], each["entry"]) for each in damage}
    assert "DAMAGED" in runner.invoke(app, arguments).stdout


def test_a_key_that_is_none_is_a_usage_error(archive: Archive) -> None:
    result = CliRunner().invoke(app, [str(archive.folder), "--key", "junk"])
    assert result.exception is not None
    assert getattr(result.exception, "exit_code", None) == 2


AUDIT_ALONE = """
import socket, sys
def refuse(*_, **__): raise SystemExit("a socket was opened")
socket.socket = refuse
from verifier.archive.audit import audit
from pathlib import Path
report = audit(Path(sys.argv[1]))
foreign = {"web3", "eth_account", "ezkl", "celery", "httpx", "sqlalchemy", "py_ecc"} & set(sys.modules)
print(report.clean, report.verified, sorted(foreign))
"""


def test_audit_runs_in_a_process_without_network_and_without_the_extras(archive: Archive, tmp_path: Path) -> None:
    settled(archive, 1)
    shutil.copytree(archive.folder, tmp_path / "copy")
    done = subprocess.run(
        [sys.executable, "-c", AUDIT_ALONE, str(tmp_path / "copy")], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("True 1 []", 0), done.stderr
