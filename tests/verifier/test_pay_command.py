"""The payer's commands where a provider or a file says what it should not: no markup, no escapes, no traceback."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from rich.console import Console

from tests.vectors.cases import read_base
from tests.vectors.keys import PAYEE, PROVIDER
from verifier.cli import pay, waiting
from verifier.cli.root import run
from verifier.errors import EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, UndecidedError
from verifier.payer.history import Step
from verifier.statement import canonical
from verifier.statement.terms import SignedTerms

if TYPE_CHECKING:
    from verifier.statement.scalars import Bytes32

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "base"
BASE = read_base(VECTORS)


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


class ClosedPayer:
    """A payer whose one job the chain closed by proof while it looked elsewhere; it lists what it is asked to do."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.job = SimpleNamespace(job_id=BASE.job.job_id, closed_by=None)
        self.ledger = SimpleNamespace(jobs=lambda: [self.job])

    def settle(self, job: Any, *, now: int) -> Any:
        assert now > 0
        self.asked.append("settle")
        return SimpleNamespace(job_id=job.job_id, closed_by="proof")

    def reclaim(self, _: Any) -> None:
        self.asked.append("reclaim")

    def state(self, _: Any) -> Any:
        return SimpleNamespace(name="RELEASED")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> ClosedPayer:
    payer = ClosedPayer()
    step = Step("released by proof", 7, "0x" + "ab" * 32, 587_228, 10**14, 5 * 10**18)
    monkeypatch.setattr(pay, "open_payer", lambda *_: nullcontext(payer))
    monkeypatch.setattr(pay, "history", lambda *_: [step])
    return payer


COMMAND = ["pay", "--rpc-url", "http://127.0.0.1:1", "--home", "nowhere"]


def test_a_reclaim_of_what_a_proof_closed_archives_how_and_says_so(
    closed: ClosedPayer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trap: the payer who comes late is told of a state, and its archive never holds the proof that paid."""
    assert run([*COMMAND, "reclaim", str(BASE.job.job_id)]) == EXIT_REFUSED
    assert closed.asked == ["settle"]
    shown = capsys.readouterr().err
    assert "E-state" in shown
    assert "closed by proof" in shown


def test_status_without_a_job_settles_every_job(closed: ClosedPayer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND, "status"]) == EXIT_DONE
    (head, line) = capsys.readouterr().out.splitlines()
    assert head == f"{BASE.job.job_id}  RELEASED"
    for part in ("released by proof", "block 7", "0x" + "ab" * 32, "587,228 gas", "0.0001 ETH", "5 OPG"):
        assert part in line
    assert run([*COMMAND, "status", "--json"]) == EXIT_DONE
    (row,) = json.loads(capsys.readouterr().out)["jobs"]
    assert row["closed_by"] == "proof"
    assert row["history"][0]["fee_wei"] == str(10**14)
    assert closed.asked == ["settle", "settle"]


@pytest.mark.parametrize("same", [True, False])
def test_a_provider_whose_hot_key_is_its_payee_is_warned_of(same: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """The trap: whoever enters the machine of the hot signer takes all that it has earned."""
    quote: Any = SimpleNamespace(payee=PROVIDER.address if same else PAYEE.address, provider=PROVIDER.address)
    pay._warn_of_one_key(quote)
    assert ("hot key" in capsys.readouterr().err) == same


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


def test_terms_are_judged_without_a_chain_or_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands between a payer and a signature must run anywhere: `opgate pay check TERMS --policy FILE`."""
    base = tmp_path / "base"
    signed = SignedTerms(terms=BASE.job.terms, domain=BASE.job.domain)
    (tmp_path / "terms.json").write_bytes(canonical.encode(signed))
    (tmp_path / "policy.json").write_bytes(canonical.encode(BASE.policy))
    given = ["pay", "--home", str(base), "check", str(tmp_path / "terms.json"), "--circuits", str(VECTORS / "circuits")]
    assert run([*given, "--policy", str(tmp_path / "policy.json"), "--json"]) == EXIT_DONE
    assert json.loads(capsys.readouterr().out)["outcome"] == "VALID"
    assert not base.exists()
