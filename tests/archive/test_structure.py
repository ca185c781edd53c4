"""Damage of every kind to a sound archive: each piece is found and named, all of it at once, and nothing else is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from verifier.archive import merkle, tiles
from verifier.archive.findings import Finding
from verifier.archive.log import Archive
from verifier.archive.note import Checkpoint, SigningKey, sign_checkpoint
from verifier.archive.structure import check_structure
from verifier.errors import AuditError
from verifier.statement.canonical import encode, sha256
from verifier.statement.evidence import LogEntry
from verifier.statement.scalars import Timestamp

KEY = SigningKey.from_seed("payer.example/archive", bytes(range(32)))
SMALL = 7
LARGE = 260


def proof_of(number: int) -> bytes:
    return b"proof %d" % number


def entry_of(number: int) -> LogEntry:
    return LogEntry(
        kind="settled",
        job_id=sha256(b"job %d" % number),
        recorded_at=Timestamp(1_700_000_000 + number),
        digests={"bundle": sha256(proof_of(number)), "manifest": sha256(b"manifest")},
    )


def leaf_of(number: int) -> bytes:
    return merkle.leaf_hash(encode(entry_of(number)))


def build(folder: Path, size: int) -> None:
    archive = Archive.create(folder, KEY)
    for number in range(size):
        archive.append(entry_of(number), [proof_of(number), b"manifest"])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        build(folder / "small", SMALL)
        build(folder / "large", LARGE)
    return folder


@pytest.fixture
def small(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound / "small", tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def large(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound / "large", tmp_path / "archive")
    return tmp_path / "archive"


def flip(path: Path, at: int = 5) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def blob_path(folder: Path, content: bytes) -> Path:
    digest = sha256(content)
    return folder / "blobs" / digest.hex()[:2] / str(digest)


def drop_entry(folder: Path, number: int) -> None:
    """Take one entry out of every entry bundle of its width and wider."""
    for path in (folder / "tile/entries/000.p").iterdir():
        entries = tiles.split_entries(path.read_bytes(), where="x")
        if len(entries) > number:
            path.write_bytes(tiles.join_entries(entries[:number] + entries[number + 1 :]))


def drop_hash(folder: Path, number: int) -> None:
    path = folder / f"tile/0/000.p/{SMALL}"
    raw = path.read_bytes()
    path.write_bytes(raw[: 32 * number] + raw[32 * (number + 1) :])


def named(findings: list[Finding]) -> list[tuple[str, int | None, str]]:
    return [(finding.code, finding.entry, finding.kind) for finding in findings]


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_sound_archive_has_no_findings(sound: Path, size: str) -> None:
    found = check_structure(sound / size, KEY.verifier_key)
    assert found.findings == []
    assert [entry for _, entry in found.entries] == [entry_of(number) for number, _ in found.entries]
    assert len(found.entries) == {"small": SMALL, "large": LARGE}[size]


def test_an_empty_archive_is_sound(tmp_path: Path) -> None:
    Archive.create(tmp_path, KEY)
    assert check_structure(tmp_path).findings == []


def test_no_archive_is_said(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="A-none"):
        check_structure(tmp_path)


def test_a_flipped_byte_in_a_blob_names_blob_and_entry(small: Path) -> None:
    flip(blob_path(small, proof_of(3)))
    (finding,) = check_structure(small).findings
    assert (finding.code, finding.entry, finding.kind) == ("A-blob-damaged", 3, "bundle")
    assert finding.digest == sha256(proof_of(3))
    assert str(finding.digest) in finding.message


def test_a_blob_of_many_entries_is_named_once_with_all_of_them(small: Path) -> None:
    blob_path(small, b"manifest").unlink()
    (finding,) = check_structure(small).findings
    assert (finding.code, finding.entry, finding.kind) == ("A-blob-missing", 0, "manifest")
    assert "0, 1, 2, 3, 4 and 2 more" in finding.message


@pytest.mark.parametrize("number", range(SMALL))
def test_an_entry_taken_out_of_the_bundles_is_named(small: Path, number: int) -> None:
    drop_entry(small, number)
    findings = named(check_structure(small).findings)
    assert ("A-entry-missing", number, "entry") in findings
    assert {entry for code, entry, _ in findings if code == "A-entry-missing"} == {number}


@pytest.mark.parametrize("number", range(SMALL - 1))
def test_an_entry_taken_out_of_bundles_and_tile_is_named_by_the_older_tiles(small: Path, number: int) -> None:
    """Trap: bundle and tile agree with each other; only the root, and what older files say, tell."""
    drop_entry(small, number)
    drop_hash(small, number)
    findings = named(check_structure(small).findings)
    assert ("A-entry-missing", number, "entry") in findings
    assert {entry for code, entry, _ in findings if code == "A-entry-missing"} == {number}


def test_an_entry_taken_out_everywhere_still_breaks_the_count(small: Path) -> None:
    drop_entry(small, 2)
    drop_hash(small, 2)
    for width in range(1, SMALL):
        (small / f"tile/0/000.p/{width}").unlink()
        (small / f"tile/entries/000.p/{width}").unlink()
    codes = {finding.code for finding in check_structure(small).findings}
    assert codes == {"A-bundle", "A-tile"}


def test_a_removed_bundle_file_costs_only_the_entry_that_no_older_file_has(small: Path) -> None:
    (small / f"tile/entries/000.p/{SMALL}").unlink()
    found = check_structure(small)
    assert named(found.findings) == [
        ("A-file-missing", 0, "entry"),
        ("A-entry-missing", SMALL - 1, "entry"),
    ]
    assert [at for at, _ in found.entries] == list(range(SMALL - 1))


def test_a_log_cut_back_under_its_old_checkpoint_is_seen(small: Path) -> None:
    """The newest entry's files are gone and the older ones are untouched: count and root tell."""
    (small / f"tile/entries/000.p/{SMALL}").unlink()
    (small / f"tile/0/000.p/{SMALL}").unlink()
    findings = named(check_structure(small).findings)
    assert ("A-file-missing", 0, "entry") in findings
    assert ("A-file-missing", 0, "tile") in findings


