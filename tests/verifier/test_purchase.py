"""The steps of a purchase against a provider, a node and a policy that change under it: nothing is signed unchecked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec.structs import replace

from tests.simulators.payer_chain import SimulatedChain, SimulatedPayerEscrow
from tests.vectors.cases import read_base
from tests.vectors.keys import PAYEE, PAYER, PROVIDER, STRANGER
from verifier.archive.log import Archive
from verifier.archive.note import SigningKey
from verifier.errors import EscrowError, GateError, OpgateError, UndecidedError, VerifierError
from verifier.payer import settlement
from verifier.payer.purchase import MAX_CLOCK_LEAD_S, MAX_SECONDS, Payer
from verifier.payment.gate import Limits
from verifier.payment.ledger import Ledger, PayerJob
from verifier.payment.states import JobState
from verifier.policy import Amounts, Providers
from verifier.statement import canonical
from verifier.statement.evidence import ChainEvidence
from verifier.statement.scalars import Address, Bytes32, Count, HexBytes, Signature, Text, Timestamp, Uint256
from verifier.statement.terms import Acceptance, Quote, SignedQuote, SignedTerms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from verifier.payment.chain import Chain
    from verifier.payment.escrow import Escrow
    from verifier.policy import Policy
    from verifier.statement.eip712 import Domain

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
DOMAIN, TERMS = BASE.job.domain, BASE.job.terms
CIRCUIT = BASE.circuit
INPUTS = BASE.job.inputs or ()
NOW = 1_800_000_000
POLICY = replace(BASE.policy, amounts=Amounts(per_job=TERMS.amount))


@dataclass
class SimulatedProvider:
    """A provider that signs whatever quote it is given, and accepts every job."""

    quoted: Quote
    domain: Domain = DOMAIN
    url: str = "http://provider.test"

    def quote(self, circuit_id: Bytes32) -> SignedQuote:  # noqa: ARG002 - the client's signature
        return SignedQuote(
            domain=self.domain, quote=self.quoted, signature=PROVIDER.sign_digest(self.quoted.digest(self.domain))
        )

    def accept(self, terms: SignedTerms) -> SignedTerms:
        job_id = terms.terms.job_id(terms.domain)
        return replace(terms, acceptance=PROVIDER.sign_digest(Acceptance(job_id=job_id).digest(terms.domain)))


@dataclass
class CountingKey:
    """The payer's key; it lists what it signed."""

    signed: list[Bytes32] = field(default_factory=list)

    def sign_digest(self, digest: Bytes32) -> Signature:
        self.signed.append(digest)
        return PAYER.sign_digest(digest)


@dataclass
class Buyer:
    """A payer, and the parts that tests turn against it."""

    payer: Payer
    key: CountingKey
    chain: SimulatedChain
    escrow: SimulatedPayerEscrow
    provider: SimulatedProvider
    open: Callable[..., Payer]

    def drafted(self, **changes: Any) -> PayerJob:
        payer, provider = self.payer, cast("Any", self.provider)
        provider.quoted = replace(provider.quoted, **changes)
        signed = payer.quote(provider, CIRCUIT, now=NOW)
        draft = payer.draft(signed, CIRCUIT, INPUTS, seconds=600, now=NOW)
        return payer.check(draft, CIRCUIT, provider.url, now=NOW)

    def accepted(self, **changes: Any) -> PayerJob:
        return self.payer.accept(cast("Any", self.provider), self.drafted(**changes))


