"""Hashed inputs: a proof shows a hash with a blind; the same words from circuit, prover, verifier and commitment."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits.build import Built, build
from circuits.ezkl_runner import Limits
from circuits.graph import circuit_graph
from circuits.parsing import parse_model
from circuits.rebuild import rebuild
from circuits.tuner.visibility import with_other_inputs
from prover.bundle import Job, make_bundle
from prover.infer import infer
from prover.prove import ProvingFiles
from prover.witness import check_input
from verifier.bundles import parse_bundle
from verifier.errors import CircuitError, VerifierError
from verifier.instances import committed_words
from verifier.payer.inputs import read_input
from verifier.payment.keys import Key
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle
from verifier.statement.eip712 import Domain
from verifier.statement.manifest import BLIND_WORDS
from verifier.statement.scalars import Address, Bytes32, Count, TensorInt, Text, Timestamp, Uint256
from verifier.statement.terms import Acceptance, JobTerms, ProofRule, input_commitment
from verifier.tensors import dequantise
from verifier.verify import verify

DOMAIN = Domain(name=Text("opgate"), version=Text("1"), chain_id=Count(31337), verifying_contract=Address(b"\x0e" * 20))
VALUES = [0.5, -1.25, 1.75]


def two_heads(opset: int = 13, name: str = "x") -> bytes:
    """A model of one input and two outputs, ``scores = x @ w`` and ``total = relu(sum of x)``."""
    weights = np.random.default_rng(7).uniform(-1, 1, (3, 2)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [name, "w"], ["scores"]),
            helper.make_node("MatMul", [name, "ones"], ["sum"]),
            helper.make_node("Relu", ["sum"], ["total"]),
        ],
        "two_heads",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, [1, 1]),
        ],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.ones((3, 1), np.float32), "ones")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@pytest.fixture(scope="module")
def hashed(tmp_path_factory: pytest.TempPathFactory, srs_store: Path) -> Built:
    folder = tmp_path_factory.mktemp("hashed")
    (folder / "model.onnx").write_bytes(two_heads())
    np.savez(folder / "samples.npz", x=np.random.default_rng(5).uniform(-2, 2, (12, 3)).astype(np.float32))
    files = (folder / "model.onnx", folder / "samples.npz")
    return build(*files, store=folder / "circuits", srs_store=srs_store, inputs="hashed")


def accepted_job(built: Built, key: Key, folder: Path) -> Job:
    """A job as a payer makes it of a file of numbers."""
    manifest = built.folder.manifest()
    (folder / "input.json").write_text(json.dumps({"input_data": [VALUES]}))
    inputs = read_input(folder / "input.json", manifest)
    terms = JobTerms(
        payer=Address(b"\x01" * 20),
        provider=key.address,
        payee=Address(b"\x02" * 20),
        token=Address(b"\x03" * 20),
        amount=Uint256(10),
        circuit_id=manifest.circuit_id,
        rule=ProofRule.derive(manifest, Address(b"\x04" * 20)),
        input_commitment=input_commitment(committed_words(inputs, manifest)),
        fund_by=Timestamp(100),
        deadline=Timestamp(200),
        salt=Bytes32(bytes(32)),
    )
    acceptance = key.sign_digest(Acceptance(job_id=terms.job_id(DOMAIN)).digest(DOMAIN))
    return Job(domain=DOMAIN, terms=terms, inputs=inputs, acceptance=acceptance)


@pytest.fixture(scope="module")
def job(hashed: Built, key: Key, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return accepted_job(hashed, key, tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def bundle(hashed: Built, job: Job, key: Key, tmp_path_factory: pytest.TempPathFactory) -> ProofBundle:
    files = ProvingFiles.of(hashed.folder.private)
    return make_bundle(job, hashed.folder, files, key, tmp_path_factory.mktemp("work"), Limits())


def test_costs_of_both_kinds_of_inputs_stand_side_by_side(hashed: Built, tmp_path: Path) -> None:
    """What a build predicts for shown inputs of a hashed circuit, and back again what this very circuit has."""
    shown = hashed.other_inputs
    assert shown is not None
    assert shown.run_args.visibility == "public"
    assert shown.layout.gas < hashed.compiled.manifest.evm.gas
    back = with_other_inputs(parse_model(two_heads()), shown.run_args, tmp_path, Limits())
    assert back is not None
    assert back.run_args == hashed.run_args
    assert abs(back.layout.proof_bytes - hashed.compiled.manifest.proof_len) <= 2 * 32


def test_a_hashed_bundle_verifies_and_shows_neither_input_nor_blind(
    hashed: Built, job: Job, bundle: ProofBundle
) -> None:
    """From a file of numbers to VALID: instances are H(x || blind) | H(limbs) | outputs | limbs."""
    circuit = hashed.folder.circuit()
    manifest = circuit.manifest
    assert (manifest.visibility, manifest.input_len, manifest.job_offset) == ("hashed", 1, 5)
    assert [int(spec.offset) for spec in manifest.outputs] == [2, 4]
    assert manifest.n_instances == 16
    raw = canonical.encode(bundle)
    verdict = verify(parse_bundle(raw), circuit, Policy.of_provider(DOMAIN, bundle.terms))
    assert (verdict.outcome, verdict.code) == ("VALID", None)
    assert bundle.inputs is None
    for value in (*job.inputs[0][-BLIND_WORDS:], job.inputs[0][0]):
        assert f'"{int(value)}"'.encode() not in raw
    floats = infer(hashed.folder.model.read_bytes(), manifest, job.inputs)
    for spec, shown, wanted in zip(manifest.outputs, bundle.outputs, floats, strict=True):
        assert dequantise(shown, int(spec.scale)) == pytest.approx(wanted, abs=0.01)


def test_another_hash_output_or_job_is_not_valid(hashed: Built, bundle: ProofBundle) -> None:
    """Trap: with hashed inputs the job's limbs stand at the end; another job's must not fit the proof."""
    circuit, policy = hashed.folder.circuit(), Policy.of_provider(DOMAIN, bundle.terms)
    assert bundle.input_hash is not None
    other_hash = msgspec.structs.replace(bundle, input_hash=type(bundle.input_hash)(bundle.input_hash + 1))
    outputs = ((TensorInt(bundle.outputs[0][0] + 1), *bundle.outputs[0][1:]), *bundle.outputs[1:])
    other_output = msgspec.structs.replace(bundle, outputs=outputs)
    terms = msgspec.structs.replace(bundle.terms, salt=Bytes32(b"\x01" * 32))
    other_job = msgspec.structs.replace(bundle, terms=terms)
    for wrong in (other_hash, other_output, other_job):
        assert verify(wrong, circuit, policy).outcome == "INVALID"


def test_an_input_without_a_blind_is_refused(hashed: Built, job: Job) -> None:
    """Trap: EZKL's hash is unblinded, so that a likely input could be guessed from what the chain shows."""
    manifest, folder = hashed.folder.manifest(), hashed.folder
    bare = job.inputs[0][:-BLIND_WORDS]
    with pytest.raises(VerifierError) as caught:
        committed_words((bare,), manifest)
    assert caught.value.code == "V5-instance-count"
    for blind in ((TensorInt(0),) * BLIND_WORDS, (TensorInt(1 << 24),) * BLIND_WORDS, (TensorInt(-1),) * BLIND_WORDS):
        with pytest.raises(VerifierError) as caught:
            committed_words(((*bare, *blind),), manifest)
        assert caught.value.code == "V5-blind"
    with pytest.raises(CircuitError) as refused:
        check_input(folder, folder.compiled, (bare,), job.terms.job_id(DOMAIN), Limits())
    assert refused.value.code == "C-input-shape"


