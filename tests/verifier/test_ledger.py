"""The payer's ledger: what is written once stays, caps hold between processes, a broken file is an error of ours."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from tests.vectors.cases import read_base
from tests.vectors.keys import PAYER, PROVIDER, STRANGER
from verifier.errors import GateError
from verifier.payer.inputs import encode_tensors
from verifier.payment.ledger import Evidence, Ledger, PayerJob
from verifier.policy import Amounts
from verifier.statement.scalars import Address, Bytes32, Uint256
from verifier.statement.terms import Acceptance, Release, SignedRelease, SignedTerms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.statement.scalars import Signature

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
NOW = 1_800_000_000
DIGEST = Bytes32(b"\x0d" * 32)
OTHER = Bytes32(b"\x0e" * 32)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "payer" / "ledger.sqlite")
    yield opened
    opened.close()


def job(number: int = 0, *, at: int = NOW, amount: int = 100, provider: Address = PROVIDER.address) -> PayerJob:
    """A job as it is drafted: nobody has signed."""
    salt = Bytes32(number.to_bytes(32))
    terms = replace(BASE.job.terms, salt=salt, amount=Uint256(amount), provider=provider)
    return PayerJob(
        job_id=terms.job_id(BASE.job.domain),
        created_at=at,
        provider_url="http://provider.test",
        terms=SignedTerms(domain=BASE.job.domain, terms=terms),
        inputs=encode_tensors(BASE.job.inputs or ()),
        evidence=Evidence(policy=DIGEST, manifest=DIGEST, code=DIGEST, records=(DIGEST,), terms_verdict=DIGEST),
    )


def signature(draft: PayerJob) -> Signature:
    return PAYER.sign_digest(draft.job_id)


def acceptance(draft: PayerJob) -> Signature:
    return PROVIDER.sign_digest(Acceptance(job_id=draft.job_id).digest(draft.terms.domain))


def release(draft: PayerJob, instances: Bytes32 = DIGEST) -> SignedRelease:
    message = Release(job_id=draft.job_id, instances_hash=instances)
    return SignedRelease(release=message, signature=PAYER.sign_digest(message.digest(draft.terms.domain)))


def code(caught: pytest.ExceptionInfo[GateError]) -> str:
    return caught.value.code


def test_a_job_comes_back_as_it_was_written(ledger: Ledger) -> None:
    draft = job()
    ledger.add(draft)
    ledger.add(draft)
    assert ledger.job(draft.job_id) == draft
    assert ledger.jobs() == [draft]


def test_another_job_under_the_same_id_is_refused(ledger: Ledger) -> None:
    draft = job()
    ledger.add(draft)
    with pytest.raises(GateError) as caught:
        ledger.add(replace(draft, inputs=b"[]"))
    assert code(caught) == "G-job-differs"


def test_signatures_of_terms_are_added_and_never_lost(ledger: Ledger) -> None:
    """The lost update: `accept` read the row before `fund` wrote its signature, and wrote the row back without it."""
    draft = job()
    ledger.add(draft)
    ledger.sign_terms(
        draft.job_id, replace(draft.terms, acceptance=acceptance(draft), payer_signature=signature(draft))
    )
    ledger.sign_terms(draft.job_id, replace(draft.terms, acceptance=acceptance(draft)))
    ledger.sign_terms(draft.job_id, draft.terms)
    kept = ledger.job(draft.job_id).terms
    assert (kept.acceptance, kept.payer_signature) == (acceptance(draft), signature(draft))


def test_the_first_signature_stays(ledger: Ledger) -> None:
    draft = job()
    ledger.add(draft)
    ledger.sign_terms(draft.job_id, replace(draft.terms, acceptance=acceptance(draft)))
    ledger.sign_terms(draft.job_id, replace(draft.terms, acceptance=STRANGER.sign_digest(draft.job_id)))
    assert ledger.job(draft.job_id).terms.acceptance == acceptance(draft)


def test_terms_and_domain_never_change(ledger: Ledger) -> None:
    draft, other = job(), job(1)
    ledger.add(draft)
    elsewhere = replace(draft.terms, domain=replace(draft.terms.domain, verifying_contract=PAYER.address))
    for terms in (other.terms, elsewhere):
        with pytest.raises(GateError) as caught:
            ledger.sign_terms(draft.job_id, terms)
        assert code(caught) == "G-job-differs"
    with pytest.raises(GateError) as caught:
        ledger.sign_terms(other.job_id, other.terms)
    assert code(caught) == "G-job-unknown"


def signed(ledger: Ledger, draft: PayerJob, per_day: int | None, *, per_provider: int | None = None) -> None:
    caps = Amounts(
        per_day=None if per_day is None else Uint256(per_day),
        per_provider=None if per_provider is None else Uint256(per_provider),
    )
    ledger.sign_terms(draft.job_id, replace(draft.terms, payer_signature=signature(draft)), caps=caps)


def test_the_cap_per_day_holds_before_money_is_locked(ledger: Ledger) -> None:
    """What is funded is paid by a proof, whatever the gate says afterwards: the cap must speak before the signature."""
    drafts = [job(number) for number in range(3)]
    for draft in drafts:
        ledger.add(draft)
    signed(ledger, drafts[0], 250)
    signed(ledger, drafts[1], 250)
    with pytest.raises(GateError) as caught:
        signed(ledger, drafts[2], 250)
    assert code(caught) == "G6-per-day"
    assert ledger.job(drafts[2].job_id).terms.payer_signature is None
    signed(ledger, drafts[1], 0)  # signed already: the same again asks for nothing more
    ledger.set_closed(drafts[0].job_id, "reclaim")
    signed(ledger, drafts[2], 250)


def test_the_cap_for_one_provider_leaves_the_others_alone(ledger: Ledger) -> None:
    """The trap: one provider with many circuits and quotes takes all that the day's cap allows."""
    drafts = [job(number) for number in range(3)]
    other = job(3, provider=STRANGER.address)
    for draft in (*drafts, other):
        ledger.add(draft)
    for draft in drafts[:2]:
        signed(ledger, draft, 1000, per_provider=250)
    with pytest.raises(GateError) as caught:
        signed(ledger, drafts[2], 1000, per_provider=250)
    assert code(caught) == "G6-per-provider"
    signed(ledger, other, 1000, per_provider=250)
    for draft in drafts[:2]:
        ledger.reserve_release(draft.job_id, DIGEST, now=NOW)
    caps = Amounts(per_provider=Uint256(250))
    for act in (ledger.keep_caps, partial(ledger.reserve_release, instances_hash=DIGEST)):
        with pytest.raises(GateError) as caught:
            act(drafts[2].job_id, now=NOW, caps=caps)
        assert code(caught) == "G6-per-provider"
        act(other.job_id, now=NOW, caps=caps)


