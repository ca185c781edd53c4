"""Makes `base/`: two circuits of one shape, one of each kind in `models.py`, records, bundles with real proofs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from circuits import compile as compiling
from circuits import registry, srs
from circuits.build import Built, build
from circuits.ezkl_runner import Limits
from circuits.parsing import parse_model
from circuits.rebuild import rebuild
from prover.bundle import Job, sign_bundle
from prover.prove import ProvingFiles, prove
from prover.witness import Tensors, make_witness
from tests.vectors.keys import AUDITOR, OWNER, PAYEE, PAYER, PROVIDER
from tests.vectors.models import KINDS, Kind, write_model
from verifier.bundles import parse_bundle
from verifier.instances import committed_words
from verifier.keccak import keccak256
from verifier.payer.inputs import with_blind
from verifier.policy import Chains, CircuitRule, Escrow, Policy, Records
from verifier.statement import canonical
from verifier.statement.certificates import CircuitAttestation
from verifier.statement.eip712 import escrow_domain
from verifier.statement.scalars import Address, Bytes32, Count, Measure, Text, Timestamp, Uint256
from verifier.statement.terms import Acceptance, JobTerms, ProofRule, input_commitment
from verifier.tensors import quantise

if TYPE_CHECKING:
    from circuits.registry import CircuitFolder
    from verifier.statement.bundle import ProofBundle

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
CHAIN = 31337
ESCROW, TOKEN, VERIFIER = (Address(keccak256(name.encode())[:20]) for name in ("escrow", "token", "verifier"))
BUILT_AT = Timestamp(1_700_000_000)
NOT_NEEDED = ("model.onnx", "vk.key", "settings.json", "kzg1.srs", "run_args.json", "kzg.srs")


def prove_digits(base: Path) -> None:
    """The two digit circuits, four bundles, and the policy of all vectors."""
    _forget(base, ("job", "other_circuit", "other_input"))
    with tempfile.TemporaryDirectory() as name:
        private = Path(name)
        samples = EXAMPLE / "samples.npz"
        first, second = (
            _signed(_build(EXAMPLE / model, samples, private), private) for model in ("model.onnx", "other.onnx")
        )
        for title, circuit, sample, committed in (
            ("job", first, 0, 0),
            ("other_job", first, 1, 1),
            ("other_circuit", second, 0, 0),
            ("other_input", first, 1, 0),
        ):
            inputs, promised = (_quantised(circuit, samples, index) for index in (sample, committed))
            _write(base, title, circuit, _prove(circuit, title, private, inputs=inputs, promised=promised))
    policy = Policy(
        chains=Chains(escrows=(Escrow(chain_id=Count(CHAIN), escrow=ESCROW, token=TOKEN),), dev_chains=(Count(CHAIN),)),
        circuits={"*": CircuitRule(max_error=Measure("1"), min_agreement=Measure("0.9"))},
        records=Records(keys=(AUDITOR.address,), owners=(OWNER.address,)),
    )
    (base / "policy.json").write_bytes(canonical.encode(policy))


def prove_kinds(base: Path, titles: tuple[str, ...] = tuple(KINDS)) -> None:
    """One circuit of each kind, each with two bundles for two inputs."""
    _forget(base, titles)
    for title, kind in ((title, KINDS[title]) for title in titles):
        with tempfile.TemporaryDirectory() as name:
            private = Path(name)
            circuit, samples = _circuit(kind, private)
            for index, suffix in enumerate(("", "_other_job")):
                inputs = _quantised(circuit, samples, index)
                bundle = _prove(circuit, title + suffix, private, inputs=inputs, promised=inputs)
                _write(base, title + suffix, circuit, bundle)


def prove_foreign(base: Path) -> None:
    """Bundles that claim the job of `two_outputs`, each with an honest proof of that very job by another circuit.

    The other circuit has the same shape and, in turn, another SRS, other weights, or other scales.
    """
    victim = parse_bundle((base / "bundles" / "two_outputs.json").read_bytes())
    kind = KINDS["two_outputs"]
    for title in ("foreign_srs", "foreign_weights", "foreign_settings"):
        with tempfile.TemporaryDirectory() as name:
            private = Path(name)
            model, samples = write_model(kind, private, seed=12 if title == "foreign_weights" else 11)
            built = _build(model, samples, private, kind)
            if title == "foreign_settings":
                built = _rebuilt_with(built, model, private, param_scale=built.run_args.param_scale + 1)
            bundle = _prove_job(victim, built.folder, private, victim.inputs or ())
            (base / "bundles" / f"{title}.json").write_bytes(bundle)


def _circuit(kind: Kind, private: Path) -> tuple[CircuitFolder, Path]:
    model, samples = write_model(kind, private)
    built = _build(model, samples, private, kind)
    if kind.columns != 1:
        # a build takes one column, the cheapest; the verifier must take whatever somebody else built
        built = _rebuilt_with(built, model, private, num_inner_cols=kind.columns)
    return _signed(built, private), samples


def _rebuilt_with(built: Built, model: Path, private: Path, **knobs: int) -> Built:
    """The circuit of the same model with other run arguments."""
    run_args = replace(built.run_args, **knobs)
    work, limits, srs_file = private / "wide", Limits(), srs.development_srs(private / "srs", run_args.logrows)
    work.mkdir(mode=0o700)
    read = parse_model(model.read_bytes())
    keys = compiling.make_keys(read, run_args, srs_file, work, limits)
    compiled = compiling.finish(read, run_args, srs_file, keys, limits)
    folder = registry.publish(private / "circuits", compiled, run_args, read.source, srs_file, is_open=True)
    named = {"circuit_id": folder.circuit().circuit_id}
    return built._replace(
        folder=folder, certificate=replace(built.certificate, **named), cost=replace(built.cost, **named)
    )


def _build(model: Path, samples: Path, private: Path, kind: Kind | None = None) -> Built:
    visibility = kind.visibility if kind else "public"
    return build(model, samples, store=private / "circuits", srs_store=private / "srs", inputs=visibility)


def _signed(built: Built, private: Path) -> CircuitFolder:
    """The circuit with the records of its owner and of an auditor who rebuilt it."""
    circuit = built.folder.circuit()
    attestation = CircuitAttestation(
        circuit_id=circuit.circuit_id,
        model=Text("a model of the test vectors"),
        code_hash=circuit.manifest.evm.code_hash,
        attested_at=BUILT_AT,
    )
    for record in (built.certificate, built.cost, attestation):
        registry.add_record(built.folder, record, OWNER)
    registry.add_record(built.folder, rebuild(built.folder, srs_stores=(private / "srs",), now=int(BUILT_AT)), AUDITOR)
    return built.folder


def _quantised(circuit: CircuitFolder, samples: Path, index: int) -> Tensors:
    """One sample as it crosses the wire."""
    manifest, arrays = circuit.manifest(), np.load(samples)
    tensors = tuple(
        quantise([float(value) for value in arrays[spec.name][index].ravel()], scale=int(spec.scale), dtype=spec.dtype)
        for spec in manifest.inputs
    )
    return with_blind(tensors) if manifest.visibility == "hashed" else tensors


def _prove(folder: CircuitFolder, salt: str, private: Path, *, inputs: Tensors, promised: Tensors) -> bytes:
    """A bundle for one input, under terms that commit to another one where the two differ: a provider can do that."""
    manifest = folder.manifest()
    domain = escrow_domain(CHAIN, ESCROW)
    terms = JobTerms(
        payer=PAYER.address,
        provider=PROVIDER.address,
        payee=PAYEE.address,
        token=TOKEN,
        amount=Uint256(5 * 10**18),
        circuit_id=manifest.circuit_id,
        rule=ProofRule.derive(manifest, VERIFIER),
        input_commitment=input_commitment(committed_words(promised, manifest)),
        fund_by=Timestamp(1_700_000_300),
        deadline=Timestamp(1_700_000_900),
        salt=Bytes32(keccak256(salt.encode())),
    )
    acceptance = PROVIDER.sign_digest(Acceptance(job_id=terms.job_id(domain)).digest(domain))
    return _prove_job(Job(domain=domain, terms=terms, inputs=inputs, acceptance=acceptance), folder, private, inputs)


def _prove_job(job: Job | ProofBundle, folder: CircuitFolder, private: Path, inputs: Tensors) -> bytes:
    """The bundle of a job whose terms may name another circuit than the one that proves it."""
    work = Path(tempfile.mkdtemp(dir=private))
    limits, files = Limits(wall_seconds=300), ProvingFiles.of(folder.private)
    witness = make_witness(folder, files.compiled, inputs, job.terms.job_id(job.domain), work / "witness.json", limits)
    proved = prove(folder, files, work / "witness.json", work, limits)
    taken = Job(domain=job.domain, terms=job.terms, inputs=inputs, acceptance=job.acceptance)
    return canonical.encode(sign_bundle(taken, witness.outputs, proved, PROVIDER, folder.manifest()))


def _write(base: Path, title: str, circuit: CircuitFolder, bundle: bytes) -> None:
    """The bundle, and of its circuit what a payer may hold and a verdict needs."""
    (base / "bundles").mkdir(parents=True, exist_ok=True)
    (base / "bundles" / f"{title}.json").write_bytes(bundle)
    if not (base / "circuits" / circuit.path.name).exists():
        registry.export(circuit, "payer", base / "circuits", development=True)
        for unneeded in NOT_NEEDED:
            (base / "circuits" / circuit.path.name / unneeded).unlink(missing_ok=True)


def _forget(base: Path, titles: tuple[str, ...]) -> None:
    """Remove the circuits of those bundles: theirs have other ids each time, since a development SRS is random."""
    for path in (base / "bundles" / f"{title}.json" for title in titles):
        if path.exists():
            shutil.rmtree(base / "circuits" / str(parse_bundle(path.read_bytes()).circuit_id), ignore_errors=True)
