"""The provider's HTTP against strangers: quotes, uploads, acceptances, junk, releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.http import serving
from tests.workers.shop import COMMITMENT, INPUTS, PAYEE, PRICE, make_shop, toy_manifest
from verifier.errors import CircuitError, ServiceError
from verifier.evm import signed_by
from verifier.payer.inputs import encode_tensors
from verifier.statement import canonical
from verifier.statement.scalars import Address, Bytes32, Count, TensorInt, Timestamp, Uint256, WalletSignature
from verifier.statement.terms import Acceptance, SignedQuote, SignedRelease, SignedTerms
from workers import jobs
from workers.api import RateLimit
from workers.jobs import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.workers.shop import Shop
    from workers.jobs import Job

CIRCUIT = toy_manifest().circuit_id


@pytest.fixture
def client(shop: Shop) -> Iterator[httpx.Client]:
    with serving(shop.service()) as made:
        yield made


def quote(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/quotes", content=canonical.encode({"circuit_id": CIRCUIT}))


def upload(client: httpx.Client) -> httpx.Response:
    return client.put(f"/v1/inputs/{COMMITMENT}?circuit_id={CIRCUIT}", content=encode_tensors(INPUTS))


def code(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    value: dict[str, Any] = answer.json()
    assert value["status"] == answer.status_code
    assert value["title"]
    return str(value["code"])


def test_a_quote_is_signed_and_the_same_for_a_while(client: httpx.Client, shop: Shop) -> None:
    """The trap: a new row for each question lets a stranger fill the database."""
    first = quote(client)
    signed = canonical.decode(SignedQuote, first.content, where="quote")
    assert signed_by(shop.key.address, signed.quote.digest(signed.domain), signed.signature)
    assert (signed.quote.amount, signed.quote.payee) == (PRICE, PAYEE)
    assert quote(client).content == first.content
    shop.pass_time(shop.settings.quote_seconds // 2 + 1)
    assert quote(client).content != first.content


def test_what_is_not_here_deployed_or_checkable_is_not_quoted(shop: Shop, tmp_path: Path) -> None:
    with serving(shop.service()) as client:
        other = canonical.encode({"circuit_id": Bytes32(b"\x01" * 32)})
        assert code(client.post("/v1/quotes", content=other)) == "W-circuit-unknown"
    shop.escrow.deployed = False
    with serving(shop.service()) as client:
        assert code(quote(client)) == "W-circuit-deployed"
    shop.escrow.deployed, shop.escrow.verifier_good = True, False
    with serving(shop.service()) as client:
        assert code(quote(client)) == "W-circuit-verifier"
    unpriced = make_shop(tmp_path / "unpriced", price=None)
    with serving(unpriced.service()) as client:
        assert code(quote(client)) == "W-circuit-price"
    unpriced.store.close()


def test_a_job_is_accepted_once_and_the_same_terms_give_the_same_answer(client: httpx.Client, shop: Shop) -> None:
    quote(client)
    assert upload(client).status_code == 200
    terms = shop.terms()
    first = client.post("/v1/accept", content=shop.signed(terms))
    assert first.status_code == 200
    signed = canonical.decode(SignedTerms, first.content, where="accept")
    job_id = terms.job_id(shop.escrow.domain)
    assert signed.acceptance is not None
    assert signed_by(shop.key.address, Acceptance(job_id=job_id).digest(shop.escrow.domain), signed.acceptance)
    shop.pass_time(100)
    assert client.post("/v1/accept", content=shop.signed(terms)).content == first.content
    assert shop.witness.runs == 1
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "accepted"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"amount": Uint256(1)}, "W-terms-quote"),
        ({"payee": Address(b"\x01" * 20)}, "W-terms-payee"),
        ({"provider": Address(b"\x01" * 20)}, "W-terms-provider"),
        ({"token": Address(b"\x01" * 20)}, "W-terms-token"),
        ({"circuit_id": Bytes32(b"\x01" * 32)}, "W-circuit-unknown"),
        ({"input_commitment": Bytes32(b"\x01" * 32)}, "W-input-missing"),
        ({"fund_by": Timestamp(1)}, "W-terms-fund-by"),
        ({"fund_by": Timestamp(1_900_000_000)}, "W-terms-fund-by"),
        ({"deadline": Timestamp(1_800_000_061)}, "W-terms-deadline"),
        ({"deadline": Timestamp(1_900_000_000)}, "W-terms-deadline"),
    ],
)
def test_terms_that_differ_in_one_field_are_refused(
    client: httpx.Client, shop: Shop, changes: dict[str, object], expected: str
) -> None:
    quote(client)
    upload(client)
    answer = client.post("/v1/accept", content=shop.signed(shop.terms(**changes)))
    assert code(answer) == expected
    assert shop.store.counts() == {}


def test_a_rule_that_differs_in_one_field_is_refused(client: httpx.Client, shop: Shop) -> None:
    """The trap: gas_cap too low, or a verifier of the payer's own, and no proof would ever be paid."""
    quote(client)
    upload(client)
    good = shop.terms().rule
    for name in good.__struct_fields__:
        value = getattr(good, name)
        other = Count(value + 1) if isinstance(value, Count) else type(value)(b"\x02" * len(value))
        rule = type(good)(**{field: getattr(good, field) for field in good.__struct_fields__} | {name: other})
        assert code(client.post("/v1/accept", content=shop.signed(shop.terms(rule=rule)))) == "W-terms-rule"


