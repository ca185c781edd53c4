"""The statement types: one encoding each, both ways; digests as eth-account makes them; one changed bit is refused."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from types import UnionType
from typing import Any, Literal

import msgspec
import pytest
from eth_account.messages import encode_typed_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.vectors.cases import read_base
from verifier.bundles import parse_bundle
from verifier.errors import VerifierError
from verifier.evm import signed_by
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.policy import ANY, Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, ProofBytes, Receipt
from verifier.statement.certificates import (
    CircuitAttestation,
    CircuitRecord,
    CompileRecord,
    CostRecord,
    FidelityCertificate,
    RebuildRecord,
    SignedRecord,
    record_digest,
)
from verifier.statement.eip712 import Domain, encode_type
from verifier.statement.evidence import ChainEvidence, LogEntry
from verifier.statement.manifest import JOB_LIMBS, MAX_AXES, CircuitManifest, EvmVerifier, SrsDigest, TensorSpec
from verifier.statement.scalars import (
    FIELD_MODULUS,
    MAX_TEXT,
    SECP256K1_ORDER,
    Address,
    Bytes32,
    Count,
    FieldElement,
    HexBytes,
    Measure,
    Signature,
    TensorInt,
    Text,
    Timestamp,
    Uint256,
    WalletSignature,
    printable,
)
from verifier.statement.terms import (
    Acceptance,
    Delivery,
    JobTerms,
    ProofRule,
    Quote,
    QuoteLine,
    Release,
    SignedQuote,
    SignedRelease,
    SignedTerms,
    input_commitment,
)
from verifier.statement.verdict import Opinion, TermsVerdict, Verdict

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
RAW = canonical.encode(BASE.job)
FAST = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

_PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=8)
_TEXT = _PRINTABLE.map(Text)
_MEASURE = st.decimals(0, 10**6, places=6).map(lambda number: f"{number:f}".rstrip("0").rstrip(".")).map(Measure)
_ORDER = st.integers(1, SECP256K1_ORDER // 2)
_SCALARS: dict[type, st.SearchStrategy[Any]] = {
    Count: st.integers(0, 2**53 - 1).map(Count),
    Timestamp: st.integers(0, 2**40).map(Timestamp),
    Uint256: st.integers(0, 2**256 - 1).map(Uint256),
    FieldElement: st.integers(0, FIELD_MODULUS - 1).map(FieldElement),
    TensorInt: st.integers(-(FIELD_MODULUS // 2), FIELD_MODULUS // 2).map(TensorInt),
    Bytes32: st.binary(min_size=32, max_size=32).map(Bytes32),
    Address: st.binary(min_size=20, max_size=20).map(Address),
    WalletSignature: st.binary(max_size=200).map(WalletSignature),
    Signature: st.tuples(_ORDER, _ORDER, st.sampled_from((27, 28))).map(
        lambda rsv: Signature(rsv[0].to_bytes(32) + rsv[1].to_bytes(32) + bytes([rsv[2]]))
    ),
    HexBytes: st.binary(max_size=40).map(HexBytes),
    ProofBytes: st.binary(max_size=40).map(ProofBytes),
    Text: _TEXT,
    Measure: _MEASURE,
    bool: st.booleans(),
    str: _PRINTABLE,
}


def of(kind: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one return a kind of type
    """Any value of a type of the statement."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind in _SHAPED:
        return _SHAPED[kind]()
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(of(arguments[0]), of(arguments[1]), max_size=3)
    if origin in (typing.Union, UnionType):
        return st.one_of(*(st.none() if one is type(None) else of(one) for one in arguments))
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: of(hints[name]) for name in kind.__struct_fields__})


@st.composite
def _manifests(draw: st.DrawFn) -> CircuitManifest:
    hashed = draw(st.booleans())
    spec = of(TensorSpec)
    inputs, outputs, at = [], [], 0
    for group, count in ((inputs, 1 if hashed else draw(st.integers(1, 2))), (outputs, draw(st.integers(1, 2)))):
        for _ in range(count):
            shape = tuple(map(Count, draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))))
            one = msgspec.structs.replace(draw(spec), shape=shape)
            length = 1 if hashed and group is inputs else one.size
            group.append(msgspec.structs.replace(one, offset=Count(at), length=Count(length)))
            at += length
        at += (1 if hashed else JOB_LIMBS) if group is inputs else JOB_LIMBS if hashed else 0
    return CircuitManifest(
        **{name: draw(_SCALARS[Bytes32]) for name in _HASHES},
        ezkl_version=draw(_TEXT),
        srs=draw(of(SrsDigest)),
        visibility="hashed" if hashed else "public",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        n_instances=Count(at),
        proof_len=Count(32 * draw(st.integers(1, 128))),
        value_bound=Uint256(draw(st.integers(2**24, 2**250))),
        evm=draw(of(EvmVerifier)),
    )