@pytest.fixture
def buyer(tmp_path: Path) -> Iterator[Buyer]:
    key, chain = CountingKey(), SimulatedChain(NOW, CIRCUIT.code_hash)
    escrow = SimulatedPayerEscrow(DOMAIN)
    archive = Archive.create(tmp_path / "archive", SigningKey.from_seed("opgate/payer", b"\x07" * 32))
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def open_payer(
        *,
        policy: Policy = POLICY,
        domain: Domain = DOMAIN,
        address: Address = PAYER.address,
        limits: Limits = Limits(),  # noqa: B008 - a tuple
    ) -> Payer:
        escrow.domain = domain
        return Payer(
            key=key,
            address=address,
            ledger=ledger,
            archive=archive,
            chain=cast("Chain", chain),
            escrow=cast("Escrow", escrow),
            policy=policy,
            limits=limits,
        )

    quote = Quote(
        circuit_id=CIRCUIT.circuit_id,
        amount=TERMS.amount,
        lines=(),
        provider=PROVIDER.address,
        payee=PAYEE.address,
        escrow=DOMAIN.verifying_contract,
        token=TERMS.token,
        verifier=TERMS.rule.verifier,
        min_seconds=Count(60),
        valid_until=Timestamp(NOW + 300),
        salt=Bytes32(b"\x51" * 32),
    )
    yield Buyer(open_payer(), key, chain, escrow, SimulatedProvider(quote), open_payer)
    ledger.close()


def refused(kind: type[OpgateError], code: str, act: Callable[[], object]) -> None:
    with pytest.raises(kind) as caught:
        act()
    assert caught.value.code == code


def test_what_is_signed_is_what_was_checked(buyer: Buyer) -> None:
    job = buyer.accepted()
    assert buyer.key.signed == []
    funded = buyer.payer.fund(job)
    assert buyer.key.signed[0] == job.job_id
    assert funded.terms.payer_signature == PAYER.sign_digest(job.job_id)
    assert buyer.escrow.sent == ["fund"]
    assert (funded.terms.terms.amount, funded.terms.terms.deadline) == (TERMS.amount, NOW + 600)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"circuit_id": BASE.other_circuit.circuit_id}, "E-quote-circuit"),
        ({"escrow": STRANGER.address}, "E-quote-escrow"),
        ({"valid_until": Timestamp(NOW)}, "E-quote-expired"),
        ({"provider": STRANGER.address}, "E-quote-signature"),
    ],
)
def test_a_quote_that_is_none_for_us_is_refused(buyer: Buyer, changes: dict[str, Any], code: str) -> None:
    refused(EscrowError, code, lambda: buyer.drafted(**changes))


def test_a_quote_in_another_domain_is_refused(buyer: Buyer) -> None:
    buyer.provider.domain = replace(DOMAIN, chain_id=Count(8453))
    refused(EscrowError, "E-quote-escrow", buyer.drafted)


def test_a_payer_without_a_price_cap_asks_nobody_for_a_quote(buyer: Buyer) -> None:
    """A provider could quote all that the payer has; the policy must say how much one job may cost."""
    with pytest.raises(EscrowError, match="E-price-cap"):
        buyer.open(policy=BASE.policy).quote(cast("Any", buyer.provider), CIRCUIT, now=NOW)


def test_a_token_of_the_provider_is_not_the_policys(buyer: Buyer) -> None:
    refused(VerifierError, "V2-token", lambda: buyer.drafted(token=STRANGER.address))


def test_a_verifier_with_other_code_is_refused(buyer: Buyer) -> None:
    buyer.chain.verifier_code = BASE.circuits[BASE.other_circuit.circuit_id].code_hash
    refused(EscrowError, "E-verifier-code", buyer.drafted)


@pytest.mark.parametrize("asked", [MAX_SECONDS + 1, 364 * 86_400, 2**53 - 1])
def test_a_provider_cannot_have_the_money_locked_for_a_year(buyer: Buyer, asked: int) -> None:
    """`buy` without --seconds takes what the provider asks for; a time beyond every calendar was an internal error."""
    signed = buyer.payer.quote(cast("Any", buyer.provider), CIRCUIT, now=NOW)
    longer = replace(signed, quote=replace(signed.quote, min_seconds=Count(asked)))
    refused(EscrowError, "E-deadline", lambda: buyer.payer.draft(longer, CIRCUIT, INPUTS, seconds=asked, now=NOW))


@pytest.mark.parametrize("ahead", [MAX_CLOCK_LEAD_S + 1, 364 * 86_400, 2**255])
def test_a_node_cannot_move_the_deadline_away_by_its_clock(buyer: Buyer, ahead: int) -> None:
    buyer.chain.time = NOW + ahead
    refused(UndecidedError, "E-rpc-time", buyer.drafted)


