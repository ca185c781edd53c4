"""The payer's HTTP client against a provider that answers with whatever could hurt: every end is an error of ours."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from verifier.errors import OpgateError, ServiceError, UndecidedError
from verifier.payer.provider import Provider
from verifier.statement.scalars import Bytes32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = Bytes32(b"\x0b" * 32)
ESCAPES = "\x1b[2K\x1b]0;paid\x07\r\nVALID \u202e\x9b31m"


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Provider:
    """A client whose provider is a function; its answers come in a stream, as from a network."""

    def streamed(request: httpx.Request) -> httpx.Response:
        given = answer(request)
        if not given.is_stream_consumed:
            return given
        return httpx.Response(given.status_code, headers=given.headers, stream=httpx.ByteStream(given.content))

    provider = Provider("http://provider.test")
    provider._http.close()
    provider._http = httpx.Client(base_url=provider.url, transport=httpx.MockTransport(streamed))
    return provider


def refusal(response: httpx.Response) -> OpgateError:
    with answering(lambda _: response) as provider, pytest.raises(OpgateError) as caught:
        provider.job(JOB)
    return caught.value


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000], ids=range(5))
def test_an_answer_that_is_no_json_is_undecided(body: bytes) -> None:
    """Found by reading: a junk answer to one poll ended the wait for a job that was funded, as an internal error."""
    error = refusal(httpx.Response(200, content=body))
    assert isinstance(error, UndecidedError)
    assert error.code == "W-answer"


def test_words_from_a_provider_cannot_steer_the_terminal() -> None:
    fields = dict.fromkeys(("message", "expected", "found", "do"), ESCAPES)
    for response in (
        httpx.Response(422, json=fields | {"code": ESCAPES}),
        httpx.Response(422, json={"detail": ESCAPES, "code": "W-rate\n"}),
        httpx.Response(422, content=ESCAPES.encode()),
        httpx.Response(422, content=ESCAPES.encode("latin-1", "replace")),
    ):
        error = refusal(response)
        assert str(error).isprintable()
        assert error.code == "W-http-422"


def test_a_code_of_the_provider_is_kept_where_it_is_formed_as_one() -> None:
    error = refusal(httpx.Response(404, json={"code": "W-job-unknown", "message": "no such job"}))
    assert isinstance(error, ServiceError)
    assert (error.code, error.message) == ("W-job-unknown", "no such job")


@pytest.mark.parametrize("status", [500, 503, 599])
def test_a_failing_provider_is_undecided_and_not_a_refusal(status: int) -> None:
    assert isinstance(refusal(httpx.Response(status, content=b"")), UndecidedError)


@pytest.mark.parametrize("status", [301, 302, 307, 401, 404])
def test_a_redirect_is_not_followed(status: int) -> None:
    error = refusal(httpx.Response(status, headers={"location": "http://127.0.0.1:1/"}))
    assert error.code == f"W-http-{status}"


def test_a_compressed_answer_is_not_unpacked() -> None:
    """The bomb: ten thousand bytes that become gigabytes before the size is counted."""
    bomb = gzip.compress(gzip.compress(b"0" * 10_000_000))
    response = httpx.Response(200, stream=httpx.ByteStream(bomb), headers={"content-encoding": "gzip, gzip"})
    error = refusal(response)
    assert isinstance(error, UndecidedError)
    assert error.code == "W-answer"


def test_compression_is_not_asked_for() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["accept-encoding"])
        return httpx.Response(200, content=b"{}")

    with answering(answer) as provider:
        provider.job(JOB)
    assert seen == ["identity"]


def test_an_endless_answer_is_cut_off() -> None:
    taken = [0]

    def endless() -> Iterator[bytes]:
        while True:
            taken[0] += 1
            yield b" " * 65_536

    error = refusal(httpx.Response(200, content=endless()))
    assert error.code == "W-answer"
    assert taken[0] < 20


def test_a_dripping_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte a minute keeps every single read within its time, and the buyer waiting past the deadline."""
    now = [0.0]
    monkeypatch.setattr("verifier.payer.provider.time.monotonic", lambda: now[0])

    def dripping() -> Iterator[bytes]:
        while True:
            now[0] += 59
            yield b" "

    assert refusal(httpx.Response(200, content=dripping())).code == "W-answer"


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("junk"),
        httpx.DecodingError("junk"),
        httpx.TooManyRedirects("loop"),
        httpx.UnsupportedProtocol("gopher"),
        httpx.InvalidURL("junk"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_failure_of_the_connection_is_undecided(failure: Exception) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise failure

    with answering(answer) as provider, pytest.raises(UndecidedError) as caught:
        provider.bundle(JOB)
    assert caught.value.code == "W-unreachable"


@pytest.mark.parametrize("value", [[], "text", 7, None, {"state": {"a": []}}])
def test_a_job_is_an_object_or_nothing(value: object) -> None:
    with answering(lambda _: httpx.Response(200, content=json.dumps(value).encode())) as provider:
        assert provider.job(JOB) == (value if isinstance(value, dict) else {})
