"""Many bundle files, verified by processes that live long: one a core, replaced when one dies, memory flat.

A bundle that its process dies on, or overruns its time on, is tried once more by a process that has nothing else; if
that dies too the verdict is UNDECIDED (V7-died, V7-wall), and the other bundles go on. What decides is `judge` in each
process, the same code as for one bundle. Verdicts come in the order of the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from verifier.archive.blobs import BlobStore
from verifier.archive.log import CHECKPOINT, Archive
from verifier.errors import UndecidedError, UsageError
from verifier.judge import unread
from verifier.statement import canonical
from verifier.statement.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "verifier.bulk_worker")
"""-P: a folder named verifier where the reader stands must not be what verifies."""
MEMORY_BYTES = 2 << 30
"""Address space of one process: a bundle has at most 4 MiB and its code at most 16 million gas."""
WALL_S = 60.0
"""For one bundle; the longest code that step 7 runs takes some seconds."""
_START_S = 60.0
_DEPTH = 16
"""Bundles given to a process before it answered the first, so that it never waits for us."""
_PIPE = 1 << 15
"""Bytes of requests that a process has not answered: half of what a pipe holds, so that writing never waits."""
_PAUSE_S = 0.1
"""At most so long between two looks at the answers: each look takes a core from a process that verifies."""
_AHEAD = 512
"""Bundles that may be judged before an earlier one that is tried again: what is held in memory."""
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class Task:
    """What each process is told: everything that a verdict depends on beside the bundle.

    `policy` is canonical JSON, `circuits` a folder or URL, `alarms` a folder.
    """

    circuits: str
    policy: str
    alarms: str
    second_opinion: tuple[str, ...] = ()


class Judged(NamedTuple):
    """One file's verdict; `alarm` is where both inputs of a disagreement are kept."""

    name: str
    verdict: Verdict
    alarm: str | None


class _Item(NamedTuple):
    at: int
    name: str
    request: bytes


@dataclass
class Tally:
    """What happened beside the verdicts: processes started anew, and bundles that were tried again."""

    restarts: int = 0
    retried: int = 0


