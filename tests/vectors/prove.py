"""Makes `base/`: two circuits of one shape with records, and three bundles with real proofs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from circuits import registry
from circuits.build import build
from circuits.ezkl_runner import Limits
from circuits.rebuild import rebuild
from prover.bundle import Job, sign_bundle
from prover.prove import ProvingFiles, prove
from prover.witness import make_witness
from tests.vectors.keys import AUDITOR, OWNER, PAYEE, PAYER, PROVIDER
from verifier.keccak import keccak256
from verifier.policy import Chains, CircuitRule, Escrow, Policy, Records
from verifier.statement import canonical
from verifier.statement.certificates import CircuitAttestation
from verifier.statement.eip712 import escrow_domain
from verifier.statement.scalars import Address, Bytes32, Count, Measure, Text, Timestamp, Uint256
from verifier.statement.terms import Acceptance, JobTerms, ProofRule, input_commitment
from verifier.tensors import quantise, to_words

if TYPE_CHECKING:
    from circuits.registry import CircuitFolder

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
CHAIN = 31337
ESCROW, TOKEN, VERIFIER = (Address(keccak256(name.encode())[:20]) for name in ("escrow", "token", "verifier"))
BUILT_AT = Timestamp(1_700_000_000)


def prove_base(base: Path) -> None:
    """Build, rebuild, sign and prove; write what a payer may hold."""
    base.mkdir()
    (base / "bundles").mkdir()
    with tempfile.TemporaryDirectory() as name:
        private = Path(name)
        first = _circuit(EXAMPLE / "model.onnx", private)
        second = _circuit(EXAMPLE / "other.onnx", private)
        for circuit in (first, second):
            registry.export(circuit, "payer", base / "circuits", development=True)
            for unneeded in ("model.onnx", "vk.key", "settings.json", "kzg1.srs", "run_args.json"):
                (base / "circuits" / circuit.path.name / unneeded).unlink(missing_ok=True)
        for title, circuit, sample, committed in (
            ("job", first, 0, 0),
            ("other_job", first, 1, 1),
            ("other_circuit", second, 0, 0),
            ("other_input", first, 1, 0),
        ):
            bundle = _prove(circuit, title, private, sample=sample, committed=committed)
            (base / "bundles" / f"{title}.json").write_bytes(bundle)
    policy = Policy(
        chains=Chains(escrows=(Escrow(chain_id=Count(CHAIN), escrow=ESCROW, token=TOKEN),), dev_chains=(Count(CHAIN),)),
        circuits={"*": CircuitRule(max_error=Measure("1"), min_agreement=Measure("0.9"))},
        records=Records(keys=(AUDITOR.address,), owners=(OWNER.address,)),
    )
    (base / "policy.json").write_bytes(canonical.encode(policy))


def _circuit(model: Path, private: Path) -> CircuitFolder:
    built = build(model, EXAMPLE / "samples.npz", store=private / "circuits", srs_store=private / "srs")
    attestation = CircuitAttestation(
        circuit_id=built.folder.circuit().circuit_id,
        model=Text(f"digits {model.stem}"),
        code_hash=built.folder.circuit().manifest.evm.code_hash,
        attested_at=BUILT_AT,
    )
    for record in (built.certificate, built.cost, attestation):
        registry.add_record(built.folder, record, OWNER)
    registry.add_record(built.folder, rebuild(built.folder, srs_stores=(private / "srs",), now=int(BUILT_AT)), AUDITOR)
    return built.folder


def _prove(folder: CircuitFolder, salt: str, private: Path, *, sample: int, committed: int) -> bytes:
    """A bundle for one sample, under terms that commit to another one where the two differ: a provider can do that."""
    manifest = folder.manifest()
    images = np.load(EXAMPLE / "samples.npz")["pixels"]
    spec = manifest.inputs[0]
    values, promised = (
        quantise([float(pixel) for pixel in images[index]], scale=int(spec.scale), dtype=spec.dtype)
        for index in (sample, committed)
    )
    domain = escrow_domain(CHAIN, ESCROW)
    terms = JobTerms(
        payer=PAYER.address,
        provider=PROVIDER.address,
        payee=PAYEE.address,
        token=TOKEN,
        amount=Uint256(5 * 10**18),
        circuit_id=manifest.circuit_id,
        rule=ProofRule.derive(manifest, VERIFIER),
        input_commitment=input_commitment(to_words(promised)),
        fund_by=Timestamp(1_700_000_300),
        deadline=Timestamp(1_700_000_900),
        salt=Bytes32(keccak256(salt.encode())),
    )
    job_id = terms.job_id(domain)
    job = Job(
        domain=domain,
        terms=terms,
        inputs=(values,),
        acceptance=PROVIDER.sign_digest(Acceptance(job_id=job_id).digest(domain)),
    )
    work = private / f"work-{salt}"
    work.mkdir()
    limits, files = Limits(wall_seconds=300), ProvingFiles.of(folder.private)
    witness = make_witness(folder, files.compiled, (values,), job_id, work / "witness.json", limits)
    proved = prove(folder, files, work / "witness.json", work, limits)
    return canonical.encode(sign_bundle(job, witness.outputs, proved, PROVIDER, manifest))
