"""A built circuit: order of the instances, refusals of its code, determinism, rebuild, and ezkl's weaknesses shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from circuits import compile as compiling
from circuits import ezkl_runner, srs
from circuits.build import Built
from circuits.ezkl_runner import Limits, Witness
from circuits.graph import raw_input
from circuits.parsing import parse_model
from circuits.rebuild import rebuild
from circuits.registry import CircuitFolder, add_record, export, find, list_circuits
from circuits.settings import canonical_settings
from verifier.circuit import Circuit
from verifier.errors import CircuitError
from verifier.evm import run_verifier, signed_by
from verifier.instances import calldata
from verifier.keccak import keccak256
from verifier.payment.keys import Key
from verifier.statement import canonical
from verifier.statement.certificates import record_digest
from verifier.statement.scalars import FIELD_MODULUS, Bytes32, TensorInt
from verifier.tensors import job_limbs

JOB = Bytes32(bytes(range(200, 232)))


class Proof:
    """An honest proof of one input for JOB."""

    def __init__(self, built: Built, folder: Path) -> None:
        self.folder, self.built = built.folder, built
        self.inputs = (tuple(TensorInt(value) for value in (8192, -4096, 100)),)
        tensors = [[value.to_field() for value in tensor] for tensor in (*self.inputs, job_limbs(JOB))]
        self.witness_file, self.file = folder / "witness", folder / "proof"
        done = ezkl_runner.require(
            [ezkl_runner.gen_witness(raw_input(tensors), self.folder.compiled, self.witness_file)]
        )
        self.witness: Witness = ezkl_runner.read_witness(done[0])
        self.prove(self.witness_file, self.file)
        self.proof = compiling.read_proof(self.file)

    def prove(self, witness: Path, proof: Path) -> None:
        folder = self.folder
        ezkl_runner.prove(witness=witness, compiled=folder.compiled, pk=folder.pk, srs=folder.srs, proof=proof)

    def ezkl_verifies(self, proof: Path) -> bool:
        folder = self.folder
        return bool(ezkl_runner.verify(proof=proof, settings=folder.settings, vk=folder.vk, srs=folder.srs_k1).value)

    def code_accepts(self, proof: bytes, words: list[int]) -> bool:
        packed = b"".join(word.to_bytes(32) for word in words)
        code = (self.folder.path / "verifier.bin").read_bytes()
        return run_verifier(code, calldata(proof, packed), gas_cap=2_000_000, revision="SHANGHAI").accepted


@pytest.fixture(scope="module")
def proof(tiny: Built, tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof(tiny, tmp_path_factory.mktemp("proof"))


def test_instances_are_inputs_then_limbs_then_outputs(proof: Proof) -> None:
    """Trap: the offsets in the signed rule point at words; another order would pay for another job."""
    manifest = proof.folder.manifest()
    fields = [value.to_field() for value in (*proof.inputs[0], *job_limbs(JOB))]
    assert list(proof.witness.instances[:14]) == fields
    assert (manifest.job_offset, manifest.input_len, manifest.n_instances) == (3, 3, 16)
    assert [int(spec.offset) for spec in (*manifest.inputs, *manifest.outputs)] == [0, 14]
    words = [
        int.from_bytes(bytes.fromhex(word), "little") for word in json.loads(proof.file.read_bytes())["instances"][0]
    ]
    assert words == list(proof.witness.instances)
    assert proof.code_accepts(proof.proof, words)


def test_the_code_refuses_what_ezkl_lets_through(proof: Proof) -> None:
    """Traps: one instance more, trailing bytes, an aliased value, another job, another output."""
    words = [int(word) for word in proof.witness.instances]
    modulus = FIELD_MODULUS
    assert not proof.code_accepts(proof.proof, [*words, 0])
    assert not proof.code_accepts(proof.proof, words[:-1])
    assert not proof.code_accepts(proof.proof + bytes(32), words)
    assert not proof.code_accepts(proof.proof[:-32], words)
    for index in (0, 3, 13, 14, 15):
        assert not proof.code_accepts(proof.proof, [*words[:index], words[index] ^ 1, *words[index + 1 :]])
        assert not proof.code_accepts(proof.proof, [*words[:index], words[index] + modulus, *words[index + 1 :]])


def test_ezkl_proves_a_wrong_witness_and_both_verifiers_refuse_it(proof: Proof, tmp_path: Path) -> None:
    """Trap: `prove` of a wrong witness is "successful"."""
    witness = json.loads(proof.witness_file.read_bytes())
    wrong = ezkl_runner.from_hex(witness["outputs"][0][0]) + 1
    witness["outputs"][0][0] = ezkl_runner.to_hex(wrong)
    (tmp_path / "witness").write_text(json.dumps(witness))
    proof.prove(tmp_path / "witness", tmp_path / "proof")
    words = [int(word) for word in proof.witness.instances]
    words[14] = int(wrong)
    assert not proof.code_accepts(compiling.read_proof(tmp_path / "proof"), words)
    with pytest.raises(CircuitError) as caught:
        proof.ezkl_verifies(tmp_path / "proof")
    assert caught.value.code == "C-ezkl"


def test_ezkl_verify_takes_trailing_bytes_that_the_code_refuses(proof: Proof, tmp_path: Path) -> None:
    """Trap: ezkl is the second opinion only; what it lets through must not be what decides."""
    stored = json.loads(proof.file.read_bytes())
    stored["proof"] += [0] * 64
    (tmp_path / "proof").write_text(json.dumps(stored))
    assert proof.ezkl_verifies(tmp_path / "proof")
    assert not proof.code_accepts(bytes(stored["proof"]), [int(word) for word in proof.witness.instances])


def test_rebuild_gives_the_same_bytes_elsewhere_with_other_threads(tiny: Built, key: Key) -> None:
    """Trap: gen_settings differs from run to run, and its order changes the verifying key."""
    record = rebuild(tiny.folder, srs_stores=(), now=1_700_000_000, limits=Limits(threads=1))
    path = add_record(tiny.folder, record, key)
    signed = next(each for each in Circuit.load(tiny.folder.path).records if each.record == record)
    assert signed_by(key.address, record_digest(record), signed.signature)
    path.unlink()


def altered_circuit(tiny: Built, out: Path, change: Callable[[dict[str, object]], None]) -> CircuitFolder:
    """A copy of the circuit whose settings were changed, with a manifest that says so: what a dishonest owner gives."""
    source = tiny.folder
    value = json.loads(source.settings.read_bytes())
    change(value)
    raw = canonical_settings(json.dumps(value).encode())
    scales = [int(scale) for scale in value["model_output_scales"]]
    manifest = source.manifest()
    outputs = tuple(
        msgspec.structs.replace(spec, scale=scale) for spec, scale in zip(manifest.outputs, scales, strict=True)
    )
    forged = msgspec.structs.replace(manifest, settings_sha256=canonical.sha256(raw), outputs=outputs)
    folder = CircuitFolder(out / str(forged.circuit_id))
    shutil.copytree(source.path, folder.path)
    (folder.path / "manifest.json").write_bytes(canonical.encode(forged))
    folder.settings.write_bytes(raw)
    return folder


@pytest.mark.parametrize(
    "name", ["model_output_scales", "model_input_scales", "input_types", "output_types", "model_instance_shapes"]
)
def test_rebuild_finds_altered_settings_that_leave_the_key_as_it_is(tiny: Built, tmp_path: Path, name: str) -> None:
    """Trap: scales, types and shapes can be altered with the verifying key unchanged, and `verify` says True."""

    def change(value: dict[str, object]) -> None:
        old = value[name]
        assert isinstance(old, list)
        if isinstance(old[0], list):
            value[name] = [list(reversed(old[0])), *old[1:]]
        else:
            value[name] = [13 + (old[0] == 13), *old[1:]] if isinstance(old[0], int) else ["Int", *old[1:]]

    folder = altered_circuit(tiny, tmp_path, change)
    assert folder.vk.read_bytes() == tiny.folder.vk.read_bytes()
    with pytest.raises(CircuitError) as caught:
        rebuild(folder, srs_stores=(), now=1)
    assert caught.value.code == "C-rebuild"
    assert "settings.json" in caught.value.where
    assert "vk.key" not in caught.value.where


def test_rebuild_names_what_differs_before_it_works(
    tiny: Built, tmp_path: Path, linear_model: Callable[..., bytes]
) -> None:
    """Trap: another model under an honest manifest."""
    folder = CircuitFolder(tmp_path / tiny.folder.path.name)
    shutil.copytree(tiny.folder.path, folder.path)
    folder.model.write_bytes(linear_model(seed=9))
    with pytest.raises(CircuitError) as caught:
        rebuild(folder, srs_stores=(), now=1)
    assert (caught.value.code, caught.value.where) == ("C-rebuild", "model.onnx")


def test_rebuild_says_when_it_cannot(tiny: Built, tmp_path: Path) -> None:
    folder = CircuitFolder(tmp_path / tiny.folder.path.name)
    shutil.copytree(tiny.folder.path, folder.path)
    folder.srs.unlink()
    with pytest.raises(CircuitError) as caught:
        rebuild(folder, srs_stores=(tmp_path,), now=1)
    assert caught.value.code == "C-srs-missing"
    folder.model.unlink()
    with pytest.raises(CircuitError) as caught:
        rebuild(folder, srs_stores=(), now=1)
    assert caught.value.code == "C-closed"


def test_the_same_code_for_another_srs_is_another_circuit(tiny: Built, tmp_path: Path) -> None:
    """Trap: verify never checks the SRS; the code embeds it, so a foreign one gives another hash."""
    logrows = int(tiny.folder.manifest().srs.logrows)
    other = srs.development_srs(tmp_path / "srs", logrows)
    model = parse_model(tiny.folder.model.read_bytes())
    keys = compiling.make_keys(model, tiny.run_args, other, tmp_path, Limits())
    assert keys.files.settings.read_bytes() == tiny.folder.settings.read_bytes()
    assert keccak256(keys.code) != tiny.folder.manifest().evm.code_hash


def test_private_files_are_only_their_owners(tiny: Built) -> None:
    """Trap: the proving key is the model."""
    for path in (tiny.folder.pk, tiny.folder.compiled, tiny.folder.srs):
        assert path.stat().st_mode & 0o777 == 0o600
    assert tiny.folder.private.stat().st_mode & 0o777 == 0o700


def test_each_reader_gets_what_it_may_hold(tiny: Built, tmp_path: Path) -> None:
    payer = export(tiny.folder, "payer", tmp_path / "payer", development=True)
    auditor = export(tiny.folder, "auditor", tmp_path / "auditor", development=False)
    provider = export(tiny.folder, "provider", tmp_path / "provider" / "circuits", development=True)
    assert (tmp_path / "provider").stat().st_mode & 0o077 == 0
    assert not payer.private.exists()
    assert not auditor.private.exists()
    assert not (auditor.path / "vk.key").exists()
    assert provider.pk.read_bytes() == tiny.folder.pk.read_bytes()
    assert provider.pk.stat().st_mode & 0o777 == 0o600
    assert Circuit.load(payer.path).circuit_id == tiny.folder.manifest().circuit_id
    with pytest.raises(CircuitError) as caught:
        export(tiny.folder, "payer", tmp_path / "payer", development=True)
    assert caught.value.code == "C-export"


def test_a_folder_whose_name_or_code_is_another_is_refused(tiny: Built, tmp_path: Path) -> None:
    renamed = CircuitFolder(tmp_path / ("0x" + "00" * 32))
    shutil.copytree(tiny.folder.path, renamed.path)
    with pytest.raises(CircuitError, match="C-registry"):
        renamed.circuit()
    copied = CircuitFolder(tmp_path / tiny.folder.path.name)
    shutil.copytree(tiny.folder.path, copied.path)
    (copied.path / "verifier.bin").write_bytes(b"\x00" * 100)
    with pytest.raises(CircuitError, match="C-registry"):
        copied.circuit()


def test_circuits_are_found_by_the_beginning_of_their_id(tiny: Built) -> None:
    store = tiny.folder.path.parent
    name = tiny.folder.path.name
    assert find(store, name[:12]) == find(store, name[2:12]) == find(store, str(tiny.folder.path)) == tiny.folder
    assert [each.path.name for each in list_circuits(store)] == [name]
    for wrong in ("0x", "0xffffffff", "../" + name):
        with pytest.raises(CircuitError, match="C-missing"):
            find(store, wrong)


def test_the_manifest_says_what_the_circuit_is(tiny: Built) -> None:
    manifest = tiny.folder.manifest()
    assert manifest.value_bound == tiny.run_args.value_bound
    assert manifest.evm.gas == tiny.cost.measured.gas
    assert tiny.certificate.circuit_id == manifest.circuit_id
    assert float(tiny.certificate.max_error) < 0.01
