"""`opgate explain`: who promised what to whom, in the model's units, and plainly what was not verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.vectors.cases import read_base
from verifier.cli.root import run
from verifier.explanation import explain
from verifier.statement import canonical
from verifier.statement.scalars import Count, FieldElement, Text, Timestamp
from verifier.tensors import dequantise

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE = read_base(ROOT / "base")
BUNDLE, CIRCUITS, POLICY = (str(ROOT / "base" / name) for name in ("bundles/job.json", "circuits", "policy.json"))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["explain", *words]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_it_says_who_promised_what_to_whom(capsys: pytest.CaptureFixture[str]) -> None:
    text, terms = told(capsys, BUNDLE), BASE.job.terms
    for words in (
        f"payer {terms.payer} promises 5000000000000000000 wei (5 at 18 decimals) of token {terms.token}",
        f"provider {terms.provider} promises a proved output of circuit {terms.circuit_id}",
        f"payee {terms.payee} is paid",
        "paid before 2023-11-14 22:28:20 UTC (1700000900)",
        f"escrow {BASE.job.domain.verifying_contract} on chain 31337",
        "the provider says, and nobody checked: ezkl 23.0.5",
        "Nothing of this was verified",
        "not shown that any of this is so",
    ):
        assert words in text


def test_with_a_circuit_numbers_are_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, BUNDLE, "--circuits", CIRCUITS)
    assert "output logits (1x10 float32, in steps of 1/549755813888): -4.019627277, -2.049064271, 13.958067657" in text
    assert "input pixels (1x64 float32, in steps of 1/8192): 0.0000, 0.0000, 11.0000" in text
    assert "Nothing of this was verified" in text


def test_with_a_policy_it_is_verified_too(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, BUNDLE, "--circuits", CIRCUITS, "--policy", POLICY)
    for words in ("VALID", "says that this is: digits model", "certified on 128 samples", "shown the circuit's pinned"):
        assert words in text
    assert "Nothing of this was verified" not in text
    bad = str(ROOT / "cases" / "7_output_0_plus_one_fail" / "bundle.json")
    assert run(["explain", bad, "--circuits", CIRCUITS, "--policy", POLICY]) == 1
    assert run(["explain", str(ROOT / "cases" / "0_deep_fail" / "bundle.json")]) == 1
    assert "V7-proof" in capsys.readouterr().out


def test_for_machines_every_value_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", BUNDLE, "--circuits", CIRCUITS, "--policy", POLICY, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["verdict"]["outcome"] == "VALID"
    (pixels,), (logits,) = value["inputs"], value["outputs"]
    assert (pixels["name"], pixels["shape"], len(pixels["values"])) == ("pixels", [1, 64], 64)
    exact = dequantise(BASE.job.outputs[0], int(BASE.circuit.manifest.outputs[0].scale))
    assert [float(number) for number in logits["values"]] == pytest.approx(exact, abs=1e-9)
    assert value["not_shown"] == value["verdict"]["not_shown"]


def test_a_hidden_input_stays_hidden() -> None:
    hidden = replace(BASE.job, inputs=None, input_hash=FieldElement(7))
    explained = explain(hidden)
    assert (explained.inputs, explained.hidden_input) == ((), "7")


def test_a_claim_of_another_shape_is_shown_as_integers() -> None:
    """A bundle may name a circuit and claim other tensors than it has; units would be invented."""
    bundle = replace(BASE.job, outputs=(*BASE.job.outputs, BASE.job.outputs[0]))
    shown = explain(bundle, BASE.circuit).outputs
    assert [tensor.name for tensor in shown] == ["output 0", "output 1"]
    assert shown[0].values[0] == str(int(BASE.job.outputs[0][0]))


@pytest.mark.parametrize("deadline", [0, 2**40])
def test_any_time_and_amount_can_be_told(deadline: int) -> None:
    terms = replace(BASE.job.terms, deadline=Timestamp(deadline))
    facts = dict(explain(replace(BASE.job, terms=terms)).facts)
    assert str(deadline) in facts["times"]


def test_a_scale_that_no_double_holds_is_told_in_integers() -> None:
    outputs = tuple(replace(spec, scale=Count(5000)) for spec in BASE.circuit.manifest.outputs)
    circuit = replace(BASE.circuit, manifest=replace(BASE.circuit.manifest, outputs=outputs))
    assert explain(BASE.job, circuit).outputs[0].scale is None


def test_words_of_others_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rich reads markup: a device named [link=…] would print what its maker likes."""
    assert BASE.job.receipt is not None
    odd = replace(BASE.job, receipt=replace(BASE.job.receipt, device=Text("[bold red]VALID[/] [link=x]y")))
    (tmp_path / "bundle.json").write_bytes(canonical.encode(odd))
    assert "[bold red]VALID[/] [link=x]y" in told(capsys, str(tmp_path / "bundle.json"))
