"""release_by_proof: the unilateral close, on a proof that the pinned verifier accepts for this job and this input.

The verifiers here are bare code that answers as told; circuits' real verifiers are tested where proofs are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boa
import pytest
from Crypto.Hash import keccak

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18
FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617
ACCEPT = bytes.fromhex("60015f5260205ff3")


def keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()


def words_of(values: list[int]) -> bytes:
    return b"".join(value.to_bytes(32, "big") for value in values)


def test_anyone_may_show_the_proof_and_the_named_payee_is_paid(world: World) -> None:
    """A front-runner that copies the proof from the pool pays the same payee; the instances stay on the chain."""
    terms = world.funded()
    sent = world.send("release_by_proof", terms, world.call(terms), by=world.stranger)
    assert sent.reason is None
    assert world.state(terms) == 2
    assert world.balance(world.payee) == AMOUNT
    assert world.balance(world.escrow.address) == 0
    job, shown = world.job_id(terms), words_of(world.instances(terms))
    assert ("InstancesShown", {"job_id": job, "instances": shown}) in sent.events
    released = {"job_id": job, "by": world.stranger.lower(), "instances_hash": keccak256(shown)}
    assert ("Released", released) in sent.events


def test_a_proof_pays_once(world: World) -> None:
    terms = world.funded()
    world.funded(salt=b"\x02" * 32)
    assert world.send("release_by_proof", terms, world.call(terms)).reason is None
    assert world.send("release_by_proof", terms, world.call(terms)).reason == "state"
    assert world.balance(world.payee) == AMOUNT


@pytest.mark.parametrize(("offset", "reason"), [(-1, None), (0, "late"), (1, "late")])
def test_the_deadline_itself_is_late(world: World, offset: int, reason: str | None) -> None:
    terms = world.funded()
    world.at(terms["deadline"] + offset)
    assert world.send("release_by_proof", terms, world.call(terms)).reason == reason


def test_the_proof_of_another_job_pays_nothing(world: World) -> None:
    """Same circuit, same input, another salt: only the limbs differ."""
    terms, other = world.funded(), world.funded(salt=b"\x02" * 32)
    assert world.send("release_by_proof", terms, world.call(other)).reason == "job-limbs"


def test_the_proof_of_the_same_terms_at_another_escrow_or_chain_pays_nothing(world: World) -> None:
    terms = world.funded()
    foreign = world.instances(terms)
    for domain in ({"chainId": 8453}, {"verifyingContract": "0x" + "e5" * 20}):
        job = int.from_bytes(world.job_id(terms, **domain), "big")
        foreign[4:15] = [job >> (24 * i) & 0xFFFFFF for i in range(11)]
        assert world.send("release_by_proof", terms, world.call(terms, foreign)).reason == "job-limbs"


@pytest.mark.parametrize("at", range(18))
@pytest.mark.parametrize("change", ["+1", "+r"])
def test_each_word_that_is_bound_is_compared(world: World, at: int, change: str) -> None:
    """Inputs and limbs are compared as words, so that v + r, equal in the field, is not equal here.

    The outputs are the verifier's to judge: this one accepts any.
    """
    terms = world.funded()
    words = world.instances(terms)
    words[at] += 1 if change == "+1" else FIELD
    expected = "input-commitment" if at < 4 else "job-limbs" if at < 15 else None
    assert world.send("release_by_proof", terms, world.call(terms, words)).reason == expected


def test_one_instance_more_or_less_is_another_shape(world: World) -> None:
    terms = world.funded()
    words = world.instances(terms)
    assert world.send("release_by_proof", terms, world.call(terms, [*words, 0])).reason == "call-length"
    assert world.send("release_by_proof", terms, world.call(terms, words[:-1])).reason == "call-length"


@pytest.mark.parametrize("length", [0, 32, 63, 65, 96, 4096])
def test_a_proof_of_another_length_is_another_shape(world: World, length: int) -> None:
    """63 and 65 bytes are padded to whole words by the encoder, so their total may be right and their head is not."""
    terms = world.funded()
    sent = world.send("release_by_proof", terms, world.call(terms, proof=bytes(length)))
    assert sent.reason == ("call-head" if length == 63 else "call-length")


def test_bytes_after_the_end_are_refused(world: World) -> None:
    terms = world.funded()
    for tail in (b"\x00", bytes(32)):
        assert world.send("release_by_proof", terms, world.call(terms) + tail).reason == "call-length"
    assert world.send("release_by_proof", terms, world.call(terms)[:-1]).reason == "call-length"
    assert world.send("release_by_proof", terms, b"").reason == "call-length"


@pytest.mark.parametrize("at", [0, 3, 4, 35, 36, 67, 68, 99, 164, 195])
def test_each_byte_of_the_head_is_fixed(world: World, at: int) -> None:
    """Other offsets could let the verifier read words that the escrow did not check."""
    terms = world.funded()
    call = bytearray(world.call(terms))
    call[at] ^= 1
    assert world.send("release_by_proof", terms, bytes(call)).reason == "call-head"


def test_a_call_beyond_the_bound_is_malformed(world: World) -> None:
    terms = world.funded()
    assert world.send("release_by_proof", terms, bytes(36_997)).reason == ""


@pytest.mark.parametrize(
    "kind",
    [
        "reject",
        "two",
        "31-bytes",
        "nothing",
        "64-bytes",
        "33-bytes",
        "high-bit",
        "reverts-with-1",
        "invalid",
        "burns-gas",
        "writes",
        "logs",
        "calls-with-value",
        "1-MiB",
    ],
)
def test_only_one_word_that_is_one_is_a_yes(world: World, kind: str) -> None:
    """Whatever else a verifier does: not paid, still funded, and no more than its cap is burnt."""
    terms = world.funded(verifier=kind)
    sent = world.send("release_by_proof", terms, world.call(terms))
    assert sent.reason == "proof"
    assert sent.gas < 700_000 + 100_000
    assert world.state(terms) == 1
    assert world.balance(world.payee) == 0


def test_the_verifier_decides(world: World) -> None:
    terms = world.funded(verifier="seven")
    bad = world.call(terms, proof=bytes(64))
    assert world.send("release_by_proof", terms, bad).reason == "proof"
    assert world.send("release_by_proof", terms, world.call(terms)).reason is None


def test_code_that_changed_since_funding_decides_nothing(world: World) -> None:
    terms = world.funded(verifier="seven")
    boa.env.set_code(terms["rule"]["verifier"], ACCEPT)
    assert world.send("release_by_proof", terms, world.call(terms)).reason == "code-hash"
    boa.env.set_code(terms["rule"]["verifier"], b"")
    assert world.send("release_by_proof", terms, world.call(terms)).reason == "code-hash"


def test_another_verifier_or_layout_is_another_job(world: World) -> None:
    terms = world.funded(verifier="reject")
    kind = world.verifier("accept")
    for change in (
        {"verifier": kind, "code_hash": keccak256(ACCEPT)},
        {"job_offset": 5},
        {"input_len": 3},
        {"n_instances": 19},
        {"proof_len": 96},
        {"gas_cap": 800_000},
    ):
        changed = terms | {"rule": terms["rule"] | change}
        assert world.send("release_by_proof", changed, world.call(changed)).reason == "state", change


@pytest.mark.parametrize(
    "layout",
    [
        {"n_instances": 12, "input_len": 1, "job_offset": 1},
        {"n_instances": 12, "input_offset": 11, "input_len": 1, "job_offset": 0},
        {"n_instances": 40, "input_offset": 2, "input_len": 7, "job_offset": 20},
        {"n_instances": 1024, "input_len": 1013, "job_offset": 1013, "proof_len": 4096},
        {"n_instances": 1024, "input_len": 1, "job_offset": 1013, "proof_len": 32},
    ],
    ids=["smallest", "job-first", "gaps", "largest", "hashed"],
)
def test_every_layout_that_can_be_funded_can_be_released(world: World, layout: dict[str, Any]) -> None:
    terms = world.funded(rule=layout)
    assert world.send("release_by_proof", terms, world.call(terms)).reason is None
    assert world.balance(world.payee) == AMOUNT


@pytest.mark.parametrize("layout", [{}, {"n_instances": 1024, "proof_len": 4096}], ids=["small", "largest"])
def test_too_little_gas_never_looks_like_a_bad_proof(world: World, layout: dict[str, Any]) -> None:
    """Of what is left a call gets 63/64: a relay could starve a good proof. This verifier wants its whole cap."""
    terms = world.funded(verifier="wants-gas", rule=layout)
    call = world.call(terms)
    reasons = set()
    for gas in range(700_000, 1_000_000, 2_500):
        with boa.env.anchor():
            reasons.add(world.send("release_by_proof", terms, call, gas=gas).reason)
    assert "proof" not in reasons
    assert {"gas", None} <= reasons


def test_a_payment_that_is_not_exact_undoes_the_release(hostile: World) -> None:
    terms = hostile.funded()
    for trick in ("no-move", "no-move-silent", "says-false", "fee", "gift"):
        hostile.token.misbehave(trick, hostile.payee, b"")
        assert hostile.send("release_by_proof", terms, hostile.call(terms)).reason == "push"
    assert hostile.state(terms) == 1
    hostile.token.misbehave("", hostile.payee, b"")
    assert hostile.send("release_by_proof", terms, hostile.call(terms)).reason is None


def test_a_payment_cannot_be_entered_again(hostile: World) -> None:
    terms, other = hostile.funded(), hostile.funded(salt=b"\x02" * 32)
    attempt = hostile.payload("release_by_proof", other, hostile.call(other))
    hostile.token.misbehave("reenter", hostile.escrow.address, attempt)
    assert hostile.send("release_by_proof", terms, hostile.call(terms)).reason is None
    assert hostile.token.tried() == 1
    assert not hostile.token.reentered()
    assert hostile.state(other) == 1
