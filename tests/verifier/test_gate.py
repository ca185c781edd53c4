"""The payer's gate: nothing but a VALID bundle of this job, archived first, makes it sign, and it signs one thing once.

The proofs are the real ones of the vectors; the chain is `tests.simulators.escrow_view`.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from tests.simulators.escrow_view import SimulatedEscrowView
from tests.vectors.cases import Base, read_base, resign
from tests.vectors.keys import PAYER, STRANGER
from verifier.archive.log import Archive
from verifier.archive.note import SigningKey
from verifier.errors import AuditError, GateError, OpgateError, UndecidedError
from verifier.evm import PyrevmEngine, signed_by
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.payer.inputs import encode_tensors
from verifier.payment.gate import Gate, Limits
from verifier.payment.ledger import Evidence, Ledger, PayerJob
from verifier.payment.states import JobState
from verifier.policy import Amounts, Depth, Policy
from verifier.statement import canonical
from verifier.statement.scalars import Bytes32, Count, Signature, TensorInt, Text, Uint256
from verifier.statement.terms import SignedTerms
from verifier.verify import check_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from verifier.statement.bundle import ProofBundle
    from verifier.statement.terms import SignedRelease

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
NOW = int(BASE.job.terms.deadline) - 60


@dataclass
class CountingSigner:
    """The payer's key; it counts. A `salted` one signs one digest in more than one way, as an HSM may."""

    signatures: list[Signature] = field(default_factory=list)
    salted: bool = False

    def sign_digest(self, digest: Bytes32) -> Signature:
        """Sign, or sign something else that is as new each time."""
        signature = PAYER.sign_digest(Bytes32(secrets.token_bytes(32)) if self.salted else digest)
        self.signatures.append(signature)
        return signature


@dataclass
class House:
    """A payer with its jobs: everything that a gate is made of."""

    folder: Path
    archive: Archive
    ledger: Ledger
    signer: CountingSigner
    view: SimulatedEscrowView

    def gate(self, **limits: int) -> Gate:
        """A gate as a new process would open it, on the same files."""
        return Gate(
            ledger=self.ledger, archive=self.archive, escrow=self.view, signer=self.signer, limits=Limits(**limits)
        )

    def keep(self, bundle: ProofBundle, policy: Policy = BASE.policy, base: Base = BASE) -> PayerJob:
        """A job as `Payer.check`, `accept` and `fund` leave it."""
        circuit = base.circuits[bundle.circuit_id]
        verdict = check_terms(bundle.terms, bundle.domain, circuit, policy)
        store = self.archive.store
        job = PayerJob(
            job_id=bundle.job_id,
            created_at=NOW,
            provider_url="http://provider.test",
            terms=SignedTerms(
                domain=bundle.domain,
                terms=bundle.terms,
                payer_signature=PAYER.sign_digest(bundle.job_id),
                acceptance=bundle.acceptance,
            ),
            inputs=encode_tensors(bundle.inputs or ()),
            evidence=Evidence(
                policy=store(canonical.encode(policy)),
                manifest=store(canonical.encode(circuit.manifest)),
                code=store(circuit.code),
                records=tuple(store(canonical.encode(record)) for record in circuit.records),
                terms_verdict=store(canonical.encode(verdict)),
            ),
        )
        self.ledger.add(job)
        return job

    def bundle(self, bundle: ProofBundle) -> Bytes32:
        """The digest of a bundle, stored as a blob and nothing else."""
        return self.archive.store(canonical.encode(bundle))

    def intents(self) -> list[dict[str, Bytes32]]:
        """The digests of every logged intent."""
        return [entry.digests for _, entry in self.archive.entries() if entry.kind == "intent"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    archive = Archive.create(tmp_path / "archive", SigningKey.from_seed("opgate/payer", b"\x07" * 32))
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield House(tmp_path, archive, ledger, CountingSigner(), SimulatedEscrowView(time=NOW))
    ledger.close()


def refused(house: House, code: str, act: Callable[[], object], kind: type[OpgateError] = GateError) -> None:
    """The act is refused with this code, and nothing was signed or reserved."""
    with pytest.raises(kind) as caught:
        act()
    assert caught.value.code == code
    assert house.signer.signatures == []


def test_a_valid_bundle_is_signed_once_and_the_same_bytes_come_again(house: House) -> None:
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    first = house.gate().release(job.job_id, digest, now=NOW)
    assert first.release.job_id == job.job_id
    assert first.release.instances_hash == keccak256(claimed_words(BASE.job))
    assert signed_by(PAYER.address, first.release.digest(BASE.job.domain), first.signature)
    assert house.gate().release(job.job_id, digest, now=NOW) == first
    assert len(house.signer.signatures) == 1
    assert house.view.asked[0] == (BASE.job.domain.verifying_contract, job.job_id)


def test_everything_that_the_signature_rests_on_is_in_the_archive(house: House) -> None:
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    house.gate().release(job.job_id, digest, now=NOW)
    (digests,) = house.intents()
    circuit = BASE.circuit
    expected = {
        "bundle": canonical.encode(BASE.job),
        "policy": canonical.encode(BASE.policy),
        "manifest": canonical.encode(circuit.manifest),
        "code": circuit.code,
        "terms": canonical.encode(job.terms),
    } | {f"record.{index}": canonical.encode(record) for index, record in enumerate(circuit.records)}
    assert {role: house.archive.blob(digests[role]) for role in expected} == expected
    assert set(digests) == {*expected, "verdict", "terms_verdict"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda b: replace(b, outputs=((TensorInt(int(b.outputs[0][0]) + 1), *b.outputs[0][1:]),)), "V7-proof"),
        (lambda b: replace(b, proof=BASE.other_job.proof), "V7-proof"),
        (lambda b: replace(b, outputs=((*b.outputs[0], TensorInt(0)),)), "V5-instance-count"),
        (lambda b: replace(b, inputs=BASE.other_input.inputs), "V6-commitment"),
    ],
)
def test_an_invalid_bundle_moves_nothing(house: House, change: Callable[[ProofBundle], ProofBundle], code: str) -> None:
    job = house.keep(BASE.job)
    digest = house.bundle(resign(change(BASE.job)))
    refused(house, code, lambda: house.gate().release(job.job_id, digest, now=NOW))
    assert house.intents() == []
    # and the honest bundle is paid all the same: junk settles nothing
    house.gate().release(job.job_id, house.bundle(BASE.job), now=NOW)


