"""py-evm against pyrevm: the same verdict on every vector. One in ten here, all of them with OPGATE_LONG."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.vectors.cases import read_base
from verifier import evm
from verifier.cli.verify import verdict_of
from verifier.evm import REVISIONS, Engine, PyrevmEngine, recover, run_verifier
from verifier.evm_pyevm import PyEvmEngine
from verifier.instances import calldata, claimed_words
from verifier.policy import Policy

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE = read_base(ROOT / "base")
LONG = bool(os.environ.get("OPGATE_LONG"))
_SECONDS_EACH = 3
"""Cases of step 7 in the short form: py-evm takes a second or more for a pairing."""


def cases() -> list[Path]:
    every = sorted(path for path in (ROOT / "cases").iterdir() if (path / "bundle.json").is_file())
    if LONG:
        return every
    slow = [path for path in every if reaches_the_code(path)]
    return [*[path for path in every if path not in slow][::10], *slow[:: max(len(slow) // _SECONDS_EACH, 1)]]


def reaches_the_code(case: Path) -> bool:
    expected = json.loads((case / "expected.json").read_bytes())
    return expected["outcome"] == "VALID" or expected["code"] == "V7-proof"


@pytest.mark.parametrize("case", cases(), ids=lambda path: path.name)
def test_the_verdict_is_the_same(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    circuits = case / "circuits" if (case / "circuits").is_dir() else ROOT / "base" / "circuits"
    policy = Policy.load(case / "policy.json" if (case / "policy.json").is_file() else ROOT / "base" / "policy.json")
    fast = verdict_of(case / "bundle.json", circuits, policy)
    monkeypatch.setattr(evm, "default_engine", PyEvmEngine)
    assert verdict_of(case / "bundle.json", circuits, policy) == fast


PROBES = {
    "returns 1": "600160005260206000f3",
    "returns 2": "600260005260206000f3",
    "returns 31 bytes": "6001600052601f6000f3",
    "returns 64 bytes": "600160005260406000f3",
    "returns nothing": "00",
    "reverts": "60006000fd",
    "reverts with 1": "600160005260206000fd",
    "invalid opcode": "fe",
    "no code": "",
    "stack underflow": "01",
    "bad jump": "600056",
    "endless": "5b600056",
    "writes storage": "6001600055600160005260206000f3",
    "destroys itself": "6000ff",
    "creates": "600060006000f0",
    "reads its caller": "3360005260206000f3",
    "reads the block": "43420144014501460160005260206000f3",
    "push0": "5f600152600160005260206000f3",
    "gas left": "5a60005260206000f3",
    "huge memory": "600160ff60ff1b52",
    "deep call": "60006000600060006000305af1",
    "calls ecadd": "604060006080600060065afa60005260206000f3",
    "calls ecadd off the curve": "600160005260406000604060006006610bb8fa60005260206000f3",
    "pairing of nothing": "60206000600060006008620fffff" + "fa5060206000f3",
    "modexp": "60206000606060006005620fffff" + "fa60005260206000f3",
}
NEWER = {
    "tload": "60005c50600160005260206000f3",
    "tstore": "600160005d600160005260206000f3",
    "mcopy": "6001600052602060006020" + "5e" + "60206020f3",
    "blob base fee": "4a50600160005260206000f3",
    "blob hash": "60004950600160005260206000f3",
}
"""What Cancun brought. On SHANGHAI only py-evm refuses it, since pyrevm runs its latest (`verifier.evm.REVISIONS`)."""
ENGINES: tuple[Engine, ...] = (PyrevmEngine(), PyEvmEngine())
ALIKE = [(name, code, revision) for name, code in PROBES.items() for revision in REVISIONS]
ALIKE += [(name, code, revision) for name, code in NEWER.items() for revision in REVISIONS if revision != "SHANGHAI"]


@pytest.mark.parametrize(("name", "code", "revision"), ALIKE, ids=lambda value: value if " " not in value else None)
def test_both_engines_run_any_code_alike(name: str, code: str, revision: str) -> None:
    """What code can do in a static call: the same acceptance and the same gas, whatever a stranger's circuit holds."""
    answers = [
        run_verifier(bytes.fromhex(code), b"\x01" * 68, gas_cap=100_000, revision=revision, engine=engine)
        for engine in ENGINES
    ]
    assert answers[0] == answers[1]
    assert name != "returns 1" or answers[0].accepted


@pytest.mark.parametrize("name", [name for name in NEWER if name != "tstore"])
def test_only_py_evm_keeps_to_an_old_revision(name: str) -> None:
    """Where pyrevm comes to heed it too, docs/adr/pinned-revision-is-a-lower-bound.md is out of date."""
    code = bytes.fromhex(NEWER[name])
    pyrevm, py_evm = (run_verifier(code, b"", gas_cap=9_000, revision="SHANGHAI", engine=each).gas for each in ENGINES)
    assert pyrevm < 9_000 < py_evm  # an opcode that is not known takes all gas


@pytest.mark.parametrize("cap", [0, 1, 1000, 414_296, 414_297, 600_000])
def test_both_engines_run_out_of_gas_alike(cap: int) -> None:
    """The rule's cap is what the escrow gives the call: one unit of gas is the difference between paid and not."""
    words = calldata(BASE.job.proof, claimed_words(BASE.job))
    if not LONG and cap not in (0, 1000):
        pytest.skip("py-evm takes a second a proof: with OPGATE_LONG=1")
    answers = [
        run_verifier(BASE.circuit.code, words, gas_cap=cap, revision="SHANGHAI", engine=engine) for engine in ENGINES
    ]
    assert answers[0] == answers[1]


def test_both_engines_recover_the_same_signers() -> None:
    signatures = [BASE.job.acceptance, BASE.other_job.acceptance, BASE.job.delivery]
    for digest in (BASE.job.job_id, BASE.other_job.job_id):
        for signature in signatures:
            assert signature is not None
            found = [recover(digest, signature, engine=engine) for engine in ENGINES]
            assert found[0] == found[1]
