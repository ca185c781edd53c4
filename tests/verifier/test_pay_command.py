"""The payer's commands where a provider or a file says what it should not: no markup, no escapes, no traceback."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from rich.console import Console

from tests.vectors.cases import read_base
from verifier.cli import pay, waiting
from verifier.cli.root import run
from verifier.errors import EXIT_USAGE, UndecidedError
from verifier.statement.terms import SignedTerms

if TYPE_CHECKING:
    from verifier.statement.scalars import Bytes32

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")


class SayingProvider:
    """A provider that says one state after another."""

    def __init__(self, *states: object) -> None:
        self._states = list(states)

    def job(self, job_id: Bytes32) -> dict[str, Any]:  # noqa: ARG002 - the client's signature
        state = self._states.pop(0)
        if isinstance(state, Exception):
            raise state
        return {"state": state}


class Parts:
    """What a wait looks at of context, payer and job."""

    def __init__(self) -> None:
        self.console = Console(file=io.StringIO(), force_terminal=True)
        self.job_id = BASE.job.job_id
        self.terms = SignedTerms(domain=BASE.job.domain, terms=BASE.job.terms)

    def circuit_of(self, _: object) -> object:
        return BASE.circuit


@pytest.mark.parametrize(
    "said", ["[/]", "[link=http://x]closed", "\x1b[2Kclosed\r", "\ud800", "closed" * 20, None, 7, {}, ["failed"]]
)
def test_a_state_is_a_word_or_unknown(said: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by reading: the state "[/]" ended `opgate pay wait` with rich's MarkupError, after the job was funded."""
    monkeypatch.setattr(waiting, "_POLL_S", 0.0)
    parts: Any = Parts()
    remote: Any = SayingProvider(said, UndecidedError("W-answer", "junk"), "running", "failed")
    monkeypatch.setattr(waiting.time, "time", lambda: 0)
    assert waiting.wait_for_bundle(parts.console, parts, remote, parts, quiet=False) == "failed"
    printed = cast("io.StringIO", parts.console.file).getvalue()
    assert "\x1b[2Kclosed" not in printed


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"rpc"'])
def test_a_network_file_that_cannot_be_read_is_a_wrong_usage(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "network.json").write_bytes(content)
    assert run(["pay", "--home", str(tmp_path), "jobs"]) == EXIT_USAGE
    assert "U-rpc" in capsys.readouterr().err


@pytest.mark.parametrize("quiet", [True, False])
def test_a_refusal_in_a_step_keeps_its_code(quiet: bool) -> None:
    """Found by kill -9 of a worker: with --json any refusal in a step of `pay buy` came out as U-internal, exit 3."""
    shared: Any = Parts()
    with (
        pytest.raises(UndecidedError, match="W-answer"),
        pay._steps(shared, quiet=quiet) as step,
        step({}, "quote", ""),
    ):
        raise UndecidedError("W-answer", "junk")
