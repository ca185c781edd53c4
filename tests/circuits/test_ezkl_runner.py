"""The child that runs ezkl: every way in which it can go wrong ends as one of our errors."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from circuits import ezkl_runner
from circuits.ezkl_runner import Failure, Limits
from verifier.errors import CircuitError
from verifier.statement.scalars import FIELD_MODULUS


def running_children() -> list[str]:
    """The command lines of processes of this session's parent that run the child file."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(status[1]) == os.getpid() and status[0] != "Z":
                lines.append((entry / "cmdline").read_text())
        except (OSError, IndexError):
            continue
    return [line for line in lines if "ezkl_child" in line]


def test_a_child_that_overruns_is_killed(tmp_path: Path) -> None:
    """Trap: hostile keys and lookups outside the table never return, and hold the GIL against every signal."""
    with pytest.raises(CircuitError) as caught:
        ezkl_runner.run([{"name": "gen_srs", "srs": str(tmp_path / "k"), "logrows": 20}], Limits(wall_seconds=1.0))
    assert caught.value.code == "C-wall"
    time.sleep(0.1)
    assert running_children() == []


def test_an_interrupted_parent_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: Ctrl-C or a soft time limit in the parent while ezkl runs."""

    def interrupt(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ezkl_runner.run([{"name": "gen_srs", "srs": str(tmp_path / "k"), "logrows": 20}], Limits(wall_seconds=60))
    assert running_children() == []


def test_a_child_that_needs_too_much_memory_is_an_error(tmp_path: Path) -> None:
    """Trap: hostile settings take 9 GB."""
    with pytest.raises(CircuitError) as caught:
        ezkl_runner.require(
            [{"name": "gen_srs", "srs": str(tmp_path / "k"), "logrows": 12}], Limits(memory_bytes=60 << 20)
        )
    assert caught.value.code == "C-memory"


def test_a_panic_is_an_error(tmp_path: Path) -> None:
    """Trap: ezkl's panics derive from BaseException and would pass an `except Exception`."""
    bad = tmp_path / "settings"
    bad.write_bytes(b"{}")
    with pytest.raises(CircuitError) as caught:
        ezkl_runner.verify(proof=bad, settings=bad, vk=bad, srs=bad)
    assert caught.value.code in {"C-ezkl", "C-died", "C-memory"}


def test_the_environment_is_scrubbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trap: ezkl reads HOME, where it caches tables unchecked, and keys of the caller have no business in there."""
    monkeypatch.setenv("OPGATE_SECRET", "x")
    environment = ezkl_runner._environment(tmp_path, Limits(threads=3))
    assert "OPGATE_SECRET" not in environment
    assert environment["HOME"] == str(tmp_path)
    assert environment["RAYON_NUM_THREADS"] == "3"
    assert "127.0.0.1:9" in environment["HTTPS_PROXY"]


def test_the_cause_of_a_refusal_is_named() -> None:
    """Trap: ezkl says "General synthesis error"; only its debug log names the operator."""
    log = ("loading", "Unknown op: Gelu at node 3", "something failed")
    said = ezkl_runner.cause(Failure("RuntimeError: General synthesis error", log))
    assert "Unknown op: Gelu" in said


def test_operations_after_a_failure_are_not_run(tmp_path: Path) -> None:
    poseidon = {"name": "poseidon_hash", "message": [ezkl_runner.to_hex(1)]}
    outcomes = ezkl_runner.run([poseidon, {"name": "no such"}, poseidon])
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [False, True]
    assert list(tmp_path.iterdir()) == []


def test_hex_is_little_endian_and_signed() -> None:
    """Trap: felt_to_int cuts to 128 bits, and the hex of a proof file is little-endian."""
    for value in (0, 1, -1, 1 << 140, -(1 << 140)):
        word = ezkl_runner.to_hex(value % FIELD_MODULUS)
        assert ezkl_runner.signed(ezkl_runner.from_hex(word)) == value
    assert ezkl_runner.to_hex(1) == "01" + 62 * "0"
    with pytest.raises(ValueError, match="range"):
        ezkl_runner.from_hex("ff" * 32)


def test_json_of_the_child_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ezkl_runner, "_MAX_ANSWERS", 10)
    answers = tmp_path / "answers"
    answers.write_text(json.dumps({"ok": True, "value": 0, "seconds": 0, "peak_bytes": 0}) + "\n")
    with pytest.raises(CircuitError) as caught:
        ezkl_runner._read_answers(answers)
    assert caught.value.code == "C-size"
