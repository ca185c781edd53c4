"""What is fuzzed: each parser, and `verify`. Any bytes end in a value of ours or in an OpgateError, and nothing else.

A target takes bytes and returns; whatever else it raises is a find. `SEEDS` gives it the valid bytes to start from.
Nothing here knows who makes the bytes: `run` (coverage-guided, long) or `test_fuzz` (mutation, short).
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.vectors.cases import read_base
from verifier import chain_evidence
from verifier.archive import tiles
from verifier.archive.note import Checkpoint, SigningKey, VerifierKey, open_note, sign_checkpoint
from verifier.basis import Basis
from verifier.bundles import parse_bundle
from verifier.chain_evidence import check_released
from verifier.circuit import Circuit
from verifier.errors import OpgateError
from verifier.evm import REVISIONS, run_verifier
from verifier.explanation import explain
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.payer.inputs import decode_tensors, encode_tensors, read_input
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, ProofBytes
from verifier.statement.certificates import SignedRecord
from verifier.statement.evidence import ChainEvidence, LogEntry
from verifier.statement.manifest import CircuitManifest, Dtype
from verifier.statement.scalars import Bytes32, Count, Text, Timestamp, Uint256
from verifier.statement.terms import Quote, QuoteLine, Release, SignedQuote, SignedRelease, SignedTerms
from verifier.statement.verdict import TermsVerdict, Verdict
from verifier.tensors import from_words, quantise, to_words
from verifier.verify import check_terms, verify_on

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE = read_base(ROOT / "base")
BASIS = Basis(BASE.circuit, BASE.policy)
CHAIN = parse_bundle((ROOT / "base" / "bundles" / "chain.json").read_bytes())
assert CHAIN.evidence is not None
CLOSE = CHAIN.evidence
KEY = SigningKey.from_seed("fuzz.example/log", b"\x05" * 32)
PUBLIC = str(KEY.verifier_key)
JOB = canonical.encode(BASE.job)
MANIFEST = canonical.encode(BASE.circuit.manifest)
POLICY = canonical.encode(BASE.policy)
TERMS = SignedTerms(domain=BASE.job.domain, terms=BASE.job.terms, acceptance=BASE.job.acceptance)
VERDICT = verify_on(BASIS, BASE.job)
TERMS_VERDICT = check_terms(BASE.job.terms, BASE.job.domain, BASE.circuit, BASE.policy)

Target = Callable[[bytes], object]


def ours(target: Target) -> Target:
    """The target, with errors of ours taken for an answer."""

    def run(raw: bytes) -> None:
        try:
            target(raw)
        except OpgateError as error:
            if not error.code or not str(error):
                raise ValueError("an error that says nothing") from error

    return run


def one_form(kind: Any) -> Target:
    """Whatever is read is the one encoding of what was read."""

    def run(raw: bytes) -> None:
        value = canonical.decode(kind, raw, where="fuzz")
        assert canonical.encode(value) == raw, "read, but not the one form"

    return run


def bundle(raw: bytes) -> None:
    """Step 0, and the words for people over whatever it lets through."""
    parsed = parse_bundle(raw)
    assert canonical.encode(parsed) == raw
    explain(parsed, BASE.circuit, BASE.policy)


def verdict_on(raw: bytes) -> None:
    """`verify` on a bundle of any bytes: VALID for one bundle of this circuit alone."""
    verdict = verify_on(BASIS, parse_bundle(raw))
    assert verdict.code != "V-internal", verdict
    assert verdict.outcome != "VALID" or raw == JOB or parse_bundle(raw).circuit_id != BASE.job.circuit_id or known(raw)


def known(raw: bytes) -> bool:
    """Whether these are the bytes of a bundle that is VALID without any fuzzing."""
    return raw in {path.read_bytes() for path in (ROOT / "base" / "bundles").iterdir()}


FIELDS = (
    "inputs",
    "outputs",
    "proof",
    "acceptance",
    "delivery",
    "receipt",
    "terms",
    "domain",
    "circuit_id",
    "input_hash",
)


def verdict_on_fields(raw: bytes) -> None:
    """`verify` on a bundle whose fields are the fuzzer's JSON, past the canonical form that random bytes never have."""
    value = json.loads(JOB)
    for line in raw.split(b"\n")[:4]:
        name, _, text = line.partition(b"=")
        path = [part.decode("latin-1") for part in name.split(b".")]
        if path[0] not in FIELDS:
            continue
        try:
            new = json.loads(text)
        except (ValueError, RecursionError):
            continue
        place = value
        for part in path[:-1]:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[path[-1]] = new
    parsed = canonical.from_builtins(ProofBundle, value, where="fuzz")
    verdict = verify_on(BASIS, parsed)
    assert verdict.code != "V-internal", verdict
    assert verdict.outcome != "VALID" or canonical.encode(parsed) == JOB


