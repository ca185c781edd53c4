"""Python and the contract agree: on digests and verdicts of random terms, and on every node that the tests run on.

`verifier` and escrow.vy are two implementations of one specification: job_id, rule_hash and the question whether a
calldata proves a job. Real proofs are closed on revm and on anvil; stories on titanoboa, revm and anvil.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from vyper.compiler import compile_code

from tests.contracts.anvil import AnvilWorld, anvil
from tests.contracts.conftest import (
    AMOUNT,
    CONTRACTS,
    RULE_FIELDS,
    TERMS_FIELDS,
    VERIFIERS,
    Sent,
    World,
    keccak256,
    word,
)
from tests.contracts.revm import Built, Contract, RevmWorld, shipped
from tests.contracts.test_digests import own_form
from tests.contracts.zoo import permit2
from verifier.bundles import read_bundle
from verifier.evm import run_verifier
from verifier.instances import calldata, claimed_words
from verifier.payment import artifacts
from verifier.payment.escrow import encode_terms
from verifier.statement.eip712 import escrow_domain
from verifier.statement.scalars import Address
from verifier.statement.terms import input_commitment
from verifier.tensors import job_limbs, to_words
from workers.dev.rpc import ask

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from verifier.statement.bundle import ProofBundle

VECTORS = Path(__file__).parents[1] / "vectors" / "base"
BUNDLES = ("job", "two_inputs", "two_outputs", "columns", "lookups", "hashed")
WORDS = st.integers(0, 2**256 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
HASHES = st.binary(min_size=32, max_size=32)
SMALL = st.integers(0, 2**53 - 1)
TIMES = st.integers(0, 2**40)
KINDS = st.sampled_from(
    ["accept"] * 6 + ["seven", "reject", "two", "31-bytes", "64-bytes", "33-bytes", "reverts-with-1"]
)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
HASTE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    suppress_health_check=QUIET,
    phases=[Phase.generate],
)

RULES = st.fixed_dictionaries(
    {"verifier": ADDRESSES, "code_hash": HASHES}
    | dict.fromkeys(["n_instances", "proof_len", "input_offset", "input_len", "job_offset", "gas_cap"], SMALL)
).map(lambda drawn: {name: drawn[name] for name, _ in RULE_FIELDS})
TERMS = st.fixed_dictionaries(
    dict.fromkeys(["payer", "provider", "payee", "token"], ADDRESSES)
    | {"amount": WORDS, "circuit_id": HASHES, "rule": RULES, "input_commitment": HASHES}
    | {"fund_by": TIMES, "deadline": TIMES, "salt": HASHES}
).map(lambda drawn: {name: drawn[name] for name, _ in TERMS_FIELDS})


@pytest.fixture(scope="module")
def revm(parties: dict[str, LocalAccount], zoo: dict[str, Built]) -> RevmWorld:
    return RevmWorld(parties, token=zoo["hostile_token"], escrow=shipped("escrow"), wallet=zoo["wallet"])


@HASTE
@given(terms=TERMS)
def test_digests_of_random_terms(revm: RevmWorld, terms: dict[str, Any]) -> None:
    domain = escrow_domain(revm.chain_id, Address(bytes.fromhex(revm.escrow.address[2:])))
    own = own_form(terms)
    assert revm.read(revm.escrow, "job_id", terms) == own.job_id(domain)
    assert revm.read(revm.escrow, "rule_hash", terms["rule"]) == own.rule_hash()
    assert revm.read(revm.escrow, "DOMAIN_SEPARATOR") == domain.separator()


def proves(terms: dict[str, Any], job_id: bytes, call: bytes, code: bytes) -> bool:
    """What Python says: the calldata is the one encoding of its parts, for this job and input, and the code accepts."""
    rule = terms["rule"]
    at = 132 + rule["proof_len"]
    words, proof = call[at:], call[100 : at - 32]
    if call != calldata(proof, words) or len(words) != 32 * rule["n_instances"] or len(proof) != rule["proof_len"]:
        return False
    start, first = 32 * rule["job_offset"], 32 * rule["input_offset"]
    if words[start : start + 352] != to_words(job_limbs(own_form(terms).salt.__class__(job_id))):
        return False
    if input_commitment(words[first : first + 32 * rule["input_len"]]) != terms["input_commitment"]:
        return False
    return run_verifier(code, call, gas_cap=rule["gas_cap"], revision="PRAGUE").accepted


@HASTE
@given(
    kind=KINDS,
    inputs=st.integers(1, 20),
    outputs=st.integers(0, 5),
    first=st.sampled_from(["inputs", "limbs"]),
    proof_len=st.sampled_from([32, 64, 96]),
    salt=HASHES,
    change=st.sampled_from(["none", "none", "none", "byte", "cut", "more", "word"]),
    where=st.integers(0, 2000),
    byte=st.integers(0, 255),
)
def test_verdicts_of_random_terms(revm: RevmWorld, **drawn: Any) -> None:
    """Any byte of the calldata changed, cut off or added: both say no, or both yes."""
    code = bytes.fromhex(VERIFIERS[drawn["kind"]])
    inputs, n = drawn["inputs"], drawn["inputs"] + 11 + drawn["outputs"]
    head = drawn["first"] == "inputs"
    terms = revm.terms(
        rule={
            "verifier": revm.code(code),
            "n_instances": n,
            "proof_len": drawn["proof_len"],
            "input_offset": 0 if head else 11,
            "input_len": inputs,
            "job_offset": inputs if head else 0,
            "gas_cap": 100_000,
        },
        salt=drawn["salt"],
        amount=1,
    )
    call = bytearray(revm.call(terms))
    where = drawn["where"] % len(call)
    if drawn["change"] == "byte":
        call[where] = drawn["byte"]
    if drawn["change"] == "word":
        call[where : where + 32] = word(2**256 - 1)[: len(call) - where]
    if drawn["change"] == "cut":
        del call[where:]
    if drawn["change"] == "more":
        call += bytes(1 + where % 64)
    if revm.state(terms) == 0:
        assert revm.fund(terms).reason is None
    if revm.state(terms) != 1:
        return  # the same terms were drawn before, and that job is closed
    sent = revm.send("release_by_proof", terms, bytes(call))
    assert (sent.reason is None) == proves(terms, revm.job_id(terms), bytes(call), code), sent.reason


# --- one story on each node


def story(world: World) -> list[tuple[str, str | None, list[str], int]]:
    """Each verb, good and bad: what was called, the reason, the events of ours, and the state after it."""
    told = []

    def tell(name: str, sent: Sent, terms: dict[str, Any]) -> None:
        events = [event for event, _ in sent.events if event not in {"Transfer", "Approval"}]
        told.append((name, sent.reason, events, world.state(terms)))

    shown = b"\x1a" * 32
    now = world.now
    made = [
        world.terms(salt=bytes([at]) * 32, amount=1 + at, fund_by=now + 1000, deadline=now + 2000) for at in range(6)
    ]
    first, second, third, fourth, fifth, sixth = made
    tell("not accepted", world.fund(first, acceptance=bytes(65)), first)
    tell("fund", world.fund(first), first)
    tell("again", world.fund(first), first)
    tell("relayed, unsigned", world.fund(second, by=world.stranger), second)
    tell("relayed", world.fund(second, by=world.stranger, payer_sig=world.consent(second)), second)
    tell("permit2", world.send("fund_with_permit2", third, world.acceptance(third), 5, world.permit2(third, 5)), third)
    jobs = [(terms, world.acceptance(terms), world.consent(terms)) for terms in (first, fourth, fifth)]
    tell("fund_many", world.fund_many(jobs), fourth)
    tell("other's proof", world.send("release_by_proof", first, world.call(second)), first)
    tell("proof", world.send("release_by_proof", first, world.call(first)), first)
    tell("not payer", world.send("release", second, shown, world.release_sig(second, shown, by="provider")), second)
    tell("release", world.send("release", second, shown, world.release_sig(second, shown)), second)
    tell("not provider", world.send("decline", third, by=world.payer), third)
    tell("decline", world.send("decline", third, by=world.provider), third)
    tell("cancel", world.send("cancel", sixth, by=world.payer), sixth)
    tell("early", world.send("reclaim", fourth), fourth)
    releases = [(terms, shown, world.release_sig(terms, shown)) for terms in (third, fifth)]
    tell("release_many", world.release_many(releases), fifth)
    world.at(fourth["deadline"])
    tell("late", world.send("release", fourth, shown, world.release_sig(fourth, shown)), fourth)
    tell("reclaim", world.send("reclaim", fourth), fourth)
    tell("bad verifier", world.fund(world.terms(rule={"code_hash": b"\x01" * 32})), world.terms())
    return told


TOLD = [
    ("not accepted", "acceptance", [], 0),
    ("fund", None, ["Funded"], 1),
    ("again", "state", [], 1),
    ("relayed, unsigned", "payer-signature", [], 0),
    ("relayed", None, ["Funded"], 1),
    ("permit2", None, ["Funded"], 1),
    ("fund_many", None, ["Skipped", "Funded", "Funded"], 1),
    ("other's proof", "job-limbs", [], 1),
    ("proof", None, ["InstancesShown", "Released"], 2),
    ("not payer", "payer-signature", [], 1),
    ("release", None, ["Released"], 2),
    ("not provider", "not-provider", [], 1),
    ("decline", None, ["Declined"], 4),
    ("cancel", None, ["Cancelled"], 5),
    ("early", "early", [], 1),
    ("release_many", None, ["Skipped", "Released"], 2),
    ("late", "late", [], 1),
    ("reclaim", None, ["Reclaimed"], 3),
    ("bad verifier", "code-hash", [], 0),
]


def test_the_story_on_titanoboa(base: World) -> None:
    assert base.send("approve", base.escrow.address, AMOUNT, to=base.token, by=base.payer).reason is None
    assert story(base) == TOLD


def test_the_story_on_revm(parties: dict[str, LocalAccount], zoo: dict[str, Built]) -> None:
    escrow = shipped("escrow")
    assert story(RevmWorld(parties, token=zoo["hostile_token"], escrow=escrow, wallet=zoo["wallet"])) == TOLD


@pytest.mark.enable_socket
def test_the_story_on_anvil(parties: dict[str, LocalAccount]) -> None:
    with anvil() as port:
        world = AnvilWorld(port, parties)
        approve = world.send("approve", permit2.ADDRESS, 2**256 - 1, to=world.token, by=world.payer)
        assert approve.reason is None
        assert story(world) == TOLD


# --- real proofs


def bundle_of(name: str) -> ProofBundle:
    return read_bundle(VECTORS / "bundles" / f"{name}.json")


def settle_real_proofs(world: RevmWorld | AnvilWorld) -> dict[str, int]:
    """Put escrow and token where the vectors' terms have them, then fund and close each job; the gas of each close."""
    layout = compile_code((CONTRACTS / "opg_test_token.vy").read_text(), output_formats=("layout",))["layout"]
    slot = layout["storage_layout"]["balanceOf"]["slot"]
    terms = bundle_of("job").terms
    world.escrow = Contract(str(bundle_of("job").domain.verifying_contract), artifacts.load("escrow").abi)
    world.token = Contract(str(terms.token), artifacts.load("opg_test_token").abi)
    world.set_code(world.escrow.address, artifacts.escrow_runtime(terms.token))
    world.set_code(world.token.address, bytes(artifacts.load("opg_test_token").runtime))
    entry = int.from_bytes(keccak256(word(slot) + bytes(12) + terms.payer))
    world.set_storage(world.token.address, entry, 10**30)
    assert world.send("approve", world.escrow.address, 10**30, to=world.token, by=str(terms.payer)).reason is None
    found = {}
    for name in BUNDLES:
        bundle, other = bundle_of(name), bundle_of("other_job" if name == "job" else f"{name}_other_job")
        code = (VECTORS / "circuits" / str(bundle.terms.circuit_id) / "verifier.bin").read_bytes()
        world.set_code(str(bundle.terms.rule.verifier), code)
        encoded = encode_terms(bundle.terms)
        assert world.send("fund", encoded, bytes(bundle.acceptance), b"", by=str(bundle.terms.payer)).reason is None
        good = calldata(bytes(bundle.proof), claimed_words(bundle))
        foreign = calldata(bytes(other.proof), claimed_words(other))
        assert world.send("release_by_proof", encoded, foreign).reason in {"job-limbs", "input-commitment"}
        swapped = calldata(bytes(other.proof), claimed_words(bundle))
        assert world.send("release_by_proof", encoded, swapped).reason == "proof"
        altered = good[:-400] + bytes([good[-400] ^ 1]) + good[-399:]
        assert world.send("release_by_proof", encoded, altered).reason in {"job-limbs", "input-commitment", "proof"}
        sent = world.send("release_by_proof", encoded, good)
        assert sent.reason is None, name
        found[name] = sent.gas
    return found


def test_real_proofs_on_revm(parties: dict[str, LocalAccount], zoo: dict[str, Built]) -> None:
    escrow = shipped("escrow")
    world = RevmWorld(parties, token=zoo["hostile_token"], escrow=escrow, wallet=zoo["wallet"], chain_id=31337)
    world.at(1_700_000_100)
    settle_real_proofs(world)


@pytest.mark.enable_socket
def test_real_proofs_on_anvil(parties: dict[str, LocalAccount]) -> None:
    with anvil(31337, 1_700_000_000) as port:
        world = AnvilWorld(port, parties)
        ask(port, "anvil_setBalance", str(bundle_of("job").terms.payer), hex(10**22))
        gas = settle_real_proofs(world)
    assert gas["job"] < 600_000
