"""release: the cooperative close, on the payer's signature of Release(job_id, instances_hash)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boa
import pytest

if TYPE_CHECKING:
    from tests.contracts.conftest import World

SHOWN = b"\x1a" * 32
AMOUNT = 3 * 10**18
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_anyone_may_submit_and_the_named_payee_is_paid(world: World) -> None:
    """A front-runner that copies the signature from the pool pays the same payee."""
    terms = world.funded()
    sent = world.send("release", terms, SHOWN, world.release_sig(terms, SHOWN), by=world.stranger)
    assert sent.reason is None
    assert world.state(terms) == 2
    assert world.balance(world.payee) == AMOUNT
    assert world.balance(world.stranger) == 0
    assert world.balance(world.escrow.address) == 0
    job = world.job_id(terms)
    assert ("Released", {"job_id": job, "by": world.stranger.lower(), "instances_hash": SHOWN}) in sent.events
    assert "InstancesShown" not in [name for name, _ in sent.events]


def test_a_second_release_finds_the_state(world: World) -> None:
    terms = world.funded()
    signature = world.release_sig(terms, SHOWN)
    assert world.send("release", terms, SHOWN, signature).reason is None
    assert world.send("release", terms, SHOWN, signature).reason == "state"
    assert world.send("release_by_proof", terms, world.call(terms)).reason == "state"
    assert world.balance(world.payee) == AMOUNT


def test_a_job_that_was_never_funded_is_not_paid(world: World) -> None:
    world.funded(salt=b"\x01" * 32)
    terms = world.terms()
    assert world.send("release", terms, SHOWN, world.release_sig(terms, SHOWN)).reason == "state"


@pytest.mark.parametrize(("offset", "reason"), [(-1, None), (0, "late"), (1, "late")])
def test_the_deadline_itself_is_late(world: World, offset: int, reason: str | None) -> None:
    terms = world.funded()
    world.at(terms["deadline"] + offset)
    assert world.send("release", terms, SHOWN, world.release_sig(terms, SHOWN)).reason == reason


@pytest.mark.parametrize("signer", ["provider", "payee", "stranger", "owner"])
def test_only_the_payers_key_counts(world: World, signer: str) -> None:
    terms = world.funded()
    signature = world.release_sig(terms, SHOWN, by=signer)
    sent = world.send("release", terms, SHOWN, signature, by=world.keys[signer].address)
    assert sent.reason == "payer-signature"
    assert world.state(terms) == 1


def test_being_the_caller_is_no_signature(world: World) -> None:
    """A release without the signed Release would leave nothing that an auditor could show."""
    terms = world.funded()
    assert world.send("release", terms, SHOWN, b"", by=world.payer).reason == "payer-signature"


def test_a_signature_holds_for_its_instances_only(world: World) -> None:
    terms = world.funded()
    signature = world.release_sig(terms, SHOWN)
    assert world.send("release", terms, b"\x1b" * 32, signature).reason == "payer-signature"


def test_a_signature_holds_for_its_job_only(world: World) -> None:
    first, second = world.funded(), world.funded(salt=b"\x02" * 32)
    assert world.send("release", second, SHOWN, world.release_sig(first, SHOWN)).reason == "payer-signature"


@pytest.mark.parametrize(
    "domain",
    [{"chainId": 8453}, {"verifyingContract": "0x" + "e5" * 20}, {"name": "opgate2"}, {"version": "2"}],
    ids=lambda domain: next(iter(domain)),
)
def test_a_signature_from_another_domain_is_no_signature(world: World, domain: dict[str, Any]) -> None:
    terms = world.funded()
    message = {"job_id": world.job_id(terms), "instances_hash": SHOWN}
    assert world.send("release", terms, SHOWN, world.sign("payer", "Release", message, **domain)).reason == (
        "payer-signature"
    )


def test_terms_and_acceptances_are_no_releases(world: World) -> None:
    """Each type has its own hash: a signature that the payer gave for funding releases nothing."""
    terms = world.funded()
    for signature in (world.consent(terms), world.acceptance(terms, by="payer")):
        assert world.send("release", terms, world.job_id(terms), signature).reason == "payer-signature"


def test_one_encoding_of_a_signature(world: World) -> None:
    """The twin with high s, v of 0 or 1, a compact or a longer form are other bytes for the same word: refused."""
    terms = world.funded()
    good = world.release_sig(terms, SHOWN)
    r, s, v = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    assert s <= HALF_ORDER
    twin = r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    compact = r + (s | (v - 27) << 255).to_bytes(32, "big")
    for bad in (twin, good[:64] + bytes([v - 27]), good[:64] + bytes([55 - v]), compact, good + b"\x00", good[:64]):
        assert world.send("release", terms, SHOWN, bad).reason == "payer-signature"
    assert world.send("release", terms, SHOWN, good).reason is None


@pytest.mark.parametrize("bad", [bytes(65), bytes(64) + b"\x1b", b"\xff" * 65, bytes(32) + b"\x01" * 32 + b"\x1c"])
def test_a_failed_recovery_is_nobody(world: World, bad: bytes) -> None:
    """The precompile gives the zero address for nonsense; no job has it as its payer, and it must match nobody."""
    terms = world.funded()
    assert world.send("release", terms, SHOWN, bad).reason == "payer-signature"


def test_terms_with_one_field_changed_are_another_job(world: World) -> None:
    terms = world.funded()
    for field, value in [
        ("payee", world.stranger),
        ("amount", 1),
        ("amount", 2 * AMOUNT),
        ("deadline", terms["deadline"] + 1),
        ("circuit_id", bytes(32)),
        ("rule", terms["rule"] | {"gas_cap": 700_001}),
    ]:
        changed = terms | {field: value}
        assert world.send("release", changed, SHOWN, world.release_sig(changed, SHOWN)).reason == "state", field


def test_a_chain_with_another_id_after_a_fork_accepts_no_old_signature(world: World) -> None:
    terms = world.funded()
    signature = world.release_sig(terms, SHOWN)
    boa.env.evm.patch.chain_id = 777
    assert world.send("release", terms, SHOWN, signature).reason == "state"


class TestWalletContracts:
    """ERC-1271 payers, and keys whose account delegates by EIP-7702."""

    def funded(self, world: World, wallet: Any) -> dict[str, Any]:
        terms = world.terms(payer=wallet.address)
        wallet.approve_digest(world.job_id(terms), b"terms")
        assert world.fund(terms, by=world.stranger, payer_sig=b"terms").reason is None
        return terms

    def approve(self, world: World, wallet: Any, terms: dict[str, Any], signature: bytes) -> None:
        digest = world.escrow_digest("Release", {"job_id": world.job_id(terms), "instances_hash": SHOWN})
        wallet.approve_digest(digest, signature)

    def test_a_wallet_signs_with_as_many_bytes_as_it_likes(self, world: World, wallet: Any) -> None:
        terms = self.funded(world, wallet)
        signature = b"\x5e" * 2048
        self.approve(world, wallet, terms, signature)
        assert world.send("release", terms, SHOWN, signature[:-1]).reason == "payer-signature"
        assert world.send("release", terms, SHOWN, signature).reason is None
        assert world.balance(world.payee) == AMOUNT

    def test_a_longer_signature_is_malformed(self, world: World, wallet: Any) -> None:
        terms = self.funded(world, wallet)
        assert world.send("release", terms, SHOWN, b"\x5e" * 2049).reason == ""

    @pytest.mark.parametrize("trick", ["true-word", "four-bytes", "dirty", "reverts", "burns-gas", "writes"])
    def test_only_the_exact_magic_word_counts(self, world: World, wallet: Any, trick: str) -> None:
        """Other answers, and a wallet that burns its whole gas or writes: a refusal, never a payment."""
        terms = self.funded(world, wallet)
        self.approve(world, wallet, terms, b"yes")
        wallet.misbehave(trick)
        sent = world.send("release", terms, SHOWN, b"yes")
        assert sent.reason == "payer-signature"
        assert sent.gas < 700_000
        assert wallet.called() == 0

    def test_too_little_gas_is_not_a_bad_signature(self, world: World, wallet: Any) -> None:
        """With 1/64 kept back the wallet could starve; the caller is told to send more."""
        terms = self.funded(world, wallet)
        self.approve(world, wallet, terms, b"yes")
        assert world.send("release", terms, SHOWN, b"yes", gas=500_000).reason == "gas"
        assert world.send("release", terms, SHOWN, b"yes", gas=700_000).reason is None

    def test_a_delegating_key_still_signs(self, world: World, wallet: Any) -> None:
        """By EIP-7702 the payer's account has code; its key is asked first."""
        boa.env.set_code(world.payer, bytes.fromhex("ef0100") + bytes.fromhex(wallet.address[2:]))
        terms = world.funded()
        assert world.send("release", terms, SHOWN, world.release_sig(terms, SHOWN)).reason is None

    def test_a_delegating_account_may_sign_by_its_code(self, world: World, wallet: Any) -> None:
        boa.env.set_code(world.payer, bytes.fromhex("ef0100") + bytes.fromhex(wallet.address[2:]))
        terms = world.funded()
        digest = world.escrow_digest("Release", {"job_id": world.job_id(terms), "instances_hash": SHOWN})
        assert world.send("release", terms, SHOWN, b"yes").reason == "payer-signature"
        # A call from a contract follows the delegation, so the digest is approved in the payer's own storage.
        wallet.call(world.payer, world.payload("approve_digest", digest, b"yes", to=wallet))
        assert world.send("release", terms, SHOWN, b"yes").reason is None