def test_an_input_that_has_no_witness_is_refused_before_it_is_funded(client: httpx.Client, shop: Shop) -> None:
    quote(client)
    upload(client)
    shop.witness.refuse = CircuitError("C-lookup", "the input leads outside the circuit's tables")
    assert code(client.post("/v1/accept", content=shop.signed(shop.terms()))) == "C-lookup"
    assert shop.store.counts() == {}


def test_nothing_is_accepted_while_the_escrow_cannot_be_seen(client: httpx.Client, shop: Shop) -> None:
    quote(client)
    upload(client)
    shop.escrow.down = True
    answer = client.post("/v1/accept", content=shop.signed(shop.terms()))
    assert (answer.status_code, code(answer)) == (503, "E-rpc-unreachable")


def test_an_upload_must_be_the_committed_input_of_the_right_shape(client: httpx.Client) -> None:
    def put(value: object) -> str:
        raw = canonical.encode(value)
        return code(client.put(f"/v1/inputs/{COMMITMENT}?circuit_id={CIRCUIT}", content=raw))

    assert put([[TensorInt(3), TensorInt(4)]]) == "W-input-commitment"
    assert put([[TensorInt(3)]]) == "W-input-shape"
    assert put([[TensorInt(3), TensorInt(2**31)]]) == "W-input-bound"
    assert put([["3", "03"]]) == "V0-schema"
    assert put([]) == "W-input-shape"


def test_a_body_above_its_cap_is_cut_off(client: httpx.Client, shop: Shop) -> None:
    """The trap: the length is declared falsely or not at all, and the service reads on."""
    large = b"x" * (shop.settings.max_input_bytes + 1)
    path = f"/v1/inputs/{COMMITMENT}?circuit_id={CIRCUIT}"
    assert code(client.put(path, content=large)) == "W-body-size"
    answer = client.put(path, content=(large[i : i + 4096] for i in range(0, len(large), 4096)))
    assert (answer.status_code, code(answer)) == (413, "W-body-size")


def test_junk_in_every_place_is_a_refusal_with_a_code(client: httpx.Client) -> None:
    job = Bytes32(b"\x01" * 32)
    for answer in (
        client.post("/v1/quotes", content=b"{"),
        client.post("/v1/quotes", content=b'{"circuit_id":1}'),
        client.post("/v1/accept", content=b"\xff"),
        client.post("/v1/accept", content=b"[" * 1000),
        client.put("/v1/inputs/0x12", content=b""),
        client.get("/v1/jobs/x"),
        client.get(f"/v1/jobs/{job}"),
        client.get(f"/v1/bundles/{job}"),
        client.post(f"/v1/bundles/{job}", content=b"junk"),
        client.post(f"/v1/jobs/{job}/release", content=b"junk"),
        client.get("/v2/none"),
        client.delete("/v1/quotes"),
    ):
        assert 400 <= answer.status_code < 500
        assert code(answer)


def test_junk_in_the_inbox_settles_nothing_and_the_honest_bundle_is_taken(client: httpx.Client, shop: Shop) -> None:
    """The trap: a stranger's junk becomes the job's bundle, or uses up its one place."""
    job, other = shop.queued(), shop.queued()
    path = f"/v1/bundles/{job.job_id}"
    forged = shop.bundle(job).replace(b'"outputs":[["7"', b'"outputs":[["8"')
    assert code(client.post(path, content=b"junk")) == "V0-json"
    assert code(client.post(path, content=forged)) == "V3-delivery"
    assert code(client.post(path, content=shop.bundle(other))) == "W-bundle-job"
    assert code(client.get(path)) == "W-bundle-pending"
    assert shop.now(job) == job
    honest = shop.bundle(job)
    assert client.post(path, content=honest).json()["state"] == "proved"
    assert client.get(path).content == honest
    assert client.post(path, content=honest).status_code == 200
    assert code(client.post(path, content=shop.bundle(job, output=9))) == "W-bundle-exists"
    assert client.get(path).content == honest