def test_the_valid_bundle_of_another_job_moves_nothing(house: House) -> None:
    """The replay: a bundle that is VALID, for another job of the same payer."""
    job = house.keep(BASE.job)
    house.keep(BASE.other_job)
    digest = house.bundle(BASE.other_job)
    refused(house, "G4-other-job", lambda: house.gate().release(job.job_id, digest, now=NOW))


def test_an_unknown_job_or_blob_moves_nothing(house: House) -> None:
    digest = house.bundle(BASE.job)
    refused(house, "G-job-unknown", lambda: house.gate().release(BASE.job.job_id, digest, now=NOW))
    job = house.keep(BASE.job)
    missing = Bytes32(b"\x55" * 32)
    refused(house, "A-blob-missing", lambda: house.gate().release(job.job_id, missing, now=NOW), AuditError)


def test_a_bundle_that_cannot_be_judged_is_undecided(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNDECIDED is about us: nothing is signed, and it is not told as INVALID."""
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)

    def broken(*_: object) -> bytes:
        raise RuntimeError("engine")

    monkeypatch.setattr(PyrevmEngine, "call", broken)
    refused(house, "V3-engine", lambda: house.gate().release(job.job_id, digest, now=NOW), UndecidedError)


def test_an_opinion_that_the_policy_asks_for_and_that_is_not_there_withholds_the_signature(house: House) -> None:
    asking = replace(BASE.policy, opinions=replace(BASE.policy.opinions, required=(Text("ezkl"),)))
    job, digest = house.keep(BASE.job, asking), house.bundle(BASE.job)
    refused(house, "V8-missing", lambda: house.gate().release(job.job_id, digest, now=NOW), UndecidedError)


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.FUNDED])
def test_only_a_funded_job_is_released(house: House, state: JobState) -> None:
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    house.view.state = state
    refused(house, "G5-state", lambda: house.gate().release(job.job_id, digest, now=NOW))


def test_a_silent_node_and_a_foreign_escrow_withhold_the_signature(house: House) -> None:
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    house.view.down = True
    refused(house, "E-rpc-unreachable", lambda: house.gate().release(job.job_id, digest, now=NOW), UndecidedError)
    house.view.down, house.view.foreign = False, True
    refused(house, "E-escrow-code", lambda: house.gate().release(job.job_id, digest, now=NOW), OpgateError)


@pytest.mark.parametrize(("ours", "chain"), [(-5, -60), (-60, -5), (0, -60), (-60, 0), (100, -60)])
def test_neither_clock_may_be_near_the_deadline(house: House, ours: int, chain: int) -> None:
    """The later of the two clocks counts, so that a slow clock on one side opens nothing."""
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    deadline = int(BASE.job.terms.deadline)
    house.view.time = deadline + chain
    refused(house, "G5-late", lambda: house.gate(margin_s=5).release(job.job_id, digest, now=deadline + ours))


def test_the_last_second_before_the_margin_is_not_late(house: House) -> None:
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    house.gate(margin_s=5).release(job.job_id, digest, now=int(BASE.job.terms.deadline) - 6)


def test_a_shallow_funding_is_waited_for(house: House) -> None:
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    house.view.confirmations = 2
    refused(house, "G5-final", lambda: house.gate(confirmations=3).release(job.job_id, digest, now=NOW))


def test_a_dear_job_waits_for_a_deeper_funding(house: House) -> None:
    """Final enough for the amount: the policy names the depth for the amount, and the deepest that applies counts."""
    price = int(BASE.job.terms.amount)
    steps = ((1, 2), (price, 6), (price + 1, 100))
    depths = tuple(Depth(amount=Uint256(amount), blocks=Count(blocks)) for amount, blocks in steps)
    policy = replace(BASE.policy, amounts=Amounts(depths=depths))
    job, digest = house.keep(BASE.job, policy), house.bundle(BASE.job)
    house.view.confirmations = 5
    refused(house, "G5-final", lambda: house.gate().release(job.job_id, digest, now=NOW))
    house.view.confirmations = 6
    house.gate().release(job.job_id, digest, now=NOW)


def test_the_cap_for_one_provider_is_kept_before_anything_is_archived(house: House) -> None:
    price = int(BASE.job.terms.amount)
    policy = replace(BASE.policy, amounts=Amounts(per_provider=Uint256(2 * price - 1)))
    first, second = house.keep(BASE.job, policy), house.keep(BASE.other_job, policy)
    house.gate().release(first.job_id, house.bundle(BASE.job), now=NOW)
    with pytest.raises(GateError) as caught:
        house.gate().release(second.job_id, house.bundle(BASE.other_job), now=NOW)
    assert caught.value.code == "G6-per-provider"
    assert len(house.intents()) == 1


def capped(per_day: int) -> Policy:
    return replace(BASE.policy, amounts=Amounts(per_day=Uint256(per_day)))


def test_the_cap_per_day_counts_every_release_of_the_day(house: House) -> None:
    price = int(BASE.job.terms.amount)
    policy = capped(2 * price - 1)
    first, second = house.keep(BASE.job, policy), house.keep(BASE.other_job, policy)
    gate = house.gate()
    signed = gate.release(first.job_id, house.bundle(BASE.job), now=NOW)
    digest = house.bundle(BASE.other_job)
    with pytest.raises(GateError) as caught:
        gate.release(second.job_id, digest, now=NOW)
    assert caught.value.code == "G6-per-day"
    assert len(house.signer.signatures) == 1
    assert gate.release(first.job_id, house.bundle(BASE.job), now=NOW) == signed, "what was signed is given again"


def test_two_gates_at_once_do_not_pass_the_cap_per_day_together(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race: both read the day's sum before either has reserved its release."""
    price = int(BASE.job.terms.amount)
    policy = capped(2 * price - 1)
    jobs = [(house.keep(bundle, policy), house.bundle(bundle)) for bundle in (BASE.job, BASE.other_job)]
    together = threading.Barrier(2)
    append = Archive.append

    def at_once(archive: Archive, *arguments: Any) -> int:
        together.wait(timeout=30)
        return append(archive, *arguments)

    monkeypatch.setattr(Archive, "append", at_once)
    codes: list[str] = []

    def sign(job: PayerJob, digest: Bytes32) -> None:
        try:
            house.gate().release(job.job_id, digest, now=NOW)
            codes.append("signed")
        except GateError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=sign, args=each) for each in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["G6-per-day", "signed"]
    assert len(house.signer.signatures) == 1