@pytest.mark.parametrize("number", [0, 3, SMALL - 1])
def test_an_altered_entry_is_named_with_the_hash_it_should_have(small: Path, number: int) -> None:
    path = small / f"tile/entries/000.p/{SMALL}"
    entries = tiles.split_entries(path.read_bytes(), where="x")
    entries[number] = entries[number].replace(b"settled", b"decline")
    path.write_bytes(tiles.join_entries(entries))
    (finding,) = check_structure(small).findings
    assert (finding.code, finding.entry, finding.digest) == ("A-entry-altered", number, leaf_of(number))


def test_a_rewritten_entry_with_a_tile_to_match_is_seen(small: Path) -> None:
    """Trap: bundle and tile were rewritten together; the signed root and the older tiles convict them."""
    path = small / f"tile/entries/000.p/{SMALL}"
    entries = tiles.split_entries(path.read_bytes(), where="x")
    entries[3] = entries[3].replace(b"settled", b"declined")
    path.write_bytes(tiles.join_entries(entries))
    (small / f"tile/0/000.p/{SMALL}").write_bytes(b"".join(merkle.leaf_hash(entry) for entry in entries))
    findings = named(check_structure(small).findings)
    assert ("A-root", None, "checkpoint") in findings
    assert ("A-tile-damaged", 3, "tile") in findings


def test_swapped_entries_are_seen(small: Path) -> None:
    path = small / f"tile/entries/000.p/{SMALL}"
    entries = tiles.split_entries(path.read_bytes(), where="x")
    path.write_bytes(tiles.join_entries([*entries[:2], entries[3], entries[2], *entries[4:]]))
    assert named(check_structure(small).findings) == [("A-entry-order", 2, "entry")]


def test_an_added_entry_is_seen(small: Path) -> None:
    path = small / f"tile/entries/000.p/{SMALL}"
    path.write_bytes(path.read_bytes() + tiles.join_entries([b"{}"]))
    assert ("A-entry-added", 0, "entry") in named(check_structure(small).findings)


def test_a_logged_entry_of_another_form_is_named(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path, KEY)
    with archive._locked():
        archive._append(b'{"schema":"opgate/entry/9"}')
    assert named(check_structure(tmp_path).findings) == [("A-entry-form", 0, "entry")]


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/000", "tile/1/000.p/1", "tile/0/001.p/4"])
def test_a_flipped_byte_in_the_log_is_named_and_only_that(large: Path, name: str) -> None:
    flip(large / name)
    findings = named(check_structure(large).findings)
    assert findings
    kind = "entry" if "entries" in name else "tile"
    assert {finding[2] for finding in findings} == {kind}
    assert {finding[1] for finding in findings} <= {256 if "001" in name else 0}


