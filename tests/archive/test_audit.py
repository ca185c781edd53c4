"""The audit re-verifies what an archive holds: a sound one is clean, and each kind of false content is named.

The circuit is a toy whose code accepts one proof for any instances, so that nothing of ezkl is needed. The evidence of
a chain is made here too, from one transaction and one receipt in tries of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rlp  # type: ignore[import-untyped]  # it has no types
from eth_account import Account
from eth_typing import Hash32
from trie.hexary import HexaryTrie
from typer.testing import CliRunner

from verifier.archive.audit import audit
from verifier.archive.findings import Finding
from verifier.archive.log import Archive
from verifier.archive.note import SigningKey
from verifier.chain_evidence import TOPICS, EventName
from verifier.circuit import Circuit
from verifier.cli.audit import app
from verifier.errors import UndecidedError
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.policy import Amounts, Chains, CircuitRule, Escrow, Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, ProofBytes, Receipt
from verifier.statement.eip712 import escrow_domain
from verifier.statement.evidence import ChainEvidence, EntryKind, LogEntry
from verifier.statement.manifest import CircuitManifest, EvmVerifier, SolcSettings, SrsDigest, TensorSpec
from verifier.statement.scalars import (
    Address,
    Bytes32,
    Count,
    HexBytes,
    Measure,
    Signature,
    TensorInt,
    Text,
    Timestamp,
    Uint256,
)
from verifier.statement.terms import (
    Acceptance,
    JobTerms,
    ProofRule,
    Release,
    SignedRelease,
    SignedTerms,
    input_commitment,
)
from verifier.verify import check_terms, verify

KEY = SigningKey.from_seed("payer.example/archive", bytes(range(32)))
PROVIDER = Account.from_key(b"\x01" * 32)
PROVIDER_ADDRESS = Address(bytes.fromhex(PROVIDER.address[2:]))
ESCROW, TOKEN = Address(b"\xe5" * 20), Address(b"\x70" * 20)
DOMAIN = escrow_domain(31337, ESCROW)
PROOF = ProofBytes(b"\x77" * 64)
POLICY = Policy(
    chains=Chains(escrows=(Escrow(chain_id=Count(31337), escrow=ESCROW, token=TOKEN),), dev_chains=(Count(31337),)),
    circuits={"*": CircuitRule(assurance="unattested")},
)


def sign(digest: Bytes32) -> Signature:
    return Signature(bytes(PROVIDER.unsafe_sign_hash(Hash32(bytes(digest))).signature))


def toy_code() -> bytes:
    """Accepts any calldata whose first proof word, behind the four words of the head, is 0x7777…: no job, one proof."""
    return bytes.fromhex("6064357f") + PROOF[:32] + bytes.fromhex("145f5260205ff3")


def manifest_of(code: bytes) -> CircuitManifest:
    some = Bytes32(b"\x05" * 32)
    spec = {"shape": (Count(2),), "dtype": "float32", "scale": Count(7), "length": Count(2)}
    return CircuitManifest(
        ezkl_version=Text("23.0.5"),
        onnx_sha256=some,
        run_args_sha256=some,
        settings_sha256=some,
        vk_sha256=some,
        srs=SrsDigest(logrows=Count(15), sha256=some, sha256_k1=some),
        visibility="public",
        inputs=(TensorSpec(name=Text("x"), offset=Count(0), **spec),),  # type: ignore[arg-type]  # the fields' union
        outputs=(TensorSpec(name=Text("y"), offset=Count(13), **spec),),  # type: ignore[arg-type]  # the fields' union
        n_instances=Count(15),
        proof_len=Count(len(PROOF)),
        value_bound=Uint256(2**30),
        evm=EvmVerifier(
            solc=SolcSettings(
                version=Text("0.8.20"),
                evm_version=Text("shanghai"),
                optimizer_runs=Count(1),
                via_ir=False,
                append_cbor=True,
            ),
            revision=Text("SHANGHAI"),
            code_hash=keccak256(code),
            gas=Count(100_000),
        ),
    )


@dataclass
class Story:
    """One job as a payer archives it: blobs by role, which a test may bend before they are logged."""

    salt: int = 1
    blobs: dict[str, bytes] = field(default_factory=dict)
    job_id: Bytes32 = field(init=False)
    bundle: ProofBundle = field(init=False)

    def __post_init__(self) -> None:
        inputs, outputs = ((TensorInt(3), TensorInt(-4)),), ((TensorInt(5), TensorInt(self.salt)),)
        code = toy_code()
        manifest = manifest_of(code)
        words = claimed_inputs(inputs)
        terms = JobTerms(
            payer=Address(b"\xaa" * 20),
            provider=PROVIDER_ADDRESS,
            payee=Address(b"\xbb" * 20),
            token=TOKEN,
            amount=Uint256(10**18),
            circuit_id=manifest.circuit_id,
            rule=ProofRule.derive(manifest, Address(b"\xcc" * 20)),
            input_commitment=input_commitment(words),
            fund_by=Timestamp(1_800_000_000),
            deadline=Timestamp(1_800_001_000),
            salt=Bytes32(self.salt.to_bytes(32)),
        )
        self.job_id = terms.job_id(DOMAIN)
        acceptance = sign(Acceptance(job_id=self.job_id).digest(DOMAIN))
        draft = ProofBundle(
            origin="delivered",
            domain=DOMAIN,
            terms=terms,
            circuit_id=manifest.circuit_id,
            inputs=inputs,
            outputs=outputs,
            proof=PROOF,
            acceptance=acceptance,
            delivery=acceptance,
            receipt=Receipt(
                engine=Text("ezkl 23.0.5"),
                device=Text("cpu"),
                prove_seconds=Measure("1.5"),
                peak_memory_bytes=Count(1),
            ),
        )
        delivery = draft.delivery_message(keccak256(claimed_words(draft)))
        self.bundle = msgspec.structs.replace(draft, delivery=sign(delivery.digest(DOMAIN)))
        circuit = Circuit(manifest=manifest, code=code)
        signed = SignedTerms(domain=DOMAIN, terms=terms, acceptance=acceptance)
        self.blobs = {
            "bundle": canonical.encode(self.bundle),
            "verdict": canonical.encode(verify(self.bundle, circuit, POLICY)),
            "terms": canonical.encode(signed),
            "terms_verdict": canonical.encode(check_terms(terms, DOMAIN, circuit, POLICY)),
            "policy": canonical.encode(POLICY),
            "manifest": canonical.encode(manifest),
            "code": code,
        }

    @property
    def instances_hash(self) -> Bytes32:
        return keccak256(claimed_words(self.bundle))

    def log(self, archive: Archive, kind: EntryKind = "intent", without: tuple[str, ...] = ()) -> int:
        blobs = {role: blob for role, blob in self.blobs.items() if role not in without}
        digests = {role: canonical.sha256(blob) for role, blob in blobs.items()}
        entry = LogEntry(kind=kind, job_id=self.job_id, recorded_at=Timestamp(1_800_000_100), digests=digests)
        return archive.append(entry, blobs.values())


def claimed_inputs(inputs: tuple[tuple[TensorInt, ...], ...]) -> bytes:
    return b"".join(int(value.to_field()).to_bytes(32) for tensor in inputs for value in tensor)


def evidence_of(event: EventName, job_id: Bytes32, payload: bytes = b"") -> bytes:
    """A block with one transaction, whose receipt has one event of the escrow."""
    transaction = b"\x02" + rlp.encode(
        [b"\x7a\x69", b"", b"", b"", b"", bytes(ESCROW), b"", b"", [], b"", b"\x01", b"\x01"]
    )
    log = [bytes(ESCROW), [bytes(TOPICS[event]), bytes(job_id)], payload]
    receipt = b"\x02" + rlp.encode([b"\x01", b"\x52\x08", bytes(256), [log]])
    roots, proof = [], []
    for value in (transaction, receipt):
        trie = HexaryTrie({})
        trie[rlp.encode(0)] = value
        roots.append(trie.root_hash)
        proof.append(trie.db[trie.root_hash])
    header = (
        [bytes(32)] * 4 + roots + [bytes(256), b"", b"\x07", b"", b"", b"\x65\x00\x00\x00", b"", bytes(32), bytes(8)]
    )
    return canonical.encode(
        ChainEvidence(
            chain_id=Count(31337),
            transaction=HexBytes(transaction),
            receipt=HexBytes(receipt),
            receipt_proof=(HexBytes(proof[1]), HexBytes(proof[0])),
            index=Count(0),
            header=HexBytes(rlp.encode(header)),
            source=Text("a node of the payer's"),
        )
    )


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about contents; what is synced when is `test_faults`'s."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.create(tmp_path / "archive", KEY)


def settled(archive: Archive, salt: int) -> Story:
    """A job as it should be: intent, then settled with the evidence of funding and release."""
    story = Story(salt)
    story.log(archive)
    story.blobs["evidence"] = evidence_of("Released", story.job_id, story.instances_hash)
    story.blobs["evidence.funded"] = evidence_of("Funded", story.job_id)
    story.log(archive, "settled")
    return story


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
