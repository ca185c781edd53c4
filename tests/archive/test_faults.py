"""An archive cut off at every single file operation, by a crash or a power cut, opens again and is whole.

`FaultyDisk` stands for `os` in the one module that changes files. A crash keeps all that was written; a power cut takes
back what was not synced: all of it, or any part.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from verifier.archive import files
from verifier.archive.log import Archive
from verifier.archive.note import Checkpoint, SigningKey
from verifier.archive.structure import check_structure
from verifier.errors import AuditError
from verifier.statement.canonical import sha256
from verifier.statement.evidence import LogEntry
from verifier.statement.scalars import Timestamp

KEY = SigningKey.from_seed("payer.example/archive", bytes(range(32)))
CRASH, CUT_ALL = "crash", "cut-all"
ENDINGS = [CRASH, CUT_ALL, "cut-1", "cut-2"]


class Crash(BaseException):
    """The process is gone: no handler of `Exception` or `OSError` may see this."""


class FaultyDisk:
    """Passes calls on to `os`, ends the process at operation `limit`, and knows what was not synced by then."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.done = 0
        self.pending: list[tuple[Path, Callable[[], None]]] = []
        self.opened: dict[int, Path] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _step(self) -> None:
        if self.done == self.limit:
            raise Crash
        self.done += 1

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            self._step()
            self.pending.append((path.parent, lambda: path.unlink(missing_ok=True)))
        descriptor = os.open(path, flags, mode)
        self.opened[descriptor] = path
        return descriptor

    def write(self, descriptor: int, content: bytes) -> int:
        if self.done == self.limit:
            os.write(descriptor, content[: len(content) // 2])
        self._step()
        path = self.opened[descriptor]
        inode = os.fstat(descriptor).st_ino
        self.pending.append((path, lambda: empty_inode(path, inode)))
        return os.write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        self._step()
        synced = self.opened[descriptor]
        self.pending = [(where, undo) for where, undo in self.pending if where != synced]

    def mkdir(self, path: Path, mode: int) -> None:
        self._step()
        os.mkdir(path, mode)  # noqa: PTH102 - this class stands for os
        self.pending.append((path.parent, lambda: shutil.rmtree(path, ignore_errors=True)))

    def replace(self, source: Path, target: Path) -> None:
        self._step()
        before = target.read_bytes() if target.exists() else None
        os.replace(source, target)  # noqa: PTH105 - this class stands for os
        self.pending.append((target.parent, lambda: put_back(target, before)))

    def unlink(self, path: Path) -> None:
        self._step()
        os.unlink(path)  # noqa: PTH108 - this class stands for os

    def rmdir(self, path: Path) -> None:
        self._step()
        os.rmdir(path)  # noqa: PTH106 - this class stands for os

    def power_cut(self, ending: str) -> None:
        """Take back the changes that were not synced, the newest first: all, or by a seed each with even odds."""
        chance = random.Random(ending)  # noqa: S311 - a seeded choice of what a disk loses
        for _, undo in reversed(self.pending):
            if ending == CUT_ALL or chance.random() < 0.5:
                undo()


def empty_inode(path: Path, inode: int) -> None:
    """The bytes that were written to a file never reached the disk, under whatever name it has now."""
    for folder in (path.parent, path.parent.parent):
        for each in folder.rglob("*"):
            if each.is_file() and each.stat().st_ino == inode:
                each.write_bytes(b"")


def put_back(target: Path, before: bytes | None) -> None:
    if before is None:
        target.unlink(missing_ok=True)
    elif target.parent.is_dir():
        target.write_bytes(before)


@contextmanager
def disk(limit: int) -> Iterator[FaultyDisk]:
    """Run with a disk that fails; the module's own `os` comes back after it."""
    with pytest.MonkeyPatch.context() as patch:
        faulty = FaultyDisk(limit)
        patch.setattr(files, "os", faulty)
        yield faulty


def entry_of(number: int, size: int = 2000) -> tuple[LogEntry, list[bytes]]:
    blobs = [b"%d" % number * size, b"policy"]
    digests = {"bundle": sha256(blobs[0]), "policy": sha256(blobs[1])}
    return (
        LogEntry(kind="settled", job_id=sha256(b"%d" % number), recorded_at=Timestamp(number), digests=digests),
        blobs,
    )


def scenery_of(number: int) -> LogEntry:
    return LogEntry(kind="declined", job_id=sha256(b"%d" % number), recorded_at=Timestamp(number), digests={})


def until_it_ends(action: Callable[[], None], prepare: Callable[[], None], check: Callable[[bool, str], None]) -> int:
    """Cut the action off at operation 0, 1, 2 … in every way until it gets through; the number of operations it has."""
    limit = 0
    while True:
        finished = False
        for ending in ENDINGS:
            prepare()
            with disk(limit) as faulty:
                try:
                    action()
                    finished = True
                except Crash:
                    finished = False
                if ending != CRASH:
                    faulty.power_cut(ending)
            check(finished, ending)
        if finished:
            return limit
        limit += 1


@pytest.mark.parametrize("before", [0, 3, 255, 256])
def test_append_cut_off_anywhere_leaves_the_old_log_or_the_new_one(tmp_path: Path, before: int) -> None:
    """Trap: at 255 a tile becomes full and a level starts, at 256 the next append tidies the partial ones away."""
    start, live = tmp_path / "start", tmp_path / "live"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        archive = Archive.create(start, KEY)
        for number in range(before):
            archive.append(scenery_of(number))
    old = archive.checkpoint()
    for path in start.glob("tile/*/000.p/*"):
        # Of many older partial files a few show as much, and each would be an operation when they are tidied away.
        if int(path.name) not in {1, 2, 3, 254, 255}:
            path.unlink()
    reached: set[int] = set()

    def prepare() -> None:
        shutil.rmtree(live, ignore_errors=True)
        shutil.copytree(start, live)

    def append() -> None:
        assert Archive.open(live, KEY).append(*entry_of(before)) == before

    def check(finished: bool, ending: str) -> None:
        found = check_structure(live, KEY.verifier_key)
        assert found.findings == []
        assert found.checkpoint is not None
        assert len(found.entries) == found.checkpoint.size
        assert found.checkpoint.size == before + 1 if finished else found.checkpoint.size in (before, before + 1)
        reached.add(found.checkpoint.size)
        again = Archive.open(live, KEY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _descriptor: None)
            assert again.append(*entry_of(before + 7)) == found.checkpoint.size
        assert check_structure(live).findings == []
        if old.size:
            again.check_extends(old)

    operations = until_it_ends(append, prepare, check)
    assert operations > 20
    assert reached == {before, before + 1}


def test_creation_cut_off_anywhere_is_finished_by_the_next_one(tmp_path: Path) -> None:
    live = tmp_path / "live"

    def check(finished: bool, ending: str) -> None:
        archive = Archive.open_or_create(live, KEY)
        assert archive.checkpoint() == Checkpoint(KEY.verifier_key.name, 0, archive.checkpoint().root)
        assert archive.append(*entry_of(0)) == 0
        assert check_structure(live, KEY.verifier_key).findings == []

    def create() -> None:
        Archive.create(live, KEY)

    until_it_ends(create, lambda: shutil.rmtree(live, ignore_errors=True), check)


def test_a_disk_that_refuses_is_an_error_and_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive.create(tmp_path, KEY)

    def full(_descriptor: int, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(AuditError, match=r"A-write.*No space left"):
            archive.append(*entry_of(0))
    assert archive.append(*entry_of(0)) == 0
    assert check_structure(tmp_path).findings == []