class TestHostileTokens:
    """The provider must never read "released" and be unpaid; the job stays funded for another try."""

    @pytest.mark.parametrize(
        ("trick", "reason"),
        [
            ("no-move", "push"),
            ("no-move-silent", "push"),
            ("says-false", "push"),
            ("false-but-moves", "push"),
            ("fee", "push"),
            ("fee-on-top", "push"),
            ("gift", "push"),
            ("paused", "paused"),
        ],
    )
    def test_a_payment_that_is_not_exact_undoes_the_release(self, hostile: World, trick: str, reason: str) -> None:
        terms = hostile.funded()
        hostile.funded(salt=b"\x02" * 32)  # whose money a greedy token could take
        hostile.token.misbehave(trick, hostile.payee, b"")
        signature = hostile.release_sig(terms, SHOWN)
        assert hostile.send("release", terms, SHOWN, signature).reason == reason
        assert hostile.state(terms) == 1
        assert hostile.balance(hostile.escrow.address) == 2 * AMOUNT
        hostile.token.misbehave("", hostile.payee, b"")
        assert hostile.send("release", terms, SHOWN, signature).reason is None

    def test_a_token_that_returns_nothing_pays(self, hostile: World) -> None:
        """As USDT does: what counts is what moved."""
        terms = hostile.funded()
        hostile.token.misbehave("silent", hostile.payee, b"")
        assert hostile.send("release", terms, SHOWN, hostile.release_sig(terms, SHOWN)).reason is None
        assert hostile.balance(hostile.payee) == AMOUNT

    def test_a_blacklisted_payee_leaves_the_job_funded_and_the_payer_refunded_later(self, hostile: World) -> None:
        terms = hostile.funded()
        hostile.token.misbehave("blacklist", hostile.payee, b"")
        signature = hostile.release_sig(terms, SHOWN)
        assert hostile.send("release", terms, SHOWN, signature).reason == "blacklisted"
        assert hostile.state(terms) == 1
        hostile.at(terms["deadline"])
        assert hostile.send("reclaim", terms).reason is None
        assert hostile.balance(hostile.payer) == 1000 * AMOUNT

    def test_a_payment_cannot_be_entered_again(self, hostile: World) -> None:
        """From inside the transfer every verb that a token may call meets the lock, for this and for another job."""
        terms, other = hostile.funded(), hostile.funded(salt=b"\x02" * 32)
        third = hostile.terms(salt=b"\x03" * 32)
        proof = hostile.call(other)
        attempts = [
            hostile.payload("release", terms, SHOWN, hostile.release_sig(terms, SHOWN)),
            hostile.payload("release", other, SHOWN, hostile.release_sig(other, SHOWN)),
            hostile.payload("release_by_proof", other, proof),
            hostile.payload("reclaim", other),
            hostile.payload("fund", third, hostile.acceptance(third), hostile.consent(third)),
        ]
        for attempt in attempts:
            with boa.env.anchor():
                hostile.token.misbehave("reenter", hostile.escrow.address, attempt)
                assert hostile.send("release", terms, SHOWN, hostile.release_sig(terms, SHOWN)).reason is None
                assert hostile.token.tried() == 1
                assert not hostile.token.reentered()
                assert hostile.balance(hostile.payee) == AMOUNT
                assert hostile.state(other) == 1
                assert hostile.state(third) == 0
                assert hostile.balance(hostile.escrow.address) == AMOUNT
