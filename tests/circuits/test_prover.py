"""The prover: from an accepted job to a bundle that verifies, and nothing else ever leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from circuits import ezkl_runner
from circuits.build import Built
from circuits.ezkl_runner import Limits
from circuits.registry import CircuitFolder
from prover.bundle import Job, check_bundle, make_bundle, sign_bundle
from prover.infer import infer
from prover.prove import ProvingFiles, ezkl_accepts, prove
from prover.witness import check_input, make_witness
from verifier.bundles import parse_bundle
from verifier.errors import CircuitError
from verifier.payment.keys import Key, create_key
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle
from verifier.statement.eip712 import Domain
from verifier.statement.scalars import Address, Bytes32, Count, FieldElement, TensorInt, Text, Timestamp, Uint256
from verifier.statement.terms import Acceptance, JobTerms, ProofRule, input_commitment
from verifier.tensors import dequantise, quantise, to_words
from verifier.verify import verify

DOMAIN = Domain(name=Text("opgate"), version=Text("1"), chain_id=Count(31337), verifying_contract=Address(b"\x0e" * 20))
VALUES = (0.5, -1.25, 1.75)
LIMITS = Limits()


def accepted_job(folder: CircuitFolder, key: Key, values: tuple[float, ...] = VALUES, salt: int = 1) -> Job:
    manifest = folder.manifest()
    spec = manifest.inputs[0]
    inputs = (quantise(values, scale=int(spec.scale), dtype=spec.dtype),)
    terms = JobTerms(
        payer=Address(b"\x01" * 20),
        provider=key.address,
        payee=Address(b"\x02" * 20),
        token=Address(b"\x03" * 20),
        amount=Uint256(10),
        circuit_id=manifest.circuit_id,
        rule=ProofRule.derive(manifest, Address(b"\x04" * 20)),
        input_commitment=input_commitment(to_words(inputs[0])),
        fund_by=_time(100),
        deadline=_time(200),
        salt=Bytes32(salt.to_bytes(32)),
    )
    acceptance = key.sign_digest(Acceptance(job_id=terms.job_id(DOMAIN)).digest(DOMAIN))
    return Job(domain=DOMAIN, terms=terms, inputs=inputs, acceptance=acceptance)


def _time(seconds: int) -> Timestamp:
    return Timestamp(seconds)


@pytest.fixture(scope="module")
def bundle(tiny: Built, key: Key, tmp_path_factory: pytest.TempPathFactory) -> ProofBundle:
    work = tmp_path_factory.mktemp("work")
    job = accepted_job(tiny.folder, key)
    return make_bundle(job, tiny.folder, ProvingFiles.of(tiny.folder.private), key, work, LIMITS)


def test_a_bundle_verifies_and_shows_what_the_model_says(bundle: ProofBundle, tiny: Built) -> None:
    circuit = tiny.folder.circuit()
    verdict = verify(parse_bundle(canonical.encode(bundle)), circuit, Policy.of_provider(DOMAIN, bundle.terms))
    assert (verdict.outcome, verdict.code) == ("VALID", None)
    assert bundle.receipt is not None
    assert bundle.inputs is not None
    assert bundle.receipt.engine == "ezkl 23.0.5"
    floats = infer(tiny.folder.model.read_bytes(), circuit.manifest, bundle.inputs)[0]
    shown = dequantise(bundle.outputs[0], int(circuit.manifest.outputs[0].scale))
    assert shown == pytest.approx(floats, abs=0.01)


def test_a_wrong_output_never_leaves(bundle: ProofBundle, tiny: Built, key: Key, tmp_path: Path) -> None:
    """Trap: ezkl proves a wrong witness "successfully"; the provider would sign and deliver it."""
    files = ProvingFiles.of(tiny.folder.private)
    job = accepted_job(tiny.folder, key)
    witness_file = tmp_path / "witness"
    witness = make_witness(tiny.folder, files.compiled, job.inputs, job.terms.job_id(DOMAIN), witness_file, LIMITS)
    stored = json.loads(witness_file.read_bytes())
    wrong = TensorInt(witness.outputs[0][0] + 1)
    stored["outputs"][0][0] = ezkl_runner.to_hex(wrong.to_field())
    witness_file.write_text(json.dumps(stored))
    proved = prove(tiny.folder, files, witness_file, tmp_path, LIMITS)
    outputs = ((wrong, *witness.outputs[0][1:]),)
    for claimed in (outputs, witness.outputs):
        signed = sign_bundle(job, claimed, proved, key, tiny.folder.manifest())
        with pytest.raises(CircuitError) as caught:
            check_bundle(signed, tiny.folder.circuit(), tiny.folder, tmp_path, LIMITS)
        assert caught.value.code == "C-bundle"
        assert "V7-proof" in caught.value.found
    check_bundle(bundle, tiny.folder.circuit(), tiny.folder, tmp_path, LIMITS)


def test_the_proof_of_a_circuit_with_the_same_shape_never_leaves(
    tiny: Built, build_linear: Callable[..., Built], key: Key, tmp_path: Path
) -> None:
    """Trap: a store whose proving key belongs to another model of the same shape."""
    other = build_linear(seed=2)
    assert other.folder.manifest().n_instances == tiny.folder.manifest().n_instances
    foreign = ProvingFiles.of(other.folder.private)
    with pytest.raises(CircuitError) as caught:
        make_bundle(accepted_job(tiny.folder, key), tiny.folder, foreign, key, tmp_path, LIMITS)
    assert caught.value.code == "C-bundle"


def test_ezkl_has_its_own_opinion(bundle: ProofBundle, tiny: Built, tmp_path: Path) -> None:
    """The file that it reads is made from the claim alone, never from what the prover left there."""
    assert bundle.inputs is not None
    from verifier.instances import claimed_words  # noqa: PLC0415 - beside its one use

    words = claimed_words(bundle)
    fields = tuple(FieldElement(int.from_bytes(words[i : i + 32])) for i in range(0, len(words), 32))
    assert ezkl_accepts(tiny.folder, bundle.proof, fields, tmp_path, LIMITS)
    changed = (FieldElement(fields[0] + 1), *fields[1:])
    assert not ezkl_accepts(tiny.folder, bundle.proof, changed, tmp_path, LIMITS)


def test_another_job_input_provider_or_circuit_is_refused_first(tiny: Built, key: Key, tmp_path: Path) -> None:
    files = ProvingFiles.of(tiny.folder.private)
    job = accepted_job(tiny.folder, key)
    stranger = create_key(tmp_path / "stranger")
    swapped = msgspec.structs.replace(job, inputs=((TensorInt(1), TensorInt(2), TensorInt(3)),))
    terms = msgspec.structs.replace(job.terms, circuit_id=Bytes32(bytes(32)))
    foreign = msgspec.structs.replace(job, terms=terms)
    for wrong, signer in ((swapped, key), (foreign, key), (job, stranger)):
        with pytest.raises(CircuitError) as caught:
            make_bundle(wrong, tiny.folder, files, signer, tmp_path, LIMITS)
        assert caught.value.code == "C-job"


def test_inputs_that_the_circuit_does_not_have_are_refused(tiny: Built) -> None:
    """Traps: ezkl ignores surplus inputs silently; values beyond the bound are a "General synthesis error"."""
    compiled, job_id = tiny.folder.compiled, Bytes32(bytes(32))
    bound = int(tiny.folder.manifest().value_bound)
    cases = (
        (((TensorInt(1), TensorInt(2)),), "C-input-shape"),
        (((TensorInt(1),) * 3, (TensorInt(1),)), "C-input-shape"),
        (((TensorInt(bound + 1),) * 3,), "C-input-range"),
        (((TensorInt(bound),) * 3,), "C-input"),
    )
    for inputs, code in cases:
        with pytest.raises(CircuitError) as caught:
            check_input(tiny.folder, compiled, inputs, job_id, LIMITS)
        assert caught.value.code == code


def test_a_lookup_outside_its_table_is_refused_before_proving(looking_up: Built) -> None:
    """Trap: gen_witness succeeds, and prove never returns."""
    folder = looking_up.folder
    scale = int(folder.manifest().inputs[0].scale)
    inside = (quantise((0.1, 0.2, 0.3), scale=scale, dtype="float32"),)
    assert check_input(folder, folder.compiled, inside, Bytes32(bytes(32)), LIMITS)
    outside = ((TensorInt(60 << scale), TensorInt(0), TensorInt(0)),)
    with pytest.raises(CircuitError) as caught:
        check_input(folder, folder.compiled, outside, Bytes32(bytes(32)), LIMITS)
    assert caught.value.code == "C-lookup"


def test_a_store_without_its_private_part_says_so(tmp_path: Path) -> None:
    with pytest.raises(CircuitError) as caught:
        ProvingFiles.of(tmp_path)
    assert caught.value.code == "C-private"


def test_an_srs_of_another_ceremony_is_refused(tiny: Built, tmp_path: Path) -> None:
    """Trap: prove and verify never check the SRS."""
    files = ProvingFiles.of(tiny.folder.private)
    other = tmp_path / "kzg.srs"
    other.write_bytes(files.srs.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CircuitError) as caught:
        prove(tiny.folder, files._replace(srs=other), tmp_path / "none", tmp_path, LIMITS)
    assert caught.value.code == "C-srs"


def test_one_job_in_a_process_of_its_own(tiny: Built, tmp_path: Path) -> None:
    """As a worker starts it: canonical request in, canonical bundle or refusal out."""
    key = create_key(tmp_path / "key")
    job = accepted_job(tiny.folder, key, salt=7)
    request = {
        "circuit_dir": str(tiny.folder.path),
        "private_dir": str(tiny.folder.private),
        "keyfile": str(tmp_path / "key"),
        **canonical.to_builtins(job),
    }
    for name, content in (("good", request), ("bad", request | {"inputs": [["1", "2", "3"]]})):
        (tmp_path / f"{name}.json").write_bytes(canonical.encode(content))
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "prover.run", str(tmp_path / f"{name}.json"), str(tmp_path / name)],
            cwd=tmp_path,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == (0 if name == "good" else 1), done.stderr
    bundle = parse_bundle((tmp_path / "good" / "bundle.json").read_bytes())
    assert bundle.job_id == job.terms.job_id(DOMAIN)
    assert verify(bundle, tiny.folder.circuit(), Policy.of_provider(DOMAIN, job.terms)).outcome == "VALID"
    refusal = json.loads((tmp_path / "bad" / "error.json").read_bytes())
    assert refusal["code"] == "C-job"
    assert not (tmp_path / "bad" / "bundle.json").exists()