def test_an_acceptance_by_another_key_is_refused(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        SimulatedProvider, "accept", lambda _, terms: replace(terms, acceptance=STRANGER.sign_digest(BASE.job.job_id))
    )
    refused(EscrowError, "E-acceptance", buyer.accepted)


def test_nothing_is_funded_without_an_acceptance(buyer: Buyer) -> None:
    job = buyer.drafted()
    refused(EscrowError, "E-acceptance", lambda: buyer.payer.fund(job))
    assert buyer.key.signed == []


def test_a_policy_that_became_stricter_speaks_before_the_signature(buyer: Buyer) -> None:
    """Check and fund are two commands: the reader may have changed the policy in between."""
    job = buyer.accepted()
    for code, policy in (
        ("V2-amount", replace(POLICY, amounts=Amounts(per_job=Uint256(TERMS.amount - 1)))),
        ("V2-provider", replace(POLICY, providers=Providers(allowed=(STRANGER.address,)))),
        ("V1-circuit-policy", replace(POLICY, circuits={})),
    ):
        payer = buyer.open(policy=policy)
        refused(VerifierError, code, lambda payer=payer: payer.fund(job))  # type: ignore[misc]  # bound in the loop
    assert buyer.key.signed == []
    assert buyer.escrow.sent == []


def test_the_cap_per_day_speaks_before_the_money_is_locked(buyer: Buyer) -> None:
    """A funded job is closed by its proof without the gate: a cap that only the gate kept would hold nothing back."""
    jobs = [buyer.accepted(), buyer.accepted()]
    payer = buyer.open(
        policy=replace(POLICY, amounts=Amounts(per_job=TERMS.amount, per_day=Uint256(2 * TERMS.amount - 1)))
    )
    payer.fund(jobs[0])
    refused(GateError, "G6-per-day", lambda: payer.fund(jobs[1]))
    assert buyer.escrow.sent == ["fund"]
    payer.fund(buyer.payer.ledger.job(jobs[0].job_id))
    assert buyer.payer.ledger.job(jobs[1].job_id).terms.payer_signature is None


@pytest.mark.parametrize("verb", ["fund", "cancel", "reclaim", "state"])
def test_a_job_of_another_escrow_is_left_alone(buyer: Buyer, verb: str) -> None:
    """The trap: asked of the policy's new escrow, cancel would void nothing there and say that the terms are void."""
    job = buyer.accepted()
    elsewhere = replace(DOMAIN, verifying_contract=STRANGER.address)
    payer = buyer.open(domain=elsewhere)
    refused(EscrowError, "E-other-escrow", lambda: getattr(payer, verb)(job))
    payer = buyer.open(domain=replace(DOMAIN, chain_id=Count(8453)))
    refused(EscrowError, "E-other-escrow", lambda: getattr(payer, verb)(job))
    assert buyer.escrow.sent == []
    assert buyer.key.signed == []


@pytest.mark.parametrize("verb", ["fund", "cancel"])
def test_a_job_of_another_key_is_left_alone(buyer: Buyer, verb: str) -> None:
    """A signature by the wrong key would be kept as the payer's for ever."""
    job = buyer.accepted()
    payer = buyer.open(address=STRANGER.address)
    refused(EscrowError, "E-other-payer", lambda: getattr(payer, verb)(job))
    assert buyer.key.signed == []
    assert buyer.payer.ledger.job(job.job_id).terms.payer_signature is None


EVIDENCE = ChainEvidence(
    chain_id=DOMAIN.chain_id,
    transaction=HexBytes(b"\x01"),
    receipt=HexBytes(b"\x01"),
    receipt_proof=(HexBytes(b"\x01"),),
    index=Count(0),
    header=HexBytes(b"\x01"),
    source=Text("test"),
)


def refuse(code: str) -> Callable[..., object]:
    def refusing(*_: object, **__: object) -> object:
        raise VerifierError(code, "not what was said")

    return refusing