def test_the_cap_per_job_is_kept_where_terms_are_signed(ledger: Ledger) -> None:
    """The trap: a policy that became stricter after the terms were judged."""
    draft = job()
    ledger.add(draft)
    with pytest.raises(GateError) as caught:
        ledger.sign_terms(
            draft.job_id,
            replace(draft.terms, payer_signature=signature(draft)),
            caps=Amounts(per_job=Uint256(99)),
        )
    assert code(caught) == "G6-per-job"


def test_the_cap_forgets_what_is_a_day_old(ledger: Ledger) -> None:
    old, new = job(0, at=NOW - 86_401), job(1)
    ledger.add(old)
    ledger.add(new)
    signed(ledger, old, 100)
    signed(ledger, new, 100)


def test_two_processes_do_not_sign_past_the_cap_together(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    drafts = [job(number) for number in range(6)]
    first = Ledger(path)
    for draft in drafts:
        first.add(draft)
    together, codes = threading.Barrier(len(drafts)), []

    def sign(draft: PayerJob) -> None:
        own = Ledger(path)
        together.wait(timeout=30)
        try:
            signed(own, draft, 300)
            codes.append("signed")
        except GateError as error:
            codes.append(error.code)
        own.close()

    threads = [threading.Thread(target=sign, args=(draft,)) for draft in drafts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    assert sorted(codes) == ["G6-per-day"] * 3 + ["signed"] * 3


def test_a_bundle_is_replaced_only_before_a_release(ledger: Ledger) -> None:
    """A second VALID bundle after the release was taken must not stand where the signed one is looked for."""
    draft = job()
    ledger.add(draft)
    ledger.set_bundle(draft.job_id, DIGEST)
    ledger.set_bundle(draft.job_id, OTHER)
    assert ledger.job(draft.job_id).bundle == OTHER
    ledger.reserve_release(draft.job_id, DIGEST, now=NOW)
    ledger.set_bundle(draft.job_id, DIGEST)
    assert ledger.job(draft.job_id).bundle == OTHER


def test_one_release_for_ever(ledger: Ledger) -> None:
    draft = job()
    ledger.add(draft)
    assert ledger.reserve_release(draft.job_id, DIGEST, now=NOW) is None
    assert ledger.reserve_release(draft.job_id, DIGEST, now=NOW) is None, "a crash before the signature"
    with pytest.raises(GateError) as caught:
        ledger.reserve_release(draft.job_id, OTHER, now=NOW)
    assert code(caught) == "G-signed"
    kept = ledger.store_release(draft.job_id, release(draft))
    again = SignedRelease(release=kept.release, signature=PAYER.sign_digest(OTHER))
    assert ledger.store_release(draft.job_id, again) == kept
    assert ledger.reserve_release(draft.job_id, DIGEST, now=NOW) == kept


def test_a_release_that_was_not_reserved_is_not_kept(ledger: Ledger) -> None:
    draft = job()
    ledger.add(draft)
    with pytest.raises(GateError) as caught:
        ledger.store_release(draft.job_id, release(draft))
    assert code(caught) == "G-signed"


def test_a_release_of_an_unknown_job_is_refused(ledger: Ledger) -> None:
    with pytest.raises(GateError) as caught:
        ledger.reserve_release(DIGEST, DIGEST, now=NOW)
    assert code(caught) == "G-job-unknown"


def test_a_file_that_is_no_database_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database, and long enough to be told apart from one" * 20)
    with pytest.raises(GateError) as caught:
        Ledger(path)
    assert code(caught) == "G-ledger"


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "payer").write_bytes(b"a file where the folder should be")
    with pytest.raises(GateError) as caught:
        Ledger(tmp_path / "payer" / "ledger.sqlite")
    assert code(caught) == "G-ledger"


@pytest.mark.parametrize(
    ("column", "value"), [("evidence", b"{"), ("evidence", b"{}"), ("terms", b"\xff"), ("bundle", "0x12"), ("terms", 7)]
)
def test_a_damaged_row_is_an_error_of_ours(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    draft = job()
    ledger.add(draft)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"update payer_jobs set {column} = ?", (value,))  # noqa: S608 - the names are above
    with pytest.raises(GateError) as caught:
        ledger.job(draft.job_id)
    assert code(caught) == "G-ledger-row"
    ledger.close()


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    """It holds inputs and signatures."""
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    assert path.stat().st_mode & 0o077 == 0
