"""A provider with one toy circuit: its code accepts any call, so that tests are about jobs and not about proofs."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulators.broker import SimulatedBroker
from tests.simulators.escrow import TOKEN, VERIFIER, SimulatedEscrow
from verifier.circuit import Circuit, find_circuit
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.payer.inputs import encode_tensors
from verifier.payment.keys import Key, create_key, load_key
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, ProofBytes, Receipt, delivery_message
from verifier.statement.manifest import CircuitManifest, EvmVerifier, SolcSettings, SrsDigest, TensorSpec
from verifier.statement.scalars import Address, Bytes32, Count, Measure, Signature, TensorInt, Text, Timestamp, Uint256
from verifier.statement.terms import Acceptance, JobTerms, ProofRule, Release, SignedRelease, SignedTerms
from verifier.tensors import words_hash
from workers.catalogue import Catalogue
from workers.config import Settings
from workers.database import migrate, open_database
from workers.jobs import Job, JobState
from workers.records import ProviderArchive
from workers.service import Service
from workers.store import Store
from workers.sweeper import Sweeper
from workers.workshop import Workshop

if TYPE_CHECKING:
    from verifier.statement.eip712 import Domain

ALWAYS_TRUE = bytes.fromhex("600160005260206000f3")
INPUTS = ((TensorInt(3), TensorInt(-4)),)
COMMITMENT = words_hash(INPUTS[0])
PAYEE = Address(b"\x9a" * 20)
PRICE = Uint256(10**18)
START = 1_800_000_000
STUB = Path(__file__).with_name("stub_prover.py")


def toy_manifest() -> CircuitManifest:
    digest = Bytes32(b"\x01" * 32)
    tensor = {"shape": (Count(2),), "dtype": "float32", "scale": Count(7), "length": Count(2)}
    return CircuitManifest(
        ezkl_version=Text("23.0.5"),
        onnx_sha256=digest,
        run_args_sha256=digest,
        settings_sha256=digest,
        vk_sha256=digest,
        srs=SrsDigest(logrows=Count(10), sha256=digest, sha256_k1=digest),
        visibility="public",
        inputs=(TensorSpec(name=Text("x"), offset=Count(0), **tensor),),
        outputs=(TensorSpec(name=Text("y"), offset=Count(13), **tensor),),
        n_instances=Count(15),
        proof_len=Count(64),
        value_bound=Uint256(2**30),
        evm=EvmVerifier(
            solc=SolcSettings(
                version=Text("0.8.20"),
                evm_version=Text("shanghai"),
                optimizer_runs=Count(1),
                via_ir=False,
                append_cbor=False,
            ),
            revision=Text("CANCUN"),
            code_hash=keccak256(ALWAYS_TRUE),
            gas=Count(500_000),
        ),
    )


def toy_bundle(terms: JobTerms, domain: Domain, acceptance: Signature, key: Key, *, output: int = 7) -> ProofBundle:
    receipt = Receipt(engine=Text("toy"), device=Text("toy"), prove_seconds=Measure("0.1"), peak_memory_bytes=Count(1))
    fields = {
        "origin": "delivered",
        "domain": domain,
        "terms": terms,
        "circuit_id": terms.circuit_id,
        "inputs": INPUTS,
        "outputs": ((TensorInt(output), TensorInt(1)),),
        "proof": ProofBytes(b"\x05" * 64),
        "acceptance": acceptance,
        "receipt": receipt,
    }
    draft = ProofBundle(**fields, delivery=acceptance)
    message = delivery_message(draft.job_id, terms.circuit_id, keccak256(claimed_words(draft)), draft.proof, receipt)
    return ProofBundle(**fields, delivery=key.sign_digest(message.digest(domain)))


class ToyWitness:
    """Takes any input; `refuse` is raised where it is set."""

    def __init__(self) -> None:
        self.refuse: Exception | None = None
        self.runs = 0

    def check(self, circuit: Circuit, inputs: object, job_id: Bytes32) -> None:  # noqa: ARG002 - the port's signature
        self.runs += 1
        if self.refuse is not None:
            raise self.refuse


class ToyProof:
    def calldata(self, circuit: Circuit) -> bytes:  # noqa: ARG002 - the port's signature
        return b"\0" * 100


@dataclass
class Shop:
    """Settings, database and parts of one provider; `time` is what its clock says."""

    settings: Settings
    store: Store
    key: Key
    payer: Key
    escrow: SimulatedEscrow
    time: int = START
    broker: SimulatedBroker = field(default_factory=SimulatedBroker)
    witness: ToyWitness = field(default_factory=ToyWitness)

    @property
    def circuit(self) -> Circuit:
        return find_circuit(self.settings.circuits, toy_manifest().circuit_id)

    @property
    def archive(self) -> ProviderArchive:
        return ProviderArchive(self.settings.archive_folder, self.settings.provider_home / "keys" / "archive")

    def workshop(self, *prover: str) -> Workshop:
        return Workshop(
            settings=self.settings,
            store=self.store,
            policy_for=lambda job: Policy.of_provider(job.domain, job.terms),
            archive=self.archive,
            clock=lambda: self.time,
            prover=prover or stub(),
        )

    def service(self) -> Service:
        return Service(
            workshop=self.workshop(),
            escrow=self.escrow,
            broker=self.broker,
            witness=self.witness,
            catalogue=Catalogue(self.settings, self.escrow, ToyProof()),
            signer=self.key,
            payee=PAYEE,
        )

    def sweeper(self, owner: str = "sweeper:1", *, at_once: int = 1) -> Sweeper:
        return Sweeper(
            store=self.store,
            escrow=self.escrow,
            broker=self.broker,
            archive=self.archive,
            limits=self.settings.limits,
            clock=lambda: self.time,
            owner=owner,
            at_once=at_once,
        )

    def pass_time(self, seconds: int) -> None:
        self.time += seconds
        self.escrow.time = self.time

    def terms(self, *, deadline_in: int = 200, **changes: object) -> JobTerms:
        manifest = toy_manifest()
        fields: dict[str, object] = {
            "payer": self.payer.address,
            "provider": self.key.address,
            "payee": PAYEE,
            "token": TOKEN,
            "amount": PRICE,
            "circuit_id": manifest.circuit_id,
            "rule": ProofRule.derive(manifest, VERIFIER),
            "input_commitment": COMMITMENT,
            "fund_by": Timestamp(self.time + 60),
            "deadline": Timestamp(self.time + deadline_in),
            "salt": Bytes32(secrets.token_bytes(32)),
        }
        return JobTerms(**(fields | changes))  # type: ignore[arg-type]  # each field is of its type above

    def accepted(self, *, deadline_in: int = 200) -> Job:
        """A job as `accept` leaves it, with its input stored."""
        terms = self.terms(deadline_in=deadline_in)
        job_id = terms.job_id(self.escrow.domain)
        job = Job(
            job_id=job_id,
            domain=self.escrow.domain,
            terms=terms,
            acceptance=self.key.sign_digest(Acceptance(job_id=job_id).digest(self.escrow.domain)),
            state=JobState.ACCEPTED,
            changed_at=self.time,
        )
        self.store.put_input(
            COMMITMENT, terms.circuit_id, encode_tensors(INPUTS), now=self.time, expires_at=self.time + 900, cap=100
        )
        return self.store.accept(job, keep_input_until=int(terms.deadline) + 60, cap=100, open_since=0)

    def queued(self, *, deadline_in: int = 200) -> Job:
        """A job that is funded and whose message is with the broker."""
        job = self.accepted(deadline_in=deadline_in)
        self.escrow.fund(job.terms)
        self.sweeper().sweep()
        self.sweeper().sweep()
        return self.now(job)

    def now(self, job: Job) -> Job:
        found = self.store.job(job.job_id)
        assert found is not None
        return found

    def bundle(self, job: Job, *, output: int = 7) -> bytes:
        return canonical.encode(toy_bundle(job.terms, job.domain, job.acceptance, self.key, output=output))

    def signed(self, terms: JobTerms) -> bytes:
        return canonical.encode(SignedTerms(domain=self.escrow.domain, terms=terms))

    def release(self, job: Job) -> SignedRelease:
        words = claimed_words(toy_bundle(job.terms, job.domain, job.acceptance, self.key))
        release = Release(job_id=job.job_id, instances_hash=keccak256(words))
        return SignedRelease(release=release, signature=self.payer.sign_digest(release.digest(job.domain)))


def stub(*words: str) -> tuple[str, ...]:
    """The command of the toy prover."""
    import sys  # noqa: PLC0415 - used here only

    return (sys.executable, str(STUB), *words)


def make_shop(home: Path, **changes: object) -> Shop:
    """A provider in a new folder."""
    key_path = home / "provider" / "keys" / "provider"
    values: dict[str, object] = {"home": home, "price": str(int(PRICE)), "job_seconds": 40} | changes
    settings = Settings(**values)  # type: ignore[arg-type]  # pydantic converts them
    settings.prepare_folders()
    key = load_key(key_path) if key_path.exists() else create_key(key_path)
    folder = settings.circuits / str(toy_manifest().circuit_id)
    if not folder.exists():
        folder.mkdir()
        (folder / "manifest.json").write_bytes(canonical.encode(toy_manifest()))
        (folder / "verifier.bin").write_bytes(ALWAYS_TRUE)
        os.mkdir(folder / "records")  # noqa: PTH102 - as the two above
    engine = open_database(settings.database)
    migrate(engine)
    return Shop(settings, Store(engine), key, create_key(home / "payer"), SimulatedEscrow(time=START))
