"""Every vector gets the verdict that its folder names; and each step of the verifier is needed by some of them."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.conformance.vectors import BASE, CASES, SWEEPS, Vector, vectors
from tests.conformance.vectors import ROOT as VECTORS
from tests.vectors.cases import read_base, resign
from tests.verifier.messages import MESSAGES, said
from verifier.bundles import read_bundle
from verifier.cli.verify import verdict_of
from verifier.evm import PyrevmEngine, run_verifier
from verifier.evm_pyevm import PyEvmEngine
from verifier.instances import calldata, claimed_words
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.scalars import Text
from verifier.statement.verdict import Opinion, Verdict

steps = importlib.import_module("verifier.verify")  # the package shows the function under this name
ROOT = Path(__file__).resolve().parents[2]
NOT_FROM_FILES = {
    "V0-policy",
    "V3-engine",
    "V3-calldata",
    "V3-evidence-event",
    "V6-words",
    "V8-disagreement",
    "V-internal",
}
"""A policy in TOML, an engine that fails, a payer's own numbers, other commands, opinions."""
NOT_FROM_ONE_BUNDLE = {"V1-circuit-unreachable", "V7-died", "V7-wall", "V7-worker", "V7-engine", "V7-size", "V8-engine"}
"""A server of circuits, workers that judge many bundles, plug-ins."""
FOLDERS = sorted(path.name for path in CASES.iterdir())
SHEETS = sorted(path.stem for path in SWEEPS.glob("*.jsonl"))


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the vectors are made that git cannot hold."""
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(scope="session")
def known(scratch: Path) -> dict[str, Vector]:
    """All vectors by name, on a disk."""
    return {vector.name: vector for vector in vectors(scratch)}


@pytest.fixture(scope="session")
def words() -> dict[str, str]:
    """What is said of each vector in a folder."""
    return dict(json.loads(MESSAGES.read_bytes()))


def judge(vector: Vector) -> Verdict:
    return verdict_of(vector.bundle, vector.circuits, Policy.load(vector.policy))


@pytest.mark.parametrize("name", FOLDERS)
def test_vector(name: str, known: dict[str, Vector], words: dict[str, str], scratch: Path) -> None:
    vector = known[name]
    assert said(vector, scratch) == (vector.outcome, vector.code, words[name])


@pytest.mark.parametrize("sheet", SHEETS)
def test_every_field_of_a_type_missing_doubled_or_of_another_kind(
    sheet: str, known: dict[str, Vector], scratch: Path
) -> None:
    swept = [vector for vector in known.values() if vector.name.startswith(f"{sheet}.")]
    assert len(swept) >= 10
    assert [(v.name, v.code, found) for v in swept if (found := said(v, scratch)[:2]) != (v.outcome, v.code)] == []


def test_there_are_enough_vectors_and_names_say_what_they_are(known: dict[str, Vector]) -> None:
    """A folder's name begins with the step that its fault is about, and ends in ``_fail`` where there is one."""
    folders = [known[name] for name in FOLDERS]
    assert sum(vector.passing for vector in folders) >= 30
    assert sum(not vector.passing for vector in folders) >= 120
    for vector in folders:
        assert re.match("valid" if vector.passing else "[0-8]_", vector.name), vector
        assert vector.passing == (not vector.name.endswith("_fail")), vector


def test_every_code_of_a_bundle_has_a_vector(known: dict[str, Vector]) -> None:
    shown = {vector.code for vector in known.values()}
    named = set(re.findall(r"`(V[0-8]?-[a-z0-9-]+)`", (ROOT / "docs" / "spec" / "verification.md").read_text()))
    payer = {code for code in named if re.match(r"V5-(tensor|word|poseidon|input|blind)", code)}
    assert named - shown - payer - NOT_FROM_FILES - NOT_FROM_ONE_BUNDLE == set()


