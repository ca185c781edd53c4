"""The archive as a writer and a reader use it: appending, reading back, locking, tidying, and what it refuses."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from verifier.archive import keyfile, merkle, tiles
from verifier.archive.log import Archive
from verifier.archive.note import Checkpoint, SigningKey, VerifierKey, open_checkpoint
from verifier.errors import AuditError
from verifier.statement.canonical import encode, sha256
from verifier.statement.evidence import LogEntry
from verifier.statement.scalars import Bytes32, Timestamp

KEY = SigningKey.from_seed("payer.example/archive", bytes(range(32)))


def entry_of(number: int, *blobs: bytes) -> LogEntry:
    return LogEntry(
        kind="settled",
        job_id=sha256(b"job %d" % number),
        recorded_at=Timestamp(1_700_000_000 + number),
        digests={f"record.{at}": sha256(blob) for at, blob in enumerate(blobs)},
    )


def append_many(archive: Archive, first: int, last: int) -> None:
    for number in range(first, last):
        archive.append(entry_of(number))


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about contents; what is synced when is `test_faults`'s."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def test_what_was_appended_is_read_back_under_the_signed_checkpoint(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path / "archive", KEY)
    assert archive.append(entry_of(0, b"proof", b"policy"), [b"proof", b"policy"]) == 0
    assert archive.append(entry_of(1, b"policy")) == 1
    reader = Archive.open(tmp_path / "archive")
    assert list(reader.entries()) == [(0, entry_of(0, b"proof", b"policy")), (1, entry_of(1, b"policy"))]
    assert reader.entry(1) == entry_of(1, b"policy")
    assert reader.blob(sha256(b"proof")) == b"proof"
    checkpoint = open_checkpoint(reader.signed_checkpoint(), KEY.verifier_key)
    leaves = [merkle.leaf_hash(encode(entry)) for _, entry in reader.entries()]
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (KEY.verifier_key.name, 2, merkle.root(leaves))


def test_folder_has_the_layout_of_tlog_tiles(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path, KEY)
    append_many(archive, 0, 3)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    partial = {f"tile/{kind}/000.p/{width}" for kind in ("0", "entries") for width in (1, 2, 3)}
    assert names == {"checkpoint", "vkey", "lock"} | partial
    assert VerifierKey.parse((tmp_path / "vkey").read_text().strip()) == KEY.verifier_key


def test_growth_over_a_full_tile(tmp_path: Path) -> None:
    """Trap: at 256 entries the level above starts, and only then may the partial tiles go."""
    archive = Archive.create(tmp_path, KEY)
    append_many(archive, 0, 256)
    assert (tmp_path / "tile/0/000").stat().st_size == tiles.MAX_TILE_BYTES
    assert (tmp_path / "tile/1/000.p/1").read_bytes() == merkle.root(
        [merkle.leaf_hash(encode(entry_of(number))) for number in range(256)]
    )
    assert len(list((tmp_path / "tile/entries/000.p").iterdir())) == 255
    append_many(archive, 256, 260)
    assert not (tmp_path / "tile/entries/000.p").exists()
    assert not (tmp_path / "tile/0/000.p").exists()
    assert [entry for _, entry in archive.entries()] == [entry_of(number) for number in range(260)]
    assert archive.entry(255) == entry_of(255)
    assert archive.entry(259) == entry_of(259)
    leaves = [merkle.leaf_hash(encode(entry_of(number))) for number in range(260)]
    assert archive.checkpoint().root == merkle.root(leaves)


def test_an_older_checkpoint_is_shown_to_be_a_prefix(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path, KEY)
    append_many(archive, 0, 5)
    old = archive.checkpoint()
    append_many(archive, 5, 12)
    archive.check_extends(old)
    with pytest.raises(AuditError, match="A-consistency"):
        archive.check_extends(Checkpoint(old.origin, old.size, bytes(32)))
    with pytest.raises(AuditError, match="A-consistency"):
        archive.check_extends(Checkpoint(old.origin, 13, old.root))


def test_an_entry_whose_blob_is_nowhere_is_not_logged(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path, KEY)
    with pytest.raises(AuditError, match="A-blob-missing"):
        archive.append(entry_of(0, b"proof"), [b"another"])
    assert archive.checkpoint().size == 0


def test_a_damaged_blob_is_never_given_out_and_mended_by_its_own_bytes(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path, KEY)
    digest = archive.store(b"proof")
    where = tmp_path / "blobs" / digest.hex()[:2] / str(digest)
    where.write_bytes(b"prooF")
    with pytest.raises(AuditError, match="A-blob-damaged"):
        archive.blob(digest)
    with pytest.raises(AuditError, match="A-blob-damaged"):
        archive.append(entry_of(0, b"proof"))
    assert archive.append(entry_of(0, b"proof"), [b"proof"]) == 0
    assert archive.blob(digest) == b"proof"


def test_a_blob_that_is_a_link_or_a_pipe_is_refused(tmp_path: Path) -> None:
    """Trap: an archive under audit comes from somebody else; a pipe would hang its reader for ever."""
    archive = Archive.create(tmp_path / "archive", KEY)
    digest = archive.store(b"proof")
    where = tmp_path / "archive" / "blobs" / digest.hex()[:2] / str(digest)
    where.unlink()
    (tmp_path / "elsewhere").write_bytes(b"proof")
    where.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError, match="A-blob-damaged"):
        archive.blob(digest)
    where.unlink()
    os.mkfifo(where)
    with pytest.raises(AuditError, match="A-blob-damaged"):
        archive.blob(digest)


def test_a_blob_beyond_the_cap_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifier.archive.blobs.MAX_BLOB", 10)
    archive = Archive.create(tmp_path, KEY)
    with pytest.raises(AuditError, match="A-blob-size"):
        archive.store(b"eleven byte")


def test_an_entry_too_long_for_a_bundle_is_refused_and_the_log_stays(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path, KEY)
    archive.store(b"x")
    many = {f"record.{at}": sha256(b"x") for at in range(1000)}
    with pytest.raises(AuditError, match="A-entry-size"):
        archive.append(LogEntry(kind="intent", job_id=Bytes32(bytes(32)), recorded_at=Timestamp(1), digests=many))
    assert archive.append(entry_of(0)) == 0


def test_without_the_key_nothing_is_written(tmp_path: Path) -> None:
    Archive.create(tmp_path, KEY)
    reader = Archive.open(tmp_path)
    with pytest.raises(AuditError, match="A-read-only"):
        reader.append(entry_of(0))
    with pytest.raises(AuditError, match="A-read-only"):
        reader.store(b"x")
    with pytest.raises(AuditError, match="A-key-other"):
        Archive.open(tmp_path, SigningKey.generate(KEY.verifier_key.name))


def test_a_folder_without_an_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="A-none"):
        Archive.open(tmp_path / "nowhere")


def test_an_archive_is_never_created_over_another(tmp_path: Path) -> None:
    """Trap: a lost checkpoint file must not make the service start a second history over the first."""
    Archive.create(tmp_path, KEY).append(entry_of(0))
    with pytest.raises(AuditError, match="A-exists"):
        Archive.create(tmp_path, KEY)
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(AuditError, match="A-exists"):
        Archive.create(tmp_path, KEY)
    with pytest.raises(AuditError, match="A-file-missing"):
        Archive.open_or_create(tmp_path, KEY)


def test_open_or_create_finds_what_it_made(tmp_path: Path) -> None:
    assert Archive.open_or_create(tmp_path / "a/b", KEY).append(entry_of(0)) == 0
    assert Archive.open_or_create(tmp_path / "a/b", KEY).append(entry_of(1)) == 1


def test_a_second_writer_waits_and_is_told_who_blocks_it(tmp_path: Path) -> None:
    Archive.create(tmp_path, KEY)
    archive = Archive.open(tmp_path, KEY, patience=0)
    with (tmp_path / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="A-locked"):
            archive.append(entry_of(0))
        assert list(archive.entries()) == []
    assert archive.append(entry_of(0)) == 0


def test_writers_take_turns(tmp_path: Path) -> None:
    Archive.create(tmp_path, KEY)
    indices: list[int] = []

    def write(start: int) -> None:
        archive = Archive.open(tmp_path, KEY)
        indices.extend(archive.append(entry_of(number)) for number in range(start, start + 10))

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(indices) == list(range(40))
    assert {entry.recorded_at for _, entry in Archive.open(tmp_path).entries()} == {
        1_700_000_000 + number for number in range(40)
    }


def test_an_archive_put_back_to_an_older_copy_is_not_written_on(tmp_path: Path) -> None:
    """Trap: a log that goes on from an old copy signs two histories."""
    archive = Archive.create(tmp_path / "live", KEY)
    archive.append(entry_of(0))
    shutil.copytree(tmp_path / "live", tmp_path / "old")
    archive.append(entry_of(1))
    shutil.copy(tmp_path / "old/checkpoint", tmp_path / "live/checkpoint")
    with pytest.raises(AuditError, match="A-rollback"):
        archive.append(entry_of(2))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tile/0/000.p/3", "A-root"),
        ("tile/entries/000.p/3", "A-entry-altered"),
        ("checkpoint", "A-signature"),
    ],
)
def test_nothing_is_signed_over_damage(tmp_path: Path, name: str, code: str) -> None:
    archive = Archive.create(tmp_path, KEY)
    append_many(archive, 0, 3)
    raw = bytearray((tmp_path / name).read_bytes())
    raw[6] ^= 1
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(AuditError, match=code):
        archive.append(entry_of(3))
    with pytest.raises(AuditError, match=code):
        list(archive.entries())


def test_a_missing_bundle_stops_a_reader(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path, KEY)
    append_many(archive, 0, 3)
    (tmp_path / "tile/entries/000.p/3").unlink()
    with pytest.raises(AuditError, match="A-file-missing"):
        list(archive.entries())


def test_only_the_owner_can_read_an_archive(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path / "archive", KEY)
    archive.append(entry_of(0, b"proof"), [b"proof"])
    for path in [tmp_path / "archive", *(tmp_path / "archive").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "archive.key"
    key = keyfile.load_or_create_signing_key(path, "provider.example")
    assert keyfile.load_or_create_signing_key(path, "provider.example") == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o640)
    with pytest.raises(AuditError, match="A-key-rights"):
        keyfile.load_signing_key(path)


def test_a_key_file_with_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.key"
    for content in (b"", b"\xff", b"PRIVATE+KEY+a", b"x" * 2000):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(AuditError, match=r"A-key|A-file-size"):
            keyfile.load_signing_key(path)