def test_a_close_that_hides_its_call_is_archived_all_the_same(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone may close by proof through a contract of theirs: the payer must not be kept from settling by that."""
    job = buyer.payer.fund(buyer.accepted())
    buyer.escrow.current = JobState.RELEASED
    monkeypatch.setattr(settlement, "fetch_evidence", lambda *_: EVIDENCE)
    monkeypatch.setattr(settlement, "check_event", lambda *_: None)
    monkeypatch.setattr(settlement, "bundle_from_chain", refuse("V3-calldata"))
    assert buyer.payer.settle(job, now=NOW).closed_by == "proof"
    (entry,) = [entry for _, entry in buyer.payer.archive.entries()]
    assert entry.kind == "settled"
    assert {"terms", "evidence", "evidence.funded", "policy", "manifest", "code"} <= set(entry.digests)
    assert "bundle" not in entry.digests


@pytest.fixture
def settling(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> Buyer:
    """A buyer whose node shows evidence of everything."""
    monkeypatch.setattr(settlement, "fetch_evidence", lambda *_: EVIDENCE)
    monkeypatch.setattr(settlement, "check_event", lambda *_: None)
    return buyer


def test_a_close_that_a_reorganisation_takes_away_is_forgotten_and_a_moved_one_archived_anew(settling: Buyer) -> None:
    """The trap: the archive holds the evidence of a block that is no more, and the ledger says that all is done."""
    buyer = settling
    job = buyer.payer.fund(buyer.accepted())
    buyer.escrow.current = JobState.RECLAIMED
    first = buyer.payer.settle(job, now=NOW)
    assert first.closed_by == "reclaim"
    assert buyer.payer.settle(first, now=NOW) == first
    assert len(list(buyer.payer.archive.entries())) == 1
    buyer.escrow.current = JobState.FUNDED
    opened = buyer.payer.settle(first, now=NOW)
    assert (opened.closed_by, opened.closed_in) == (None, None)
    buyer.escrow.current = JobState.RECLAIMED
    again = buyer.payer.settle(opened, now=NOW)
    buyer.escrow.block_hash = Bytes32(b"\xb2" * 32)
    moved = buyer.payer.settle(again, now=NOW)
    assert (moved.closed_by, moved.closed_in) == ("reclaim", buyer.escrow.block_hash)
    assert [entry.kind for _, entry in buyer.payer.archive.entries()] == ["reclaimed"] * 3


def test_a_silent_payer_gets_the_bundle_from_the_close_by_proof(
    settling: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fetched nothing: the transaction that was paid shows output and proof, and they are kept as if it had."""
    raw = canonical.encode(BASE.job)
    monkeypatch.setattr(settlement, "_shown_by_proof", lambda *_: {"bundle": raw, "verdict": b"{}"})
    job = settling.payer.fund(settling.accepted())
    settling.escrow.current = JobState.RELEASED
    settled = settling.payer.settle(job, now=NOW)
    assert settled.closed_by == "proof"
    assert settled.bundle == canonical.sha256(raw)
    assert settling.payer.kept_bundle(settled) == BASE.job
    (entry,) = [entry for _, entry in settling.payer.archive.entries()]
    assert entry.digests["bundle"] == settled.bundle


def test_a_close_is_archived_only_when_it_is_deep_enough(settling: Buyer) -> None:
    buyer = settling
    payer = buyer.open(limits=Limits(confirmations=3))
    job = buyer.payer.fund(buyer.accepted())
    buyer.escrow.current = JobState.DECLINED
    for height, closed_by in ((1, None), (3, None), (4, "decline")):
        buyer.chain.height = height
        assert payer.settle(job, now=NOW).closed_by == closed_by
    assert len(list(payer.archive.entries())) == 1


def test_evidence_of_something_else_is_not_archived(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that names a wrong transaction: an entry is for ever, and would look like damage to every audit."""
    job = buyer.payer.fund(buyer.accepted())
    buyer.escrow.current = JobState.RECLAIMED
    monkeypatch.setattr(settlement, "fetch_evidence", lambda *_: EVIDENCE)
    monkeypatch.setattr(settlement, "check_event", refuse("V3-evidence-event"))
    refused(UndecidedError, "E-rpc-evidence", lambda: buyer.payer.settle(job, now=NOW))
    assert list(buyer.payer.archive.entries()) == []
    assert buyer.payer.ledger.job(job.job_id).closed_by is None