@st.composite
def _bundles(draw: st.DrawFn) -> ProofBundle:
    tensors = of(tuple[tuple[TensorInt, ...], ...])
    public, delivered = draw(st.booleans()), draw(st.booleans())
    return ProofBundle(
        origin="delivered" if delivered else "chain",
        domain=draw(of(Domain)),
        terms=draw(of(JobTerms)),
        circuit_id=draw(of(Bytes32)),
        outputs=draw(tensors),
        proof=draw(of(ProofBytes)),
        acceptance=draw(of(Signature)),
        inputs=draw(tensors) if public else None,
        input_hash=None if public else draw(of(FieldElement)),
        delivery=draw(of(Signature)) if delivered else None,
        receipt=draw(of(Receipt)) if delivered else None,
        evidence=None if delivered else draw(of(ChainEvidence)),
    )


@st.composite
def _policies(draw: st.DrawFn) -> Policy:
    hints = typing.get_type_hints(Policy)
    names = st.one_of(st.just(ANY), of(Bytes32).map(str))
    rules = st.dictionaries(names, of(typing.get_args(hints["circuits"])[1]), max_size=2)
    rest = {name: draw(of(hints[name])) for name in Policy.__struct_fields__ if name != "circuits"}
    return Policy(circuits=draw(rules), **rest)


_HASHES = ("onnx_sha256", "run_args_sha256", "settings_sha256", "vk_sha256")
_SHAPED: dict[type, Any] = {CircuitManifest: _manifests, ProofBundle: _bundles, Policy: _policies}
STRUCTS: tuple[type[msgspec.Struct], ...] = (
    Domain,
    ProofRule,
    JobTerms,
    Quote,
    SignedQuote,
    Acceptance,
    Release,
    SignedRelease,
    Delivery,
    SignedTerms,
    Receipt,
    ProofBundle,
    CircuitManifest,
    FidelityCertificate,
    CostRecord,
    RebuildRecord,
    CompileRecord,
    CircuitAttestation,
    SignedRecord,
    ChainEvidence,
    LogEntry,
    Opinion,
    Verdict,
    TermsVerdict,
    Policy,
)


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
@FAST
@given(given_data=st.data())
def test_every_struct_comes_back_from_its_one_encoding(kind: type[msgspec.Struct], given_data: st.DataObject) -> None:
    value = given_data.draw(of(kind))
    raw = canonical.encode(value)
    assert canonical.decode(kind, raw, where="test") == value
    assert canonical.encode(canonical.decode(kind, raw, where="test")) == raw


@pytest.mark.parametrize("kind", [kind for kind in _SCALARS if kind not in (bool, str)], ids=lambda kind: kind.__name__)
@FAST
@given(given_data=st.data())
def test_every_scalar_comes_back(kind: Any, given_data: st.DataObject) -> None:
    value = given_data.draw(_SCALARS[kind])
    again = kind.from_json(json.loads(json.dumps(value.to_json())))
    assert again == value
    assert type(again) is kind


