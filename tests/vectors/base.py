"""What every vector starts from: real bundles, their circuits, one policy; and how a changed one is signed anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.vectors.keys import AUDITOR, OWNER, PROVIDER
from verifier.bundles import parse_bundle
from verifier.circuit import Circuit
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.policy import ANY, Policy
from verifier.statement.bundle import ProofBundle
from verifier.statement.certificates import CompileRecord, RebuildRecord, SignedRecord, record_digest
from verifier.statement.terms import Acceptance, ProofRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.payment.keys import Key
    from verifier.statement.scalars import Bytes32

BASE = Path(__file__).resolve().parent / "base"
UNDECIDED = ("V1-circuit-missing", "V3-engine", "V7-engine", "V8-missing", "V8-disagreement", "V-internal")


@dataclass(frozen=True)
class Base:
    """The real bundles, circuits and policy that all cases start from."""

    bundles: dict[str, ProofBundle]
    circuits: dict[Bytes32, Circuit]
    policy: Policy

    @property
    def job(self) -> ProofBundle:
        """A bundle of the digits circuit."""
        return self.bundles["job"]

    @property
    def other_job(self) -> ProofBundle:
        """Another job of the same circuit."""
        return self.bundles["other_job"]

    @property
    def other_circuit(self) -> ProofBundle:
        """The same input under a circuit of the same shape with other weights."""
        return self.bundles["other_circuit"]

    @property
    def other_input(self) -> ProofBundle:
        """An honest proof for another input than the one that its terms commit to."""
        return self.bundles["other_input"]

    @property
    def small(self) -> ProofBundle:
        """A bundle of a small circuit: four inputs, two outputs of three."""
        return self.bundles["two_outputs"]

    @property
    def circuit(self) -> Circuit:
        """The circuit of `job` and `other_job`."""
        return self.circuits[self.job.circuit_id]

    def circuit_of(self, bundle: ProofBundle) -> Circuit:
        """The circuit that a bundle names."""
        return self.circuits[bundle.circuit_id]

    def rule(self, **changes: Any) -> Policy:
        """The policy with another rule for every circuit."""
        return replace(self.policy, circuits={ANY: replace(self.policy.circuits[ANY], **changes)})


@dataclass(frozen=True)
class Case:
    """What is judged: bundle bytes, under a policy, with circuits; None is the base's. `make`: no plain file."""

    bundle: bytes
    code: str | None
    policy: Policy | None = None
    circuits: Mapping[str, Circuit] | None = None
    make: str | None = None
    outcome: str | None = None

    @property
    def expected(self) -> dict[str, str | None]:
        """What `expected.json` says."""
        decided = "UNDECIDED" if self.code in UNDECIDED else "INVALID" if self.code else "VALID"
        made = {} if self.make is None else {"make": self.make}
        return {"outcome": self.outcome or decided, "code": self.code, **made}


def read_base(folder: Path = BASE) -> Base:
    """The base as `prove.py` wrote it."""
    bundles = {path.stem: parse_bundle(path.read_bytes()) for path in sorted((folder / "bundles").glob("*.json"))}
    circuits = [Circuit.load(path) for path in sorted((folder / "circuits").iterdir())]
    return Base(
        bundles=bundles,
        circuits={circuit.circuit_id: circuit for circuit in circuits},
        policy=Policy.load(folder / "policy.json"),
    )


def only(bundle: ProofBundle, circuit: Circuit) -> dict[str, Circuit]:
    """A folder of circuits that holds this one under the name that the bundle gives."""
    return {str(bundle.circuit_id): circuit}


def resign(bundle: ProofBundle, *, acceptance: Key = PROVIDER, delivery: Key = PROVIDER) -> ProofBundle:
    """The bundle with both provider signatures made anew over what it now says."""
    accepted = acceptance.sign_digest(Acceptance(job_id=bundle.job_id).digest(bundle.domain))
    if bundle.receipt is None:
        return replace(bundle, acceptance=accepted)
    message = bundle.delivery_message(keccak256(claimed_words(bundle)))
    return replace(bundle, acceptance=accepted, delivery=delivery.sign_digest(message.digest(bundle.domain)))


def with_terms(bundle: ProofBundle, **changes: Any) -> ProofBundle:
    """The bundle for changed terms, signed anew."""
    return resign(replace(bundle, terms=replace(bundle.terms, **changes)))


def signed_record(record: Any, key: Key) -> SignedRecord:
    """What the key's owner says of a circuit."""
    return SignedRecord(record=record, signer=key.address, signature=key.sign_digest(record_digest(record)))


def pinned(bundle: ProofBundle, circuit: Circuit, code: bytes, **changes: Any) -> tuple[ProofBundle, Circuit]:
    """A whole circuit around other code or other manifest fields, every record signed anew, and the bundle for it.

    Nothing before step 7 can find a fault in it but what is wrong with the code or the fields themselves.
    """
    manifest = replace(circuit.manifest, **changes)
    manifest = replace(manifest, evm=replace(manifest.evm, code_hash=keccak256(code)))
    records = []
    for signed in circuit.records:
        named: dict[str, Any] = {"circuit_id": manifest.circuit_id}
        if hasattr(signed.record, "code_hash"):
            named["code_hash"] = manifest.evm.code_hash
        key = AUDITOR if isinstance(signed.record, RebuildRecord | CompileRecord) else OWNER
        records.append(signed_record(replace(signed.record, **named), key))
    terms = replace(
        bundle.terms,
        circuit_id=manifest.circuit_id,
        rule=ProofRule.derive(manifest, bundle.terms.rule.verifier),
    )
    moved = resign(replace(bundle, circuit_id=manifest.circuit_id, terms=terms))
    return moved, Circuit(manifest=manifest, code=code, records=tuple(records))