def bundle_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each bundle: of an archive's entries in order, else the ``*.json`` that lie in a folder.

    Nothing is held in memory but an archive's tree. Files of a folder come in the order in which the system lists them.

    Raises:
        AuditError: A-… where an archive is damaged: its entries would name other bundles.
    """
    if is_archive(folder):
        store = BlobStore(folder.absolute(), staging=folder)
        for at, entry in Archive.open(folder).entries():
            if "bundle" in entry.digests:
                yield f"entry {at}", store.path(entry.digests["bundle"])
        return
    with os.scandir(folder) as listed:
        for each in listed:
            if each.name.endswith(".json"):
                yield each.name, folder / each.name


def is_archive(folder: Path) -> bool:
    """True where this is the folder of an archive."""
    return (folder / CHECKPOINT).is_file() and (folder / "blobs").is_dir()


def verify_all(
    task: Task, files: Iterator[tuple[str, Path]], *, jobs: int, tally: Tally | None = None
) -> Iterator[Judged]:
    """The verdict of each file, in the order of the files.

    Args:
        task: what every bundle is held against.
        files: name and path of each; taken as they are needed.
        jobs: the number of processes.
        tally: counts restarts and retries, for whoever wants to tell.

    Raises:
        UsageError: U-jobs where there would be no process.
        UndecidedError: V7-worker where processes end before they are ready: nothing can be decided here.
    """
    if jobs < 1:
        raise UsageError("U-jobs", "--jobs is a number of processes", expected="1 or more", found=str(jobs))
    crew = _Crew(task, files, jobs, tally or Tally())
    try:
        yield from crew.run()
    finally:
        crew.close()


@dataclass
class _Worker:
    """One process, what it was given and has not answered, and since when it is at the first of these."""

    process: subprocess.Popen[bytes]
    given: deque[_Item] = field(default_factory=deque)
    since: float = 0.0
    ready: bool = False
    unread: bytes = b""
    alone: bool = False

    def has_room(self) -> bool:
        return not self.alone and len(self.given) < _DEPTH and sum(len(item.request) for item in self.given) < _PIPE

    def give(self, item: _Item) -> None:
        stdin = self.process.stdin
        if not self.given:
            self.since = time.monotonic()
        self.given.append(item)
        with contextlib.suppress(BrokenPipeError):  # it died: its end is seen when its answers end
            if stdin is not None:
                os.write(stdin.fileno(), item.request)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class _Crew:
    """The processes and the bundles between them; one thread, no locks."""

    def __init__(self, task: Task, files: Iterator[tuple[str, Path]], jobs: int, tally: Tally) -> None:
        self._task = task
        self._files = enumerate(files)
        self._jobs = jobs
        self._tally = tally
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._again: deque[_Item] = deque()
        self._alone: deque[_Item] = deque()
        self._suspects: set[int] = set()
        self._done: dict[int, Judged] = {}
        self._next = 0
        self._taken = 0
        self._ended = False
        self._stillborn = 0
        self._pause = 0.0

    def run(self) -> Iterator[Judged]:
        while True:
            self._hand_out()
            while self._next in self._done:
                yield self._done.pop(self._next)
                self._next += 1
            if self._ended and self._next == self._taken:
                return
            self._hear()

    def close(self) -> None:
        for worker in self._workers:
            worker.end()
        self._selector.close()

    def _hand_out(self) -> None:
        """Give each process as much as it may hold; a suspect goes alone to a process that has nothing else."""
        for worker in self._workers:
            if self._alone and not worker.given:
                worker.alone = True
                worker.give(self._alone.popleft())
            while worker.has_room() and (item := self._take()):
                worker.give(item)
        while len(self._workers) < self._jobs and (item := self._alone.popleft() if self._alone else self._take()):
            worker = self._start()
            worker.alone = item.at in self._suspects
            worker.give(item)

    def _take(self) -> _Item | None:
        if self._again:
            return self._again.popleft()
        if self._ended or self._taken - self._next >= _AHEAD:
            return None
        at, named = next(self._files, (-1, None))
        if named is None:
            self._ended = True
            return None
        self._taken = at + 1
        name, path = named
        return _Item(at, name, json.dumps({"at": at, "path": os.fsencode(path).hex()}).encode() + b"\n")

    def _start(self) -> _Worker:
        process = subprocess.Popen(
            [*COMMAND, json.dumps(asdict(self._task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        worker = _Worker(process)
        if process.stdout is not None:
            self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    def _hear(self) -> None:
        """Take the answers, rarely where every process has enough to do, at once where one may soon have nothing."""
        time.sleep(self._pause)
        for key, _ in self._selector.select(timeout=1.0):
            worker: _Worker = key.data
            chunk = os.read(key.fd, 1 << 16)
            worker.unread += chunk
            *lines, worker.unread = worker.unread.split(b"\n")
            for line in lines:
                self._answer(worker, json.loads(line))
            if not chunk or len(worker.unread) > _MAX_LINE:
                self._bury(worker, "V7-died", "its process ended")
        busy = all(len(worker.given) > _DEPTH // 4 for worker in self._workers)
        self._pause = min(_PAUSE_S, self._pause * 1.5 + 0.001) if busy else 0.0
        now = time.monotonic()
        for worker in [w for w in self._workers if w.given and now - w.since > (WALL_S if w.ready else _START_S)]:
            self._bury(worker, "V7-wall", f"it took more than {WALL_S:g} s")

    def _answer(self, worker: _Worker, answer: dict[str, Any]) -> None:
        worker.since = time.monotonic()
        if "ready" in answer:
            worker.ready = True
            self._stillborn = 0
            return
        item = worker.given.popleft()
        verdict = canonical.from_builtins(Verdict, answer["verdict"], where=item.name)
        self._done[item.at] = Judged(item.name, verdict, answer["alarm"])
        worker.alone = False

    def _bury(self, worker: _Worker, code: str, found: str) -> None:
        """Forget a process: what it was at is tried alone, and given up the second time; the rest goes on elsewhere."""
        if worker.process.stdout is not None:
            self._selector.unregister(worker.process.stdout)
        worker.end()
        self._workers.remove(worker)
        self._tally.restarts += 1
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= 3 * self._jobs:
                raise UndecidedError(
                    "V7-worker",
                    "processes that verify end before they begin",
                    found=f"status {worker.process.returncode}",
                )
            (self._alone if worker.alone else self._again).extendleft(reversed(worker.given))
            return
        if not worker.given:
            return
        suspect = worker.given.popleft()
        if suspect.at in self._suspects:
            error = UndecidedError(
                code, "the bundle could not be verified here, twice", where=suspect.name, found=found
            )
            self._done[suspect.at] = Judged(suspect.name, unread(error, "UNDECIDED"), None)
        else:
            self._tally.retried += 1
            self._suspects.add(suspect.at)
            self._alone.append(suspect)
        self._again.extendleft(reversed(worker.given))
