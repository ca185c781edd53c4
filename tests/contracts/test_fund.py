"""fund: the amount is locked for terms that both parties signed, and only for a job that somebody could release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boa
import pytest
from Crypto.Hash import keccak

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18
YEAR = 365 * 86400
ZERO = "0x" + "00" * 20
BIG = 2**256 - 1
NO_REASON = ""


def keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()


def plain(terms: dict[str, Any]) -> tuple[Any, ...]:
    """Terms as an ABI decoder gives them back."""
    return tuple(
        plain(value) if isinstance(value, dict) else value.lower() if isinstance(value, str) else value
        for value in terms.values()
    )


def test_the_amount_is_locked_and_the_terms_are_logged(world: World) -> None:
    terms = world.terms()
    before = world.balance(world.payer)
    sent = world.fund(terms)
    assert sent.reason is None
    assert world.state(terms) == 1
    assert world.balance(world.payer) == before - AMOUNT
    assert world.balance(world.escrow.address) == AMOUNT
    parties = {"payer": world.payer.lower(), "provider": world.provider.lower()}
    assert ("Funded", {"job_id": world.job_id(terms), **parties, "terms": plain(terms)}) in sent.events


def test_anyone_may_relay_with_both_signatures(world: World) -> None:
    terms = world.terms()
    assert world.fund(terms, by=world.stranger, payer_sig=world.consent(terms)).reason is None
    assert world.balance(world.escrow.address) == AMOUNT


def test_the_providers_acceptance_is_always_needed(world: World) -> None:
    """The payer itself cannot fund a job that the provider did not take: it would be one that nobody works on."""
    terms = world.terms()
    other = world.terms(salt=b"\x02" * 32)
    for bad in (
        b"",
        world.acceptance(terms, by="payer"),
        world.acceptance(terms, by="stranger"),
        world.acceptance(other),
        world.acceptance(terms, chainId=8453),
        world.acceptance(terms, verifyingContract="0x" + "e5" * 20),
        world.consent(terms, by="provider"),
        bytes(65),
    ):
        assert world.fund(terms, acceptance=bad).reason == "acceptance"
    assert world.state(terms) == 0


def test_a_provider_that_is_a_contract_cannot_accept(world: World, wallet: Any) -> None:
    """Providers are keys: an answer that only a chain can judge could not be checked offline."""
    terms = world.terms(provider=wallet.address)
    digest = world.escrow_digest("Acceptance", {"job_id": world.job_id(terms)})
    wallet.approve_digest(digest, b"yes")
    assert world.fund(terms, acceptance=b"yes").reason == "acceptance"


def test_nobody_spends_an_allowance_without_the_payers_word(world: World) -> None:
    """The payer has given an allowance; provider and stranger try to use it for terms that the payer did not sign."""
    terms = world.terms(payee=world.stranger)
    other = world.terms()
    for by in (world.provider, world.stranger, world.payee):
        for bad in (
            b"",
            world.consent(other),
            world.consent(terms, by="provider"),
            world.acceptance(terms, by="payer"),
        ):
            assert world.fund(terms, by=by, payer_sig=bad).reason == "payer-signature"
    assert world.balance(world.escrow.address) == 0


def test_terms_relayed_with_one_field_changed_are_not_signed(world: World) -> None:
    terms = world.terms()
    consent, acceptance = world.consent(terms), world.acceptance(terms)
    for field, value in [("payee", world.stranger), ("amount", AMOUNT + 1), ("circuit_id", bytes(32))]:
        changed = terms | {field: value}
        sent = world.fund(changed, by=world.stranger, payer_sig=consent, acceptance=acceptance)
        assert sent.reason == "acceptance"
        accepted = world.acceptance(changed)
        sent = world.fund(changed, by=world.stranger, payer_sig=consent, acceptance=accepted)
        assert sent.reason == "payer-signature"


def test_a_wallet_contract_pays_by_its_own_signature(world: World, wallet: Any) -> None:
    terms = world.terms(payer=wallet.address)
    assert world.fund(terms, by=world.stranger, payer_sig=b"yes").reason == "payer-signature"
    wallet.approve_digest(world.job_id(terms), b"yes")
    assert world.fund(terms, by=world.stranger, payer_sig=b"yes").reason is None


def test_a_wallet_contract_may_call_itself(world: World, wallet: Any) -> None:
    terms = world.terms(payer=wallet.address)
    wallet.call(world.escrow.address, world.payload("fund", terms, world.acceptance(terms), b""))
    assert world.state(terms) == 1


def test_a_job_is_funded_once(world: World) -> None:
    terms = world.funded()
    assert world.fund(terms).reason == "state"
    assert world.fund(terms, by=world.stranger, payer_sig=world.consent(terms)).reason == "state"
    assert world.balance(world.escrow.address) == AMOUNT


@pytest.mark.parametrize("close", ["release", "reclaim", "decline", "cancel"])
def test_a_closed_job_is_never_funded_again(world: World, close: str) -> None:
    terms = world.terms(fund_by=world.now + 10, deadline=world.now + 20)
    acceptance = world.acceptance(terms)
    if close == "cancel":
        assert world.send("cancel", terms, by=world.payer).reason is None
    else:
        assert world.fund(terms).reason is None
    if close == "release":
        assert world.send("release", terms, bytes(32), world.release_sig(terms, bytes(32))).reason is None
    if close == "decline":
        assert world.send("decline", terms, by=world.provider).reason is None
    if close == "reclaim":
        world.at(terms["deadline"])
        assert world.send("reclaim", terms).reason is None
        world.at(terms["deadline"] - 15)
    assert world.fund(terms, acceptance=acceptance).reason == "state"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("token", "stranger", "token"),
        ("token", ZERO, "token"),
        ("amount", 0, "amount"),
        ("provider", ZERO, "provider-address"),
        ("provider", "escrow", "provider-address"),
        ("provider", "token", "provider-address"),
        ("payee", ZERO, "payee-address"),
        ("payee", "escrow", "payee-address"),
        ("payee", "token", "payee-address"),
        ("payer", ZERO, "payer-address"),
        ("payer", "escrow", "payer-address"),
        ("payer", "token", "payer-address"),
    ],
)
def test_terms_that_could_lose_the_money_are_refused(world: World, field: str, value: Any, reason: str) -> None:
    named = {"stranger": world.stranger, "escrow": world.escrow.address, "token": world.token.address}
    assert world.fund(world.terms(**{field: named.get(value, value)})).reason == reason


@pytest.mark.parametrize(
    ("fund_by", "deadline", "reason"),
    [
        (1, 2, None),
        (0, 7200, "fund-by"),
        (-1, 7200, "fund-by"),
        (100, 100, "deadline-order"),
        (100, 99, "deadline-order"),
        (100, YEAR, None),
        (100, YEAR + 1, "horizon"),
        (100, BIG, "horizon"),
    ],
)
def test_now_is_before_fund_by_is_before_the_deadline(
    world: World, fund_by: int, deadline: int, reason: str | None
) -> None:
    until = deadline if deadline == BIG else world.now + deadline
    assert world.fund(world.terms(fund_by=world.now + fund_by, deadline=until)).reason == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"code_hash": b"\x11" * 32}, "code-hash"),
        ({"proof_len": 0}, "proof-len"),
        ({"proof_len": 4128}, "proof-len"),
        ({"proof_len": 65}, "proof-len"),
        ({"proof_len": BIG - 31}, "proof-len"),
        ({"n_instances": 0}, "n-instances"),
        ({"n_instances": 1025}, "n-instances"),
        ({"n_instances": BIG}, "n-instances"),
        ({"input_len": 0}, "input-range"),
        ({"input_offset": 15}, "input-range"),
        ({"input_offset": 19}, "input-range"),
        ({"input_offset": BIG}, "input-range"),
        ({"input_len": BIG}, "input-range"),
        ({"input_offset": BIG - 3, "input_len": 4}, "input-range"),
        ({"job_offset": 8}, "job-range"),
        ({"job_offset": 19}, "job-range"),
        ({"job_offset": BIG - 10}, "job-range"),
        ({"n_instances": 10, "input_len": 1}, "job-range"),
        ({"input_len": 5}, "overlap"),
        ({"job_offset": 3}, "overlap"),
        ({"input_offset": 14}, "overlap"),
        ({"input_offset": 6, "input_len": 1}, "overlap"),
        ({"gas_cap": 99_999}, "gas-cap"),
        ({"gas_cap": 16_000_001}, "gas-cap"),
        ({"gas_cap": BIG}, "gas-cap"),
        ({"gas_cap": 100_000}, None),
        ({"gas_cap": 16_000_000}, None),
        ({"proof_len": 4096, "n_instances": 1024}, None),
        ({"input_offset": 11, "input_len": 7, "job_offset": 0}, None),
    ],
    ids=str,
)
def test_a_rule_that_nobody_could_meet_is_refused(world: World, change: dict[str, Any], reason: str | None) -> None:
    """Sums that overflow included: the fields are attacker's words."""
    assert world.fund(world.terms(rule=change)).reason == reason