def verdict_in_circuit(raw: bytes) -> None:
    """`verify` in a circuit whose manifest is the fuzzer's: its maker may be the attacker."""
    circuit = Circuit.from_bytes(raw, BASE.circuit.code, ())
    verdict = verify_on(Basis(circuit, BASE.policy), replace(BASE.job, circuit_id=circuit.circuit_id))
    assert verdict.code != "V-internal", verdict
    assert verdict.outcome != "VALID" or raw == MANIFEST
    explain(BASE.job, circuit)


def policy(raw: bytes) -> None:
    """A policy of any TOML, and a verdict under it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    held = Policy.from_toml(text)
    assert canonical.decode(Policy, canonical.encode(held), where="fuzz") == held
    assert verify_on(Basis(BASE.circuit, held), BASE.job).code != "V-internal"


def code(raw: bytes) -> None:
    """Any code as a circuit's: it answers, refuses or runs out of gas."""
    revision = REVISIONS[raw[0] % len(REVISIONS)] if raw else REVISIONS[0]
    run_verifier(raw[1:], JOB[:100], gas_cap=200_000, revision=revision)


def proof(raw: bytes) -> None:
    """Any bytes as the proof: refused by the code, and signed by nobody."""
    changed = replace(BASE.job, proof=ProofBytes(raw[: ProofBytes.MAX_SIZE]))
    assert verify_on(BASIS, changed).outcome == "INVALID" or changed == BASE.job


def evidence(raw: bytes) -> None:
    """A closing transaction of any bytes."""
    value = canonical.decode(ChainEvidence, raw, where="fuzz")
    check_released(value, CHAIN.domain, CHAIN.job_id, keccak256(claimed_words(CHAIN)))


def rlp_parts(raw: bytes) -> None:
    """Header, transaction, receipt and trie nodes of any bytes, past the hashes that bind them."""
    if len(raw) < 2:  # a trie has no empty values: `_look_up` refuses them
        return
    reader = (chain_evidence._header, chain_evidence._transaction, chain_evidence._logs)[raw[0] % 3]
    ours(reader)(raw[1:])
    nodes = tuple(part for part in raw[1:].split(b"\xff\xfe") if part)
    if nodes:
        ours(lambda _: chain_evidence._look_up(keccak256(nodes[0]), b"\x80", nodes, "fuzz"))(b"")


def note(raw: bytes) -> None:
    """A signed note and the checkpoint in it."""
    text = open_note(raw, KEY.verifier_key)
    Checkpoint.parse(text)


def checkpoint(raw: bytes) -> None:
    """The text of a checkpoint, and a public key."""
    text = raw.decode("utf-8", "replace")
    ours(lambda _: VerifierKey.parse(text))(raw)
    ours(lambda _: SigningKey.parse(text))(raw)
    parsed = Checkpoint.parse(text)
    assert Checkpoint.parse(parsed.to_text()) == parsed


def entries(raw: bytes) -> None:
    """A bundle of entries and a tile of hashes of an archive."""
    ours(lambda _: tiles.split_hashes(raw, width=1 + len(raw) % 256, where="fuzz"))(raw)
    assert tiles.join_entries(tiles.split_entries(raw, where="fuzz")) == raw


def words(raw: bytes) -> None:
    """Instance words."""
    assert to_words(from_words(raw)) == raw


def tensors(raw: bytes) -> None:
    """An upload of integers."""
    assert encode_tensors(decode_tensors(raw, where="fuzz")) == raw


def numbers(raw: bytes) -> None:
    """A payer's numbers, from any JSON, as each kind of tensor."""
    value = canonical.load_foreign(raw, where="fuzz")
    listed = value if isinstance(value, list) else [value]
    for dtype in DTYPES:
        ours(functools.partial(_quantised, listed, dtype))(raw)
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(raw)
        file.flush()
        read_input(Path(file.name), BASE.circuit.manifest)


def _quantised(values: list[Any], dtype: Dtype, _: bytes) -> None:
    made = quantise(values, scale=0, dtype=dtype)
    assert from_words(to_words(made)) == made