def test_the_vectors_are_what_their_script_makes() -> None:
    done = subprocess.run(
        [sys.executable, str(VECTORS / "build.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("removed", range(7), ids=lambda index: f"step_{index + 1}")
def test_without_one_step_some_bad_bundle_would_be_valid(
    removed: int, known: dict[str, Vector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier with any one of steps 1 to 7 taken out accepts at least one vector that it must refuse."""
    monkeypatch.setattr(steps, "STEPS", steps.STEPS[:removed] + steps.STEPS[removed + 1 :])
    number = str(removed + 1)
    candidates = [known[name] for name in FOLDERS if (known[name].code or "").startswith(f"V{number}-")]
    assert any(judge(vector).outcome == "VALID" for vector in candidates), f"no vector needs step {number}"


def test_opinions_can_only_make_a_verdict_undecided() -> None:
    base = read_base(BASE)
    subject = canonical.digest(base.job)
    agreeing = Opinion(engine=Text("ezkl"), bundle_sha256=subject, accepts=True)
    asking = replace(base.policy, opinions=replace(base.policy.opinions, required=(Text("ezkl"),)))
    other = replace(agreeing, bundle_sha256=canonical.digest(base.other_job))
    for opinions, policy, outcome, code in (
        ((agreeing,), asking, "VALID", None),
        ((), asking, "UNDECIDED", "V8-missing"),
        ((other,), asking, "UNDECIDED", "V8-missing"),
        ((replace(agreeing, accepts=False),), base.policy, "UNDECIDED", "V8-disagreement"),
    ):
        verdict = steps.verify(base.job, base.circuit, policy, opinions)
        assert (verdict.outcome, verdict.code) == (outcome, code)
    bad = replace(base.job, proof=base.other_job.proof)
    assert steps.verify(bad, base.circuit, base.policy, (agreeing,)).outcome == "INVALID"


@pytest.mark.parametrize("name", ["valid", "7_proof_bit_07_fail", "7_output_3_plus_one_fail", "7_proof_zeros_fail"])
def test_both_engines_give_the_same_answer_and_gas(name: str) -> None:
    bundle = read_bundle(CASES / name / "bundle.json")
    circuit = read_base(BASE).circuit
    cap = int(bundle.terms.rule.gas_cap)
    answers = [
        run_verifier(
            circuit.code,
            calldata(bundle.proof, claimed_words(bundle)),
            gas_cap=cap,
            revision=circuit.manifest.evm.revision,
            engine=engine,
        )
        for engine in (PyrevmEngine(), PyEvmEngine())
    ]
    assert answers[0] == answers[1]
    assert answers[0].accepted == (name == "valid")


def test_the_circuit_that_a_bundle_names_is_held_against_the_one_that_the_reader_has() -> None:
    """Found while the demo was written: looked up by the terms, a bundle that names another circuit passed."""
    base = read_base(BASE)
    renamed = resign(replace(base.job, circuit_id=base.other_circuit.circuit_id))
    verdict = steps.verify(renamed, base.circuit, base.policy)
    assert (verdict.outcome, verdict.code) == ("INVALID", "V1-circuit-id")
    asked, named = base.circuit.manifest.circuit_id, base.other_circuit.circuit_id
    said = f"V1-circuit-id: the bundle names another circuit (where step 1; expected {asked}; found {named})"
    assert verdict.message == said


def test_a_failing_engine_is_undecided_and_never_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicError(BaseException):
        """As a Rust panic reaches Python."""

    def panic(*_: object) -> bytes:
        raise PanicError

    base = read_base(BASE)
    monkeypatch.setattr(PyrevmEngine, "call", panic)
    verdict = steps.verify(base.job, base.circuit, base.policy)
    assert (verdict.outcome, verdict.code) == ("UNDECIDED", "V3-engine")


def test_the_verdict_is_the_same_in_another_process_zone_and_locale(known: dict[str, Vector]) -> None:
    command = [sys.executable, "-m", "verifier.cli.root", "verify", str(CASES / "valid" / "bundle.json")]
    command += ["--circuits", str(BASE / "circuits"), "--policy", str(BASE / "policy.json"), "--json"]
    environment = {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PATH": ""}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == canonical.to_builtins(judge(known["valid"]))


def test_importing_the_verifier_brings_in_nothing_heavy() -> None:
    """The trap of eth-account: 0.8 s of BLS curves for a hash. Held by what is imported, not by a clock."""
    script = (
        "import sys, verifier; heavy = {'eth_account', 'py_ecc', 'web3', 'typer', 'rich', 'httpx', 'sqlalchemy', 'rlp',"
        " 'trie', 'ezkl', 'numpy', 'eth', 'celery'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
