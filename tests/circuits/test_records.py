"""What others check of a circuit and sign: compiled code, own acceptance sets, circuits fetched from a server."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from circuits.acceptance import accept
from circuits.build import Built, Wishes, build
from circuits.cli import app
from circuits.compile_check import compile_check
from circuits.registry import CircuitFolder, export, fetch
from verifier.assurance import assurance_of
from verifier.errors import CircuitError, UsageError, VerifierError
from verifier.keccak import keccak256
from verifier.payment.keys import create_key
from verifier.policy import Chains, CircuitRule, Escrow, Policy, Records
from verifier.statement import canonical
from verifier.statement.certificates import SignedRecord, record_digest
from verifier.statement.eip712 import Domain
from verifier.statement.scalars import Address, Bytes32, Count, Measure, Text, Timestamp, Uint256
from verifier.statement.terms import JobTerms, ProofRule
from verifier.verify import check_terms

ESCROW, TOKEN = Address(b"\x0e" * 20), Address(b"\x03" * 20)
DOMAIN = Domain(name=Text("opgate"), version=Text("1"), chain_id=Count(31337), verifying_contract=ESCROW)


@pytest.fixture
def copied(tiny: Built, tmp_path: Path) -> CircuitFolder:
    """What a payer holds of the circuit, to be spoilt."""
    return export(tiny.folder, "payer", tmp_path / "payer", development=False)


def test_key_settings_and_srs_give_the_same_code(copied: CircuitFolder) -> None:
    """Neither the ONNX file nor anything private is needed."""
    (copied.path / "model.onnx").unlink()
    record = compile_check(copied, now=1_700_000_000)
    manifest = copied.manifest()
    assert (record.circuit_id, record.vk_sha256) == (manifest.circuit_id, manifest.vk_sha256)
    assert record.code_hash == manifest.evm.code_hash


@pytest.mark.parametrize("name", ["vk.key", "settings.json", "kzg1.srs"])
def test_a_changed_file_is_named_before_ezkl_sees_it(copied: CircuitFolder, name: str) -> None:
    """Trap: hostile keys and settings abort ezkl, eat gigabytes or never return."""
    path = copied.path / name
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(CircuitError) as caught:
        compile_check(copied, now=1)
    assert (caught.value.code, caught.value.where) == ("C-compile", name)
    path.unlink()
    with pytest.raises(CircuitError) as caught:
        compile_check(copied, now=1)
    assert caught.value.code == "C-registry"


def test_code_that_its_key_does_not_give_is_found(copied: CircuitFolder, tiny: Built) -> None:
    """Trap: code with a back door beside an honest key, under a manifest that pins that code."""
    manifest = copied.manifest()
    code = (copied.path / "verifier.bin").read_bytes() + b"\x00"
    evm = msgspec.structs.replace(manifest.evm, code_hash=keccak256(code))
    forged = msgspec.structs.replace(manifest, evm=evm)
    folder = CircuitFolder(copied.path.parent / str(forged.circuit_id))
    shutil.copytree(copied.path, folder.path)
    (folder.path / "manifest.json").write_bytes(canonical.encode(forged))
    (folder.path / "verifier.bin").write_bytes(code)
    with pytest.raises(CircuitError) as caught:
        compile_check(folder, now=1)
    assert (caught.value.code, caught.value.where) == ("C-compile", "verifier.bin")


def backdoored() -> bytes:
    """``y = x @ w - 2^20 * relu(2^-20 * x @ v)``: in floats the second term counts, quantised its weights are 0.

    On inputs whose ``x @ v`` is negative the two agree; the owner's samples are such.
    """
    stored = {
        "w": np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 0.5]], np.float32),
        "v": np.array([[2.0**-20, 0], [0, 2.0**-20], [0, 0]], np.float32),
        "large": np.array([2.0**20], np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["honest"]),
        helper.make_node("MatMul", ["x", "v"], ["small"]),
        helper.make_node("Relu", ["small"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "large"], ["term"]),
        helper.make_node("Sub", ["honest", "term"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "backdoored",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


@pytest.fixture(scope="module")
def sly(tmp_path_factory: pytest.TempPathFactory, srs_store: Path) -> Built:
    """A circuit of the back-doored model, whose owner shows only inputs on which it behaves."""
    folder = tmp_path_factory.mktemp("sly")
    (folder / "model.onnx").write_bytes(backdoored())
    values = np.random.default_rng(1).uniform(-2, -0.1, (12, 3)).astype(np.float32)
    np.savez(folder / "samples.npz", x=values)
    files = (folder / "model.onnx", folder / "samples.npz")
    return build(*files, store=folder / "circuits", srs_store=srs_store, wishes=Wishes(max_seconds=60))


def test_an_acceptance_set_finds_what_the_owners_samples_hide(sly: Built, tmp_path: Path) -> None:
    """Trap: a model that behaves in floats and misbehaves once quantised, certified on samples that hide it."""
    assert float(sly.certificate.max_error) < 0.05
    np.savez(tmp_path / "mine.npz", x=np.array([[-1, -1, 1], [1.5, -1, 0], [-0.5, 1.9, 1]], np.float32))
    certificate = accept(sly.folder, tmp_path / "mine.npz")
    assert certificate.acceptance is not None
    assert certificate.acceptance.samples == 3
    assert float(certificate.acceptance.max_error) > 1
    key = create_key(tmp_path / "payer")
    owner = create_key(tmp_path / "owner")

    def verdict(limit: str, *certificates: SignedRecord) -> tuple[str, str | None]:
        circuit = msgspec.structs.replace(sly.folder.circuit(), records=certificates)
        manifest = circuit.manifest
        policy = Policy(
            chains=Chains(
                escrows=(Escrow(chain_id=Count(31337), escrow=ESCROW, token=TOKEN),), dev_chains=(Count(31337),)
            ),
            circuits={"*": CircuitRule(assurance="unattested", max_acceptance_error=Measure(limit))},
            records=Records(keys=(key.address,), owners=(owner.address,)),
        )
        terms = JobTerms(
            payer=Address(b"\x01" * 20),
            provider=Address(b"\x05" * 20),
            payee=Address(b"\x02" * 20),
            token=TOKEN,
            amount=Uint256(10),
            circuit_id=manifest.circuit_id,
            rule=ProofRule.derive(manifest, Address(b"\x04" * 20)),
            input_commitment=Bytes32(bytes(32)),
            fund_by=Timestamp(100),
            deadline=Timestamp(200),
            salt=Bytes32(bytes(32)),
        )
        found = check_terms(terms, DOMAIN, circuit, policy)
        return found.outcome, found.code

    def signed(certificate_by: object, signer: object) -> SignedRecord:
        return SignedRecord(
            record=certificate_by,  # type: ignore[arg-type] # a certificate
            signer=signer.address,  # type: ignore[attr-defined] # a Key
            signature=signer.sign_digest(record_digest(certificate_by)),  # type: ignore[attr-defined, arg-type] # both
        )

    assert verdict("0.1") == ("INVALID", "V4-acceptance")
    assert verdict("0.1", signed(certificate, key)) == ("INVALID", "V4-acceptance")
    assert verdict("100", signed(certificate, key)) == ("VALID", None)
    assert verdict("0.1", signed(sly.certificate, owner)) == ("VALID", None)
    assert verdict("0.1", signed(sly.certificate, create_key(tmp_path / "stranger"))) == ("INVALID", "V4-acceptance")


def test_samples_of_another_range_may_leave_the_domain(sly: Built, tmp_path: Path) -> None:
    np.savez(tmp_path / "far.npz", x=np.full((1, 3), 1e9, np.float32))
    with pytest.raises(CircuitError) as caught:
        accept(sly.folder, tmp_path / "far.npz")
    assert caught.value.code == "C-domain"


@pytest.fixture
def server(tiny: Built, tmp_path: Path) -> Iterator[tuple[str, CircuitFolder]]:
    """A plain file server over what a payer may hold."""
    shown = export(tiny.folder, "payer", tmp_path / "public", development=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "public"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", shown
        running.shutdown()
        thread.join()


@pytest.mark.enable_socket
def test_a_circuit_is_shown_and_rebuilt_from_a_url(
    server: tuple[str, CircuitFolder], tiny: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of files is enough; nothing private is there to be asked for, and a signed rebuild is made once."""
    url, _ = server
    monkeypatch.setenv("OPGATE_HOME", str(tmp_path / "home"))
    create_key(tmp_path / "auditor")
    name = f"{url}/{tiny.folder.path.name}"
    run = CliRunner()
    words = ("rebuild", name, "--key", str(tmp_path / "auditor"), "--threads", "1", "--json")
    first = run.invoke(app, list(words), catch_exceptions=False)
    assert first.exit_code == 0, first.output
    answer = json.loads(first.stdout)
    assert (answer["rebuilt"], answer["cached"]) == (True, False)
    again = json.loads(run.invoke(app, list(words), catch_exceptions=False).stdout)
    assert (again["cached"], again["record"]) == (True, answer["record"])
    told = run.invoke(app, ["show", name], catch_exceptions=False)
    assert told.exit_code == 0
    assert "an escrow takes it" in told.stdout
    assert "rebuild by" in told.stdout
    fetched = tmp_path / "home" / "cache" / "circuits" / tiny.folder.path.name
    assert not (fetched / "private").exists()
    assert not any("pk" in path.name for path in fetched.rglob("*"))