CHECKPOINT = sign_checkpoint(Checkpoint(origin="fuzz.example/log", size=7, root=b"\x01" * 32), KEY)
DTYPES: tuple[Dtype, ...] = ("float32", "float16", "float64", "int64", "uint8", "bool")
RLP = tuple(
    bytes([kind]) + bytes(part) for kind, part in enumerate((CLOSE.header, CLOSE.transaction, CLOSE.receipt))
) + tuple(b"\0" + bytes(node) for node in CLOSE.receipt_proof)
QUOTE = SignedQuote(
    domain=BASE.job.domain,
    quote=Quote(
        circuit_id=BASE.job.circuit_id,
        amount=Uint256(7),
        lines=(QuoteLine(purpose=Text("proof"), amount=Uint256(7)),),
        provider=BASE.job.terms.provider,
        payee=BASE.job.terms.payee,
        escrow=BASE.job.domain.verifying_contract,
        token=BASE.job.terms.token,
        verifier=BASE.job.terms.rule.verifier,
        min_seconds=Count(1),
        valid_until=Timestamp(7),
        salt=BASE.job.terms.salt,
    ),
    signature=BASE.job.acceptance,
)
RELEASE = SignedRelease(
    release=Release(job_id=BASE.job.job_id, instances_hash=Bytes32(b"\1" * 32)), signature=BASE.job.acceptance
)
ENTRY = LogEntry(
    kind="settled", job_id=BASE.job.job_id, recorded_at=Timestamp(7), digests={"bundle": Bytes32(b"\1" * 32)}
)
TOML = "\n".join(
    [
        'schema = "opgate/policy/1"',
        "[chains]",
        "dev_chains = [31337]",
        "[[chains.escrows]]",
        "chain_id = 31337",
        f'escrow = "{BASE.job.domain.verifying_contract}"',
        f'token = "{BASE.job.terms.token}"',
        '[circuits."*"]',
        'assurance = "rebuilt"',
        'max_error = "1"',
        "min_samples = 1",
        "[records]",
        f'keys = ["{BASE.policy.records.keys[0]}"]',
        f'owners = ["{BASE.policy.records.owners[0]}"]',
    ]
)
TARGETS: dict[str, tuple[Target, tuple[bytes, ...]]] = {
    "bundle": (bundle, (JOB, canonical.encode(CHAIN))),
    "verify": (verdict_on, (JOB, canonical.encode(BASE.other_job))),
    "verify_fields": (
        verdict_on_fields,
        (
            b'outputs=[["1","2"]]\ninputs=[[]]',
            b'terms.rule.gas_cap=9007199254740991\nterms.amount="0"',
            b'receipt.device="\\u0000"\nproof="0x"',
            b'input_hash="7"\ninputs=null',
        ),
    ),
    "verify_circuit": (
        verdict_in_circuit,
        (MANIFEST, canonical.encode(BASE.circuits[BASE.other_circuit.circuit_id].manifest)),
    ),
    "proof": (proof, (BASE.job.proof, b"", BASE.other_job.proof)),
    "code": (code, (b"\0" + BASE.circuit.code, bytes.fromhex("01600160005260206000f3"))),
    "manifest": (one_form(CircuitManifest), (MANIFEST,)),
    "record": (one_form(SignedRecord), tuple(map(canonical.encode, BASE.circuit.records))),
    "terms": (one_form(SignedTerms), (canonical.encode(TERMS),)),
    "quote": (one_form(SignedQuote), (canonical.encode(QUOTE),)),
    "release": (one_form(SignedRelease), (canonical.encode(RELEASE),)),
    "entry": (one_form(LogEntry), (canonical.encode(ENTRY),)),
    "verdict": (one_form(Verdict), (canonical.encode(VERDICT),)),
    "terms_verdict": (one_form(TermsVerdict), (canonical.encode(TERMS_VERDICT),)),
    "policy_json": (one_form(Policy), (POLICY,)),
    "policy_toml": (policy, (TOML.encode(),)),
    "evidence": (evidence, (canonical.encode(CLOSE),)),
    "rlp": (rlp_parts, RLP),
    "note": (note, (CHECKPOINT,)),
    "checkpoint": (checkpoint, (CHECKPOINT.split(b"\n\n")[0] + b"\n", PUBLIC.encode())),
    "entries": (entries, (tiles.join_entries([JOB[:200], b"", MANIFEST]),)),
    "words": (words, (claimed_words(BASE.job),)),
    "tensors": (tensors, (b'[["1","-2"],["3"]]',)),
    "numbers": (
        numbers,
        (json.dumps([[0.5] * 64]).encode(), b"[0.5, -1, true, 1e400]", b'{"input_data": [[1, 2.5]]}', b"[" * 20),
    ),
}
"""By name: what takes the bytes, and where the fuzzer begins."""
