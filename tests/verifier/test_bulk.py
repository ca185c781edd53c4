"""Many bundles: the verdicts of one at a time, in order, whatever the processes do that verify them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.vectors.cases import read_base
from verifier import bulk
from verifier.archive.log import Archive
from verifier.archive.note import SigningKey
from verifier.bulk import Tally, Task, bundle_files, verify_all
from verifier.cli.root import run
from verifier.cli.verify import verdict_of
from verifier.errors import UndecidedError, UsageError
from verifier.statement import canonical
from verifier.statement.evidence import LogEntry
from verifier.statement.scalars import Timestamp

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE = read_base(ROOT / "base")
CIRCUITS = ROOT / "base" / "circuits"
POLICY_FILE = ROOT / "base" / "policy.json"
TASK = Task(str(CIRCUITS), canonical.encode(BASE.policy).decode(), "alarms")
RAW = canonical.encode(BASE.job)
GOOD, BAD = "valid", ("0_deep_fail", "2_amount_zero_signed_fail", "3_proof_altered_fail", "7_output_0_plus_one_fail")


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "COMMAND", (sys.executable, str(Path(__file__).with_name("dying_worker.py"))))


def folder_of(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "bundles"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.json").write_bytes(RAW)
    return folder


def ordered(folder: Path) -> list[tuple[str, Path]]:
    return [(path.name, path) for path in sorted(folder.glob("*.json"))]


@pytest.mark.parametrize("jobs", [1, 3])
def test_verdicts_are_those_of_one_at_a_time_and_in_order(jobs: int) -> None:
    """Whatever the number of processes: the verdict is a function of the bytes alone."""
    files = [(name, ROOT / "cases" / name / "bundle.json") for name in (*BAD, GOOD, *BAD, GOOD)]
    judged = list(verify_all(TASK, iter(files), jobs=jobs))
    assert [one.name for one in judged] == [name for name, _ in files]
    alone = {name: verdict_of(path, CIRCUITS, BASE.policy) for name, path in files}
    assert [one.verdict for one in judged] == [alone[name] for name, _ in files]


@pytest.mark.usefixtures("dying")
def test_a_process_that_dies_takes_no_other_bundle_with_it(tmp_path: Path) -> None:
    """The bundle is tried again by a process that has nothing else; the second time it is given up, undecided."""
    folder = folder_of(tmp_path, "a", "die1", "die2", "e", "once", "z")
    tally = Tally()
    judged = {one.name: one.verdict for one in verify_all(TASK, iter(ordered(folder)), jobs=2, tally=tally)}
    assert list(judged) == sorted(judged)
    assert {name: (verdict.outcome, verdict.code) for name, verdict in judged.items()} == {
        **{f"{name}.json": ("VALID", None) for name in ("a", "e", "once", "z")},
        **{f"{name}.json": ("UNDECIDED", "V7-died") for name in ("die1", "die2")},
    }
    assert (tally.retried, tally.restarts) == (3, 5)


@pytest.mark.usefixtures("dying")
def test_a_bundle_that_hangs_its_process_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "WALL_S", 2.0)
    folder = folder_of(tmp_path, "a", "hang")
    judged = {one.name: one.verdict for one in verify_all(TASK, iter(ordered(folder)), jobs=1)}
    assert judged["a.json"].outcome == "VALID"
    assert (judged["hang.json"].outcome, judged["hang.json"].code) == ("UNDECIDED", "V7-wall")


def test_processes_that_never_begin_are_an_error_and_not_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "COMMAND", (sys.executable, "-c", "raise SystemExit(7)"))
    with pytest.raises(UndecidedError, match="V7-worker"):
        list(verify_all(TASK, iter(ordered(folder_of(tmp_path, "a"))), jobs=1))


def test_no_process_is_left_behind_by_a_reader_who_stops(tmp_path: Path) -> None:
    running = verify_all(TASK, iter(ordered(folder_of(tmp_path, *"abcdef"))), jobs=2)
    next(running)
    pids = [worker.process.pid for worker in running.gi_frame.f_locals["crew"]._workers]  # type: ignore[attr-defined]  # a generator
    running.close()  # type: ignore[attr-defined]  # the same
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_files_are_taken_as_they_are_needed() -> None:
    """Memory must not grow with the number of bundles: a million names are never held."""
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield "valid", ROOT / "cases" / "0_deep_fail" / "bundle.json"

    running = verify_all(TASK, endless(), jobs=1)  # type: ignore[arg-type]  # a generator is an iterator
    for _ in range(20):
        next(running)
    running.close()  # type: ignore[attr-defined]  # a generator
    assert taken <= 20 + 2 * bulk._DEPTH


def test_strange_files_of_a_folder_get_a_verdict_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "valid")
    os.mkfifo(folder / "fifo.json")
    (folder / "link.json").symlink_to(folder / "valid.json")
    (folder / "folder.json").mkdir()
    (folder / "\udcff\n.json").write_bytes(b"{}")
    (folder / "notes.txt").write_bytes(b"no bundle")
    judged = {one.name: one.verdict.code for one in verify_all(TASK, bundle_files(folder), jobs=1)}
    assert judged == {
        "valid.json": None,
        "fifo.json": "V0-file",
        "link.json": "V0-file",
        "folder.json": "V0-file",
        "\udcff\n.json": "V0-schema",
    }


def test_the_bundles_of_an_archive_are_its_entries(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path / "archive", SigningKey.from_seed("opgate/test", b"\x05" * 32))
    altered = canonical.encode(BASE.other_job)[:-1]
    for raw in (RAW, altered):
        digests = {"bundle": canonical.sha256(raw)}
        entry = LogEntry(kind="settled", job_id=BASE.job.job_id, digests=digests, recorded_at=Timestamp(7))
        archive.append(entry, [raw])
    judged = [(one.name, one.verdict.outcome) for one in verify_all(TASK, bundle_files(archive.folder), jobs=1)]
    assert judged == [("entry 0", "VALID"), ("entry 1", "INVALID")]


def command(*words: str) -> int:
    return run(["verify", *words, "--circuits", str(CIRCUITS), "--policy", str(POLICY_FILE), "--jobs", "1"])


def test_the_command_counts_and_its_exit_is_the_worst_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path, "a", "b")
    assert command(str(folder), "--json") == 0
    *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert sorted(line["bundle"] for line in lines) == ["a.json", "b.json"]
    assert {line["outcome"] for line in lines} == {"VALID"}
    assert last["summary"]["outcomes"] == {"VALID": 2, "INVALID": 0, "UNDECIDED": 0}
    (folder / "c.json").write_bytes(RAW[:-1])
    assert command(str(folder)) == 1
    printed = capsys.readouterr().out
    assert "INVALID    c.json" in printed
    assert "3 bundles: 2 VALID, 1 INVALID" in printed
    (folder / "c.json").write_bytes(RAW.replace(b'"circuit_id":"0xd4', b'"circuit_id":"0xd5'))
    assert command(str(folder)) == 3


def test_nothing_verified_is_not_all_verified(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert command(str(folder)) == 2
    with pytest.raises(UsageError, match="U-jobs"):
        list(verify_all(TASK, iter(()), jobs=0))