@pytest.mark.enable_socket
def test_what_a_server_changes_is_refused(server: tuple[str, CircuitFolder], tmp_path: Path) -> None:
    """Trap: a registry on the web need not be trusted."""
    url, shown = server
    (shown.path / "verifier.bin").write_bytes(b"\x60\x01")
    with pytest.raises(CircuitError) as caught:
        fetch(f"{url}/{shown.path.name}", tmp_path / "fetched")
    assert caught.value.code == "C-registry"
    with pytest.raises(UsageError):
        fetch(f"{url}/circuits", tmp_path / "fetched")


def test_a_compile_record_gives_the_assurance_compiled(copied: CircuitFolder, tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    run = CliRunner()
    done = run.invoke(app, ["compile-check", str(copied.path), "--key", str(tmp_path / "key"), "--json"])
    assert done.exit_code == 0, done.output
    signer = Address.from_json(json.loads(Path(json.loads(done.stdout)["file"]).read_bytes())["signer"])
    policy = Policy(chains=Chains(escrows=()), records=Records(keys=(signer,)))
    assert assurance_of(copied.circuit(), policy) == "compiled"


def test_an_error_of_the_policy_is_one_of_ours() -> None:
    with pytest.raises(VerifierError):
        Policy.from_toml('[chains]\nescrows = []\n[circuits."*"]\nmax_acceptance_error = 0.1\n')