def test_two_gates_at_once_give_one_signature(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race for one job, with a key that would sign in two ways: both callers get the bytes that are kept."""
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    house.signer.salted = True
    together = threading.Barrier(2)
    sign = CountingSigner.sign_digest

    def at_once(signer: CountingSigner, digest: Bytes32) -> Signature:
        together.wait(timeout=30)
        return sign(signer, digest)

    monkeypatch.setattr(CountingSigner, "sign_digest", at_once)
    given: list[SignedRelease] = []
    threads = [
        threading.Thread(target=lambda: given.append(house.gate().release(job.job_id, digest, now=NOW)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 2
    assert given[0] == given[1]


class KilledError(BaseException):
    """The process ends here."""


STEPS = (
    (Archive, "append"),
    (Archive, "blob"),
    (Ledger, "job"),
    (Ledger, "keep_caps"),
    (Ledger, "reserve_release"),
    (Ledger, "store_release"),
    (CountingSigner, "sign_digest"),
    (SimulatedEscrowView, "funding"),
)


def killing(monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> list[int]:
    """Let the call number `at` to any part of the gate be the process's last, before or after it did its work."""
    calls = [0]

    def wrap(work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            number, calls[0] = calls[0], calls[0] + 1
            if number == at and not after:
                raise KilledError
            result = work(*arguments, **named)
            if number == at:
                raise KilledError
            return result

        return step

    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))
    return calls