def test_two_payers_with_one_input_have_different_commitments(hashed: Built, key: Key, tmp_path: Path) -> None:
    """Trap: a blind that is not fresh links the jobs of one input."""
    first, second = (accepted_job(hashed, key, tmp_path) for _ in range(2))
    assert first.inputs[0][:-BLIND_WORDS] == second.inputs[0][:-BLIND_WORDS]
    assert first.terms.input_commitment != second.terms.input_commitment


def test_a_hashed_circuit_is_rebuilt_byte_for_byte(hashed: Built) -> None:
    record = rebuild(hashed.folder, srs_stores=(), now=1, limits=Limits(threads=1))
    assert str(record.circuit_id) == hashed.folder.path.name


def test_several_inputs_or_a_taken_name_cannot_be_hashed() -> None:
    """Trap: ezkl hashes each tensor by itself, and one blind would leave the others to be guessed."""
    model = parse_model(two_heads())
    with pytest.raises(CircuitError) as caught:
        circuit_graph(model._replace(inputs=(*model.inputs, *model.inputs)), "hashed")
    assert caught.value.code == "C-hashed-inputs"
    with pytest.raises(CircuitError) as caught:
        circuit_graph(parse_model(two_heads(name="opgate_flat")), "hashed")
    assert caught.value.code == "C-onnx-name"


@pytest.mark.parametrize("opset", [7, 13, 21])
def test_the_blind_is_sliced_off_in_any_opset(opset: int) -> None:
    """Trap: Slice took its bounds as attributes before opset 10."""
    model = onnx.load_model_from_string(circuit_graph(parse_model(two_heads(opset)), "hashed"))
    onnx.checker.check_model(model, full_check=True)
    assert [each.name for each in model.graph.output] == ["scores", "total", "opgate_job_shown"]