class TestVerifierCode:
    def test_an_address_without_code(self, world: World) -> None:
        """With a balance its code hash is keccak of nothing, which is a hash that terms could name."""
        boa.env.set_balance(world.stranger, 1)
        assert world.fund(world.terms(rule={"verifier": world.stranger})).reason == "no-code"
        assert world.fund(world.terms(rule={"verifier": ZERO})).reason == "no-code"

    def test_a_precompile(self, world: World) -> None:
        assert world.fund(world.terms(rule={"verifier": "0x" + "00" * 19 + "08"})).reason == "no-code"

    def test_two_bytes_of_code(self, world: World) -> None:
        assert world.fund(world.terms(rule={"verifier": world.code(b"\x5f\xf3")})).reason == "no-code"

    def test_an_account_that_delegates(self, world: World) -> None:
        """EIP-7702: the code hash pins an address, and the account may change what stands behind it."""
        delegating = world.code(bytes.fromhex("ef0100") + bytes.fromhex(world.verifier("accept")[2:]))
        assert world.fund(world.terms(rule={"verifier": delegating})).reason == "delegated"


class TestTokens:
    @pytest.mark.parametrize(
        ("trick", "reason"),
        [
            ("no-move", "pull"),
            ("no-move-silent", "pull"),
            ("says-false", "pull"),
            ("false-but-moves", "pull"),
            ("fee", "pull"),
            ("fee-on-top", "pull"),
            ("gift", "pull"),
            ("paused", "paused"),
            ("silent", None),
        ],
    )
    def test_only_the_exact_amount_funds(self, hostile: World, trick: str, reason: str | None) -> None:
        hostile.token.misbehave(trick, hostile.payer, b"")
        terms = hostile.terms()
        assert hostile.fund(terms).reason == reason
        assert hostile.state(terms) == (reason is None)
        assert hostile.balance(hostile.escrow.address) == AMOUNT * (reason is None)

    def test_the_allowance_and_the_balance_are_the_tokens_matter(self, world: World) -> None:
        terms = world.terms(amount=101 * AMOUNT)
        assert world.fund(terms).reason == "allowance"
        world.send("approve", world.escrow.address, BIG, to=world.token, by=world.payer)
        assert world.fund(world.terms(amount=1001 * AMOUNT)).reason == "balance"

    def test_an_amount_that_overflows(self, hostile: World) -> None:
        hostile.funded()
        assert hostile.fund(hostile.terms(amount=BIG)).reason == ""

    def test_a_token_that_takes_money_away_cheats_its_holders(self, hostile: World) -> None:
        """The limit that docs/security.md names: no sum of what is owed is kept, so funding does not see the hole. Who
        closes last is not paid, and its job stays funded; nobody is paid twice or less than all.
        """
        first, second = hostile.funded(), hostile.funded(salt=b"\x02" * 32)
        hostile.token.burn(hostile.escrow.address, 1)
        assert hostile.send("decline", first, by=hostile.provider).reason is None
        assert hostile.send("decline", second, by=hostile.provider).reason == NO_REASON
        assert (hostile.state(first), hostile.state(second)) == (4, 1)

    def test_tokens_sent_by_mistake_change_nothing(self, world: World) -> None:
        world.send("transfer", world.escrow.address, 5, to=world.token, by=world.payer)
        terms = world.funded()
        assert world.balance(world.escrow.address) == AMOUNT + 5
        assert world.send("release_by_proof", terms, world.call(terms)).reason is None
        assert world.balance(world.escrow.address) == 5

    def test_funding_cannot_be_entered_again(self, hostile: World) -> None:
        terms, other = hostile.terms(), hostile.terms(salt=b"\x02" * 32)
        for attempt in (
            hostile.payload("fund", other, hostile.acceptance(other), hostile.consent(other)),
            hostile.payload("fund", terms, hostile.acceptance(terms), hostile.consent(terms)),
            hostile.payload("release_by_proof", terms, hostile.call(terms)),
        ):
            with boa.env.anchor():
                hostile.token.misbehave("reenter", hostile.escrow.address, attempt)
                assert hostile.fund(terms).reason is None
                assert hostile.token.tried() == 1
                assert not hostile.token.reentered()
                assert (hostile.state(terms), hostile.state(other)) == (1, 0)


def test_the_contract_has_no_other_door(world: World) -> None:
    """No owner, setter, pause or fee; no plain ether; an unknown selector reverts."""
    verbs = {e["name"] for e in world.escrow.abi if e["type"] == "function" and e["stateMutability"] != "view"}
    funding = {"fund", "fund_with_permit", "fund_with_permit2", "fund_many", "fund_item"}
    closing = {"release", "release_many", "release_item", "release_by_proof", "decline", "reclaim", "cancel"}
    assert verbs == funding | closing
    views = {e["name"] for e in world.escrow.abi if e["type"] == "function" and e["stateMutability"] == "view"}
    assert views == {"DOMAIN_SEPARATOR", "TOKEN", "job_id", "rule_hash", "state"}
    for payload in (b"", b"\xde\xad\xbe\xef", bytes(64)):
        assert world.send_raw(world.escrow, payload).reason == ""


def test_an_escrow_needs_a_token(world: World) -> None:
    with pytest.raises(boa.BoaError, match="token-code"):
        world.escrow.deployer.deploy(world.stranger)
