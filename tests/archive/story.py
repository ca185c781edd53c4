"""One job as a payer archives it, made of a toy circuit and a block of its own, so that nothing of ezkl is needed.

The circuit's code accepts one proof for any instances. The evidence of a chain is one transaction and one receipt in
tries of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import rlp  # type: ignore[import-untyped]  # it has no types
from eth_account import Account
from eth_typing import Hash32
from trie.hexary import HexaryTrie

from verifier.archive.log import Archive
from verifier.archive.note import SigningKey
from verifier.chain_evidence import TOPICS, EventName
from verifier.circuit import Circuit
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.policy import Chains, CircuitRule, Escrow, Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, ProofBytes, Receipt
from verifier.statement.eip712 import escrow_domain
from verifier.statement.evidence import ChainEvidence, EntryKind, LogEntry
from verifier.statement.manifest import CircuitManifest, EvmVerifier, SolcSettings, SrsDigest, TensorSpec
from verifier.statement.scalars import (
    Address,
    Bytes32,
    Count,
    HexBytes,
    Measure,
    Signature,
    TensorInt,
    Text,
    Timestamp,
    Uint256,
)
from verifier.statement.terms import (
    Acceptance,
    JobTerms,
    ProofRule,
    SignedTerms,
    input_commitment,
)
from verifier.verify import check_terms, verify

KEY = SigningKey.from_seed("payer.example/archive", bytes(range(32)))
PROVIDER = Account.from_key(b"\x01" * 32)
PROVIDER_ADDRESS = Address(bytes.fromhex(PROVIDER.address[2:]))
ESCROW, TOKEN = Address(b"\xe5" * 20), Address(b"\x70" * 20)
DOMAIN = escrow_domain(31337, ESCROW)
PROOF = ProofBytes(b"\x77" * 64)
POLICY = Policy(
    chains=Chains(escrows=(Escrow(chain_id=Count(31337), escrow=ESCROW, token=TOKEN),), dev_chains=(Count(31337),)),
    circuits={"*": CircuitRule(assurance="unattested")},
)


def sign(digest: Bytes32) -> Signature:
    return Signature(bytes(PROVIDER.unsafe_sign_hash(Hash32(bytes(digest))).signature))


def toy_code() -> bytes:
    """Accepts any calldata whose first proof word, behind the four words of the head, is 0x7777…: no job, one proof."""
    return bytes.fromhex("6064357f") + PROOF[:32] + bytes.fromhex("145f5260205ff3")


def manifest_of(code: bytes) -> CircuitManifest:
    some = Bytes32(b"\x05" * 32)
    spec = {"shape": (Count(2),), "dtype": "float32", "scale": Count(7), "length": Count(2)}
    return CircuitManifest(
        ezkl_version=Text("23.0.5"),
        onnx_sha256=some,
        run_args_sha256=some,
        settings_sha256=some,
        vk_sha256=some,
        srs=SrsDigest(logrows=Count(15), sha256=some, sha256_k1=some),
        visibility="public",
        inputs=(TensorSpec(name=Text("x"), offset=Count(0), **spec),),  # type: ignore[arg-type]  # the fields' union
        outputs=(TensorSpec(name=Text("y"), offset=Count(13), **spec),),  # type: ignore[arg-type]  # the fields' union
        n_instances=Count(15),
        proof_len=Count(len(PROOF)),
        value_bound=Uint256(2**30),
        evm=EvmVerifier(
            solc=SolcSettings(
                version=Text("0.8.20"),
                evm_version=Text("shanghai"),
                optimizer_runs=Count(1),
                via_ir=False,
                append_cbor=True,
            ),
            revision=Text("SHANGHAI"),
            code_hash=keccak256(code),
            gas=Count(100_000),
        ),
    )


@dataclass
class Story:
    """One job as a payer archives it: blobs by role, which a test may bend before they are logged."""

    salt: int = 1
    blobs: dict[str, bytes] = field(default_factory=dict)
    job_id: Bytes32 = field(init=False)
    bundle: ProofBundle = field(init=False)

    def __post_init__(self) -> None:
        inputs, outputs = ((TensorInt(3), TensorInt(-4)),), ((TensorInt(5), TensorInt(self.salt)),)
        code = toy_code()
        manifest = manifest_of(code)
        words = claimed_inputs(inputs)
        terms = JobTerms(
            payer=Address(b"\xaa" * 20),
            provider=PROVIDER_ADDRESS,
            payee=Address(b"\xbb" * 20),
            token=TOKEN,
            amount=Uint256(10**18),
            circuit_id=manifest.circuit_id,
            rule=ProofRule.derive(manifest, Address(b"\xcc" * 20)),
            input_commitment=input_commitment(words),
            fund_by=Timestamp(1_800_000_000),
            deadline=Timestamp(1_800_001_000),
            salt=Bytes32(self.salt.to_bytes(32)),
        )
        self.job_id = terms.job_id(DOMAIN)
        acceptance = sign(Acceptance(job_id=self.job_id).digest(DOMAIN))
        draft = ProofBundle(
            origin="delivered",
            domain=DOMAIN,
            terms=terms,
            circuit_id=manifest.circuit_id,
            inputs=inputs,
            outputs=outputs,
            proof=PROOF,
            acceptance=acceptance,
            delivery=acceptance,
            receipt=Receipt(
                engine=Text("ezkl 23.0.5"),
                device=Text("cpu"),
                prove_seconds=Measure("1.5"),
                peak_memory_bytes=Count(1),
            ),
        )
        delivery = draft.delivery_message(keccak256(claimed_words(draft)))
        self.bundle = msgspec.structs.replace(draft, delivery=sign(delivery.digest(DOMAIN)))
        circuit = Circuit(manifest=manifest, code=code)
        signed = SignedTerms(domain=DOMAIN, terms=terms, acceptance=acceptance)
        self.blobs = {
            "bundle": canonical.encode(self.bundle),
            "verdict": canonical.encode(verify(self.bundle, circuit, POLICY)),
            "terms": canonical.encode(signed),
            "terms_verdict": canonical.encode(check_terms(terms, DOMAIN, circuit, POLICY)),
            "policy": canonical.encode(POLICY),
            "manifest": canonical.encode(manifest),
            "code": code,
        }

    @property
    def instances_hash(self) -> Bytes32:
        return keccak256(claimed_words(self.bundle))

    def log(self, archive: Archive, kind: EntryKind = "intent", without: tuple[str, ...] = ()) -> int:
        blobs = {role: blob for role, blob in self.blobs.items() if role not in without}
        digests = {role: canonical.sha256(blob) for role, blob in blobs.items()}
        entry = LogEntry(kind=kind, job_id=self.job_id, recorded_at=Timestamp(1_800_000_100), digests=digests)
        return archive.append(entry, blobs.values())


def claimed_inputs(inputs: tuple[tuple[TensorInt, ...], ...]) -> bytes:
    return b"".join(int(value.to_field()).to_bytes(32) for tensor in inputs for value in tensor)


def evidence_of(event: EventName, job_id: Bytes32, payload: bytes = b"") -> bytes:
    """A block with one transaction, whose receipt has one event of the escrow."""
    transaction = b"\x02" + rlp.encode(
        [b"\x7a\x69", b"", b"", b"", b"", bytes(ESCROW), b"", b"", [], b"", b"\x01", b"\x01"]
    )
    log = [bytes(ESCROW), [bytes(TOPICS[event]), bytes(job_id)], payload]
    receipt = b"\x02" + rlp.encode([b"\x01", b"\x52\x08", bytes(256), [log]])
    roots, proof = [], []
    for value in (transaction, receipt):
        trie = HexaryTrie({})
        trie[rlp.encode(0)] = value
        roots.append(trie.root_hash)
        proof.append(trie.db[trie.root_hash])
    header = (
        [bytes(32)] * 4 + roots + [bytes(256), b"", b"\x07", b"", b"", b"\x65\x00\x00\x00", b"", bytes(32), bytes(8)]
    )
    return canonical.encode(
        ChainEvidence(
            chain_id=Count(31337),
            transaction=HexBytes(transaction),
            receipt=HexBytes(receipt),
            receipt_proof=(HexBytes(proof[1]), HexBytes(proof[0])),
            index=Count(0),
            header=HexBytes(rlp.encode(header)),
            source=Text("a node of the payer's"),
        )
    )


def settled(archive: Archive, salt: int) -> Story:
    """A job as it should be: intent, then settled with the evidence of funding and release."""
    story = Story(salt)
    story.log(archive)
    story.blobs["evidence"] = evidence_of("Released", story.job_id, story.instances_hash)
    story.blobs["evidence.funded"] = evidence_of("Funded", story.job_id)
    story.log(archive, "settled")
    return story