def test_killed_between_any_two_steps_it_never_signs_what_is_not_archived_and_never_two_things(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call to archive, ledger, chain and key is the last one once, before and after its work; then again."""
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    at, kills = 0, 0
    while True:
        killed = False
        for after in (False, True):
            with monkeypatch.context() as patch:
                killing(patch, at, after=after)
                try:
                    house.gate().release(job.job_id, digest, now=NOW)
                except KilledError:
                    killed = True
                    kills += 1
            if house.signer.signatures:
                archived = house.intents()
                assert archived, "a signature without archived evidence"
                assert all(house.archive.blob(blob) for blob in archived[0].values())
            assert len(set(house.signer.signatures)) <= 1
        if not killed:
            break
        at += 1
    assert kills > 20
    signed = house.gate().release(job.job_id, digest, now=NOW)
    assert {signed.signature} == set(house.signer.signatures)
    entry = house.intents()[-1]
    assert house.archive.blob(entry["bundle"]) == canonical.encode(BASE.job)


@pytest.mark.parametrize("name", ["append", "reserve_release", "sign_digest", "store_release"])
def test_a_part_that_fails_leaves_no_second_way(house: House, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A disk that is full at any step: nothing leaves, and the next try gives the one signature."""
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    owner = next(owner for owner, step in STEPS if step == name)

    def full(*_: object, **__: object) -> None:
        raise GateError("G-ledger", "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(GateError):
            house.gate().release(job.job_id, digest, now=NOW)
    signed = house.gate().release(job.job_id, digest, now=NOW)
    assert signed_by(PAYER.address, signed.release.digest(BASE.job.domain), signed.signature)


@pytest.mark.parametrize("missing", ["payer_signature", "acceptance"])
def test_terms_without_a_signature_are_not_evidence(house: House, missing: str) -> None:
    """What is archived before a signature leaves holds the payer's and the provider's word for these terms."""
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    changed = replace(job, job_id=job.job_id, terms=replace(job.terms, **{missing: None}))
    house.ledger.close()
    house.ledger = Ledger(house.folder / "other.sqlite")
    house.ledger.add(changed)
    refused(house, "G7-terms", lambda: house.gate().release(job.job_id, digest, now=NOW))


def test_a_damaged_blob_of_the_evidence_withholds_the_signature(house: House) -> None:
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    for blob in (job.evidence.policy, job.evidence.manifest, job.evidence.code, *job.evidence.records, digest):
        path = house.folder / "archive" / "blobs" / blob.hex()[:2] / str(blob)
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        refused(house, "A-blob-damaged", lambda: house.gate().release(job.job_id, digest, now=NOW), AuditError)
        path.write_bytes(good)
    house.gate().release(job.job_id, digest, now=NOW)


def test_a_release_taken_for_other_instances_is_not_taken_again(house: House) -> None:
    job, digest = house.keep(BASE.job), house.bundle(BASE.job)
    house.ledger.reserve_release(job.job_id, Bytes32(b"\x01" * 32), now=NOW)
    refused(house, "G-signed", lambda: house.gate().release(job.job_id, digest, now=NOW))


def test_the_stranger_key_is_not_the_payers() -> None:
    """Held so that no fixture above could pass with any key."""
    assert STRANGER.address != PAYER.address == BASE.job.terms.payer