@pytest.mark.parametrize(
    ("kind", "forms"),
    [
        (
            Uint256,
            [
                "-1",
                "01",
                "+1",
                "1.0",
                "1e3",
                "",
                " 1",
                "1 ",
                "0x1",
                "\u0661",
                str(2**256),
                "9" * 5000,
                1,
                None,
                True,
                1.5,
            ],
        ),
        (TensorInt, ["-0", "--1", str(FIELD_MODULUS // 2 + 1), str(-(FIELD_MODULUS // 2) - 1), 0, "1\n"]),
        (FieldElement, [str(FIELD_MODULUS), "-1", 1]),
        (Count, [-1, 2**53, True, 1.0, "1", None]),
        (Timestamp, [-1, 2**40 + 1, True, "1"]),
        (
            Bytes32,
            ["0x" + "A" * 64, "0x" + "0" * 63, "0x" + "0" * 66, "0" * 64, "0X" + "0" * 64, "0x" + "0" * 64 + "\n", b""],
        ),
        (Address, ["0x" + "0" * 38, "0x" + "0" * 42, 0]),
        (Measure, ["-1", "1.", ".5", "01", "1.50", "1e-3", "NaN", "inf", 1, 1.5, "1" * 19]),
        (Text, ["\x1b[2K", "a\nb", "\u202e", "\ud800", "x" * 257, 1, None]),
        (
            Signature,
            ["0x" + "0" * 130, "0x" + "11" * 32 + "ff" * 32 + "1b", "0x" + "11" * 64 + "00", "0x" + "11" * 64 + "1d"],
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_other_spellings_of_a_scalar_are_refused(kind: Any, forms: list[object]) -> None:
    for form in forms:
        with pytest.raises(ValueError, match=kind.__name__):
            kind.from_json(form)


def typed(message: msgspec.Struct, domain: Domain | None) -> bytes:
    """The EIP-712 digest by eth-account, from a message as a wallet would be shown it."""
    types: dict[str, list[dict[str, str]]] = {}
    for part in encode_type(type(message)).replace(")", ")\0").split("\0")[:-1]:
        name, _, fields = part[:-1].partition("(")
        types[name] = [dict(zip(("type", "name"), field.split(" "), strict=True)) for field in fields.split(",")]
    if domain is None:
        head: dict[str, Any] = {"name": "opgate records", "version": "1"}
    else:
        chain = {"chainId": int(domain.chain_id), "verifyingContract": str(domain.verifying_contract)}
        head = {"name": str(domain.name), "version": str(domain.version), **chain}
    signable = encode_typed_data(domain_data=head, message_types=types, message_data=plain(message))
    return bytes(keccak256(b"\x19" + signable.version + signable.header + signable.body))


def plain(value: Any) -> Any:
    """A struct as eth-account takes it."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, bytes):
        return bytes(value)
    return int(value) if isinstance(value, int) else str(value)


@FAST
@given(domain=of(Domain), terms=of(JobTerms), message=st.one_of(*map(of, (Quote, Acceptance, Release, Delivery))))
def test_digests_are_eth_accounts(domain: Domain, terms: JobTerms, message: Any) -> None:
    assert terms.job_id(domain) == typed(terms, domain)
    assert message.digest(domain) == typed(message, domain)


def test_each_signed_message_is_among_those_compared() -> None:
    """With two lines, since an array of structs is where an encoder of EIP-712 goes wrong."""
    signed = BASE.job.terms
    line = QuoteLine(purpose=Text("proof"), amount=Uint256(7))
    quote = Quote(
        circuit_id=signed.circuit_id,
        amount=Uint256(14),
        lines=(line, line),
        provider=signed.provider,
        payee=signed.payee,
        escrow=BASE.job.domain.verifying_contract,
        token=signed.token,
        verifier=signed.rule.verifier,
        min_seconds=Count(1),
        valid_until=Timestamp(2**40),
        salt=signed.salt,
    )
    delivery = BASE.job.delivery_message(signed.salt)
    release, acceptance = Release(job_id=signed.salt, instances_hash=signed.salt), Acceptance(job_id=signed.salt)
    for message in (quote, delivery, release, acceptance):
        assert message.digest(BASE.job.domain) == typed(message, BASE.job.domain)


@FAST
@given(record=st.one_of(*map(of, (FidelityCertificate, CostRecord, RebuildRecord, CompileRecord, CircuitAttestation))))
def test_the_digest_of_a_record_is_eth_accounts(record: Any) -> None:
    message = CircuitRecord(
        schema=Text(str(record.__struct_config__.tag)),
        circuit_id=record.circuit_id,
        record_sha256=canonical.digest(record),
    )
    assert record_digest(record) == typed(message, None)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda raw: raw + b" ", "V0-canonical"),
        (lambda raw: b" " + raw, "V0-canonical"),
        (lambda raw: raw + b"\n", "V0-canonical"),
        (lambda raw: raw.replace(b'":', b'": ', 1), "V0-canonical"),
        (lambda raw: json.dumps(json.loads(raw), indent=1).encode(), "V0-canonical"),
        (
            lambda raw: json.dumps(dict(reversed(json.loads(raw).items())), separators=(",", ":")).encode(),
            "V0-canonical",
        ),
        (lambda raw: raw.replace(b'"origin"', b'"\\u006frigin"'), "V0-canonical"),
        (lambda raw: b"\xef\xbb\xbf" + raw, "V0-json"),
        (lambda raw: raw + raw, "V0-json"),
        (lambda raw: raw[:-1], "V0-json"),
        (lambda raw: raw.replace(b'{"', b'{"origin":"chain","', 1), "V0-json"),
        (lambda raw: raw[:-1] + b',"zzz":1}', "V0-schema"),
        (lambda raw: raw[:-1] + b',"zzz":1.5}', "V0-json"),
        (lambda raw: raw[:-1] + b',"zzz":NaN}', "V0-json"),
        (lambda raw: raw[:-1] + b',"zzz":"\\ud800"}', "V0-json"),
        (lambda raw: raw[:-1] + b',"zzz":' + b"9" * 5000 + b"}", "V0-json"),
        (lambda raw: raw[:-1] + b',"zzz":' + b"[" * 100_000, "V0-depth"),
        (lambda _: b"", "V0-json"),
        (lambda _: b"null", "V0-schema"),
        (lambda _: b"[]", "V0-schema"),
    ],
)
def test_other_bytes_for_the_same_bundle_are_refused(change: Any, code: str) -> None:
    with pytest.raises(VerifierError) as caught:
        parse_bundle(change(RAW))
    assert caught.value.code == code


@FAST
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error_of_ours(raw: bytes) -> None:
    try:
        value = canonical.parse(raw, where="fuzz")
    except VerifierError:
        return
    assert canonical.encode(value) == raw


def test_a_measure_is_the_nearest_of_so_many_digits() -> None:
    assert Measure.of(0.12345649) == "0.123456"
    assert Measure.of(0.12345651) == "0.123457"
    assert Measure.of(2.0, 3) == "2"
    assert [Measure.of(value, 0) for value in (100.0, 0.0, 0.4)] == ["100", "0", "0"], "zeros before the point stay"
    assert [Measure.of(value, 2) for value in (100.0, 0.5, 1.25)] == ["100", "0.5", "1.25"]


def test_the_delivery_of_a_bundle_is_signed_over_its_own_proof_and_receipt() -> None:
    job = BASE.job
    message = job.delivery_message(keccak256(claimed_words(job)))
    assert job.delivery is not None
    assert signed_by(job.terms.provider, message.digest(job.domain), job.delivery)
    for other in (replace(job, proof=BASE.other_job.proof), replace(job, receipt=BASE.other_job.receipt)):
        assert other.delivery_message(keccak256(claimed_words(job))) != message


def test_json_above_the_limit_is_not_read_and_says_both_sizes() -> None:
    with pytest.raises(
        VerifierError, match=r"^V0-size: the JSON is too large \(where w; expected at most 5 bytes; found 7 bytes\)$"
    ):
        canonical.parse(b'"12345"', where="w", limit=5)
    with pytest.raises(VerifierError, match="V0-size"):
        canonical.decode(ProofBundle, RAW, where="w", limit=len(RAW) - 1)
    assert canonical.decode(ProofBundle, RAW, where="w", limit=len(RAW)) == BASE.job


def test_a_struct_without_its_tag_is_not_whole_and_says_so() -> None:
    value = canonical.to_builtins(BASE.job)
    del value["schema"]
    with pytest.raises(VerifierError) as caught:
        canonical.decode(ProofBundle, canonical.encode(value), where="w")
    assert str(caught.value) == (
        "V0-schema: this is no whole ProofBundle (where w; expected each field, and its schema)"
    )


def test_a_tensor_has_so_many_axes_and_no_more() -> None:
    spec = BASE.circuit.manifest.outputs[0]
    assert replace(spec, shape=(Count(1),) * MAX_AXES).shape == (1,) * MAX_AXES
    with pytest.raises(ValueError, match="axes"):
        replace(spec, shape=(Count(1),) * (MAX_AXES + 1))


MANIFEST = BASE.circuit.manifest
SCALAR = replace(MANIFEST.outputs[0], shape=(Count(1),), length=Count(1))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"inputs": (), "n_instances": Count(int(MANIFEST.n_instances) - MANIFEST.input_len)}, "at least one input"),
        ({"outputs": (), "n_instances": Count(int(MANIFEST.outputs[0].offset))}, "at least one input and one output"),
        ({"proof_len": Count(0)}, "positive multiple of 32"),
        ({"proof_len": Count(int(MANIFEST.proof_len) + 1)}, "positive multiple of 32"),
        ({"value_bound": Uint256(2**24 - 1)}, "too small for the job limbs"),
        ({"outputs": (replace(SCALAR, shape=(Count(0),), length=Count(0)),)}, "is empty"),
    ],
)
def test_a_manifest_that_is_no_circuit(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(MANIFEST, **changes)


def test_the_least_that_a_manifest_may_say() -> None:
    assert replace(MANIFEST, value_bound=Uint256(2**24), proof_len=Count(32)).proof_len == 32
    one = replace(MANIFEST, outputs=(SCALAR,), n_instances=Count(int(SCALAR.offset) + 1))
    assert one.outputs[0].size == 1


@pytest.mark.parametrize("words", [b"", bytes(31), bytes(33)])
def test_an_input_is_whole_words(words: bytes) -> None:
    with pytest.raises(VerifierError, match=rf"^V6-words: .* \(found {len(words)} bytes\)$"):
        input_commitment(words)


def test_anybodys_text_can_be_shown() -> None:
    assert printable("a\x1b[2J\u202eb\n") == "a?[2J?b?"
    assert Text.shown("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert Text.shown("x" * MAX_TEXT + "y") == "x" * (MAX_TEXT - 1) + "…"
    assert len(Text.shown("x" * 1000)) == MAX_TEXT
    for kind in (Text, Measure):
        with pytest.raises(ValueError, match=f"^{kind.__name__} wants a "):
            kind.from_json(1)