def test_a_removed_full_bundle_and_tile_are_named_as_a_range(large: Path) -> None:
    (large / "tile/0/000").unlink()
    (large / "tile/entries/000").unlink()
    findings = check_structure(large).findings
    assert named(findings) == [("A-entry-missing", 0, "entry")]
    assert "entries 0 to 255" in findings[0].message


def test_all_damage_is_collected(large: Path) -> None:
    flip(blob_path(large, proof_of(3)))
    blob_path(large, proof_of(258)).unlink()
    flip(large / "tile/entries/001.p/4", 60)
    flip(large / "tile/0/000", 32 * 9)
    flip(large / "checkpoint", -10)
    flip(large / "vkey", 3)
    codes = [finding.code for finding in check_structure(large, KEY.verifier_key).findings]
    assert {"A-key", "A-signature", "A-entry-altered", "A-tile-damaged", "A-blob-damaged", "A-blob-missing"} == set(
        codes
    )
    assert len(codes) == 6


Change = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda raw: raw.replace(b"\n7\n", b"\n6\n"), "A-signature"),
        (lambda raw: raw.replace(b"\n7\n", b"\n%d\n" % (1 << 60)), "A-signature"),
        (lambda raw: raw[:-2], "A-note"),
        (lambda _: b"", "A-note"),
        (lambda _: b"\xff\xfe", "A-note"),
        (lambda _: sign_checkpoint(Checkpoint(KEY.verifier_key.name, 1 << 60, bytes(32)), KEY), "A-entry-missing"),
        (lambda _: sign_checkpoint(Checkpoint("other", 7, bytes(32)), KEY), "A-origin"),
    ],
)
def test_a_bent_checkpoint_is_named_and_the_rest_still_checked(small: Path, change: Change, code: str) -> None:
    """Trap: a checkpoint that claims 2^60 entries must not keep the auditor busy for years."""
    path = small / "checkpoint"
    path.write_bytes(change(path.read_bytes()))
    flip(blob_path(small, proof_of(1)))
    codes = {finding.code for finding in check_structure(small).findings}
    assert {code, "A-blob-damaged"} <= codes


@pytest.mark.parametrize("name", ["checkpoint", "vkey"])
def test_a_missing_head_is_named_and_the_rest_still_checked(small: Path, name: str) -> None:
    (small / name).unlink()
    flip(blob_path(small, proof_of(1)))
    found = check_structure(small)
    assert {finding.code for finding in found.findings} == {"A-file-missing", "A-blob-damaged"}
    assert len(found.entries) == SMALL


def test_another_keeper_s_archive_is_not_taken_for_this_one(small: Path) -> None:
    other = SigningKey.generate(KEY.verifier_key.name)
    codes = [finding.code for finding in check_structure(small, other.verifier_key).findings]
    assert codes == ["A-key-other", "A-unsigned"]


def test_a_log_cut_back_and_signed_anew_is_seen_by_who_kept_a_checkpoint(small: Path) -> None:
    """Trap: whoever holds the signing key can make a shorter log that is sound in itself."""
    seen = (small / "checkpoint").read_bytes()
    leaves = [leaf_of(number) for number in range(SMALL - 1)]
    shorter = Checkpoint(KEY.verifier_key.name, SMALL - 1, merkle.root(leaves))
    (small / "checkpoint").write_bytes(sign_checkpoint(shorter, KEY))
    assert check_structure(small).findings == []
    assert named(check_structure(small, seen=seen).findings) == [("A-cut-back", SMALL - 1, "checkpoint")]


def test_a_log_that_grew_holds_against_the_kept_checkpoint(small: Path) -> None:
    seen = (small / "checkpoint").read_bytes()
    Archive.open(small, KEY).append(entry_of(3))
    assert check_structure(small, KEY.verifier_key, seen=seen).findings == []
    forged = sign_checkpoint(Checkpoint(KEY.verifier_key.name, SMALL, bytes(32)), KEY)
    assert named(check_structure(small, seen=forged).findings) == [("A-rewritten", None, "checkpoint")]
    assert named(check_structure(small, seen=b"junk").findings) == [("A-note", None, "earlier checkpoint")]


def test_what_an_interrupted_append_left_is_no_damage(small: Path, sound: Path) -> None:
    """Trap: tiles of an entry that was never published."""
    shutil.copy(sound / "large/tile/0/000", small / f"tile/0/000.p/{SMALL + 1}")
    (small / "tmp/abc").write_bytes(b"half")
    found = check_structure(small)
    assert found.findings == []
    assert any("beyond the checkpoint" in note for note in found.notes)
