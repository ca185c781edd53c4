"""Other verifiers: asked where a verdict hangs on them, never able to make one VALID; an alarm where they differ."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from tests.vectors.cases import read_base, resign
from verifier import second_opinion
from verifier.cli.root import run
from verifier.errors import CircuitError, UsageError
from verifier.judge import Judge
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, ProofBytes
from verifier.statement.scalars import Text

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE = read_base(ROOT / "base")
CIRCUITS = ROOT / "base" / "circuits"
FALSE_PROOF = resign(replace(BASE.job, proof=ProofBytes(bytes([BASE.job.proof[0] ^ 1]) + BASE.job.proof[1:])))


class Engine:
    """An engine that answers what it is told, and counts."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self, bundle: ProofBundle, circuit_folder: Path) -> bool:
        self.asked += 1
        assert bundle.circuit_id == BASE.circuit.circuit_id
        assert (circuit_folder / "manifest.json").is_file()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value]  # some tests answer nonsense


@pytest.fixture
def judge_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Judge]:
    def make(engine: Engine, policy: Policy = BASE.policy) -> Judge:
        monkeypatch.setattr("verifier.judge.load_engines", lambda names: dict.fromkeys(names, engine))
        return Judge(CIRCUITS, policy, second_opinion=("other",), alarms=tmp_path / "alarms")

    return make


def test_an_engine_that_agrees_changes_nothing(judge_with: Callable[..., Judge]) -> None:
    engine = Engine(True)
    judgement = judge_with(engine).judge_bundle(BASE.job)
    assert (judgement.verdict.outcome, judgement.alarm, engine.asked) == ("VALID", None, 1)


@pytest.mark.parametrize(
    ("bundle", "answer", "words"),
    [
        (BASE.job, False, "the code accepts what others refuse: other"),
        (FALSE_PROOF, True, "the code refuses what others accept: other"),
    ],
)
def test_a_disagreement_either_way_is_undecided_an_alarm_and_keeps_both_inputs(
    bundle: ProofBundle,
    answer: bool,
    words: str,
    judge_with: Callable[..., Judge],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The trap: only a refusal beside an acceptance counts as a disagreement, and a forged proof passes unseen."""
    with caplog.at_level(logging.CRITICAL, logger="opgate.alarm"):
        judgement = judge_with(Engine(answer)).judge_bundle(bundle)
    assert (judgement.verdict.outcome, judgement.verdict.code) == ("UNDECIDED", "V8-disagreement")
    assert words in str(judgement.verdict.message)
    assert judgement.alarm is not None
    assert str(judgement.alarm) in caplog.text
    assert (judgement.alarm / "bundle.json").read_bytes() == canonical.encode(bundle)
    kept = judgement.alarm / "circuit"
    assert (kept / "verifier.bin").read_bytes() == BASE.circuit.code
    assert canonical.sha256((kept / "manifest.json").read_bytes()) == bundle.circuit_id
    assert json.loads((judgement.alarm / "opinions.json").read_bytes())[0]["accepts"] is answer
    assert Policy.load(judgement.alarm / "policy.json") == BASE.policy
    assert len(list((kept / "records").iterdir())) == len(BASE.circuit.records)


def test_a_refusal_of_both_is_invalid_and_no_alarm(judge_with: Callable[..., Judge]) -> None:
    judgement = judge_with(Engine(False)).judge_bundle(FALSE_PROOF)
    assert (judgement.verdict.code, judgement.alarm) == ("V7-proof", None)


def test_junk_reaches_no_engine(judge_with: Callable[..., Judge]) -> None:
    """Everyone may send bundles: a child of ezkl for each that fails a signature would be a gift to them."""
    engine = Engine(True)
    for case in ("2_amount_zero_signed_fail", "3_proof_altered_fail", "5_output_doubled_fail", "0_deep_fail"):
        judgement = judge_with(engine).judge(ROOT / "cases" / case / "bundle.json")
        assert judgement.verdict.outcome == "INVALID"
    assert engine.asked == 0


@pytest.mark.parametrize("answer", [CircuitError("C-wall", "too slow"), ValueError("a bug"), RuntimeError("\x1b[2K")])
def test_an_engine_that_cannot_say_is_neither_yes_nor_no(answer: Exception, judge_with: Callable[..., Judge]) -> None:
    judgement = judge_with(Engine(answer)).judge_bundle(BASE.job)
    assert (judgement.verdict.outcome, judgement.verdict.code) == ("UNDECIDED", "V8-engine")
    assert judgement.verdict.shown == ()
    assert judge_with(Engine(answer)).judge_bundle(FALSE_PROOF).verdict.code == "V7-proof"


@pytest.mark.parametrize("answer", [1, "yes", None, [False]])
def test_only_true_is_a_yes(answer: object, judge_with: Callable[..., Judge]) -> None:
    assert judge_with(Engine(answer)).judge_bundle(BASE.job).verdict.code == "V8-disagreement"


def test_an_opinion_that_the_policy_asks_for_is_heard(judge_with: Callable[..., Judge]) -> None:
    asking = replace(BASE.policy, opinions=replace(BASE.policy.opinions, required=(Text("other"),)))
    assert judge_with(Engine(True), asking).judge_bundle(BASE.job).verdict.outcome == "VALID"
    with Judge(CIRCUITS, asking) as judge:
        verdict = judge.judge_bundle(BASE.job).verdict
    assert (verdict.outcome, verdict.code) == ("UNDECIDED", "V8-missing")
    assert "--second-opinion other" in str(verdict.message)


def test_alarms_do_not_fill_the_disk(judge_with: Callable[..., Judge], tmp_path: Path) -> None:
    """Whoever can make two verifiers disagree can do so a million times."""
    alarms = tmp_path / "alarms"
    for index in range(second_opinion._MAX_KEPT):
        (alarms / str(index)).mkdir(parents=True)
    judgement = judge_with(Engine(False)).judge_bundle(BASE.job)
    assert judgement.verdict.code == "V8-disagreement"
    assert len(list(alarms.iterdir())) == second_opinion._MAX_KEPT


def test_an_engine_that_is_not_there_says_what_to_install() -> None:
    with pytest.raises(UsageError, match="U-second-opinion") as caught:
        second_opinion.load_engines(["nobody"])
    assert "pip install" in str(caught.value)
    words = ["verify", str(ROOT / "base/bundles/job.json"), "--circuits", str(CIRCUITS)]
    assert run([*words, "--policy", str(ROOT / "base/policy.json"), "--second-opinion", "nobody"]) == 2


def test_ezkl_is_an_engine_and_loading_it_loads_no_ezkl() -> None:
    """The core never imports ezkl, whatever it is asked: the engine runs it in a child."""
    script = (
        "import sys; from verifier.second_opinion import load_engines; load_engines(['ezkl']);"
        "print('ezkl' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