def test_a_bundle_for_an_unfunded_job_is_not_taken(client: httpx.Client, shop: Shop) -> None:
    job = shop.accepted()
    assert code(client.post(f"/v1/bundles/{job.job_id}", content=shop.bundle(job))) == "W-job-state"


def _proved(client: httpx.Client, shop: Shop) -> Job:
    job = shop.queued()
    client.post(f"/v1/bundles/{job.job_id}", content=shop.bundle(job))
    return job


def test_a_release_counts_only_from_the_payer_and_for_these_instances(client: httpx.Client, shop: Shop) -> None:
    job = _proved(client, shop)
    path = f"/v1/jobs/{job.job_id}/release"
    good = shop.release(job)
    stranger = type(good)(release=good.release, signature=shop.key.sign_digest(good.release.digest(job.domain)))
    others = type(good.release)(job_id=job.job_id, instances_hash=Bytes32(b"\x01" * 32))
    foreign = type(good)(release=others, signature=shop.payer.sign_digest(others.digest(job.domain)))
    assert code(client.post(path, content=canonical.encode(stranger))) == "W-release-signature"
    assert code(client.post(path, content=canonical.encode(foreign))) == "W-release-instances"
    for _ in range(2):
        assert client.post(path, content=canonical.encode(good)).json()["release"] is True
    shop.sweeper().sweep()
    assert shop.escrow.calls == ["fund", "release"]


@pytest.mark.parametrize("signature", [b"", b"\x5a" * 65, b"\x5a" * 2048], ids=len)
def test_a_wallet_contracts_release_counts_where_the_chain_says_so(
    client: httpx.Client, shop: Shop, signature: bytes
) -> None:
    """ERC-1271: a Safe's or a passkey's signature has any length; what another contract says counts for nothing."""
    job = _proved(client, shop)
    path = f"/v1/jobs/{job.job_id}/release"
    given = canonical.encode(SignedRelease(release=shop.release(job).release, signature=WalletSignature(signature)))
    shop.escrow.wallets = {PAYEE: signature}
    assert code(client.post(path, content=given)) == "W-release-signature"
    shop.escrow.wallets = {job.terms.payer: signature}
    shop.escrow.down = True
    answer = client.post(path, content=given)
    assert (answer.status_code, code(answer)) == (503, "E-rpc-unreachable"), "a silent node decides nothing"
    shop.escrow.down = False
    assert client.post(path, content=given).json()["release"] is True
    shop.sweeper().sweep()
    assert shop.escrow.calls == ["fund", "release"]
    kept = shop.now(job).release
    assert kept is not None
    assert bytes(kept.signature) == signature


def test_a_release_after_the_close_changes_nothing(client: httpx.Client, shop: Shop) -> None:
    job = _proved(client, shop)
    shop.escrow.release_by_proof(job.terms, b"")
    shop.sweeper().sweep()
    answer = client.post(f"/v1/jobs/{job.job_id}/release", content=canonical.encode(shop.release(job)))
    assert answer.json()["state"] == "closed_by_proof"


def test_a_client_has_so_many_requests_a_minute() -> None:
    time = [0.0]
    limit = RateLimit(2, clock=lambda: time[0])
    limit.take("a")
    limit.take("a")
    with pytest.raises(ServiceError, match="W-rate"):
        limit.take("a")
    limit.take("b")
    time[0] = 30.0
    limit.take("a")


def test_an_internal_failure_shows_nothing_and_is_no_refusal(client: httpx.Client, shop: Shop) -> None:
    shop.witness.refuse = RuntimeError("secret")
    quote(client)
    upload(client)
    answer = client.post("/v1/accept", content=shop.signed(shop.terms()))
    assert (answer.status_code, code(answer)) == (503, "W-internal")
    assert "secret" not in answer.text


def test_circuits_and_health_are_told(client: httpx.Client, shop: Shop) -> None:
    told = client.get("/v1/circuits").json()
    assert [each["circuit_id"] for each in told["circuits"]] == [str(CIRCUIT)]
    assert told["payee"] == str(PAYEE)
    assert client.get("/v1/health").status_code == 503
    shop.store.mark("canary", now=shop.time)
    shop.sweeper().sweep()
    assert client.get("/v1/health").json()["ok"] is True


def test_a_given_up_job_is_told_with_its_reason(client: httpx.Client, shop: Shop) -> None:
    job = shop.queued()
    shop.store.change(job.job_id, lambda row: jobs.give_up(row, "W-declined", now=shop.time))
    shop.sweeper().sweep()
    shop.sweeper().sweep()
    told = client.get(f"/v1/jobs/{job.job_id}").json()
    assert (told["state"], told["failure"]) == (JobState.DECLINED.value, "W-declined")
