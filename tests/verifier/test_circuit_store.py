"""Circuits from a web server: the same verdict as from a folder, and no answer of a server that does harm."""

from __future__ import annotations

import http.server
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.vectors.cases import read_base
from verifier import remote_circuits
from verifier.circuit_store import CircuitStore
from verifier.cli.root import run
from verifier.errors import OpgateError, UndecidedError, UsageError
from verifier.judge import Judge

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE = read_base(ROOT / "base")
CIRCUITS = ROOT / "base" / "circuits"
pytestmark = pytest.mark.enable_socket


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A plain server of files, as `python -m http.server` is one; `odd` says what to answer instead."""

    odd: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1] or "records/"
        if name not in self.odd:
            super().do_GET()
            return
        self.wfile.write(self.odd[name])
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Quiet, "odd", {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(CIRCUITS))) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


def test_the_verdict_is_that_of_the_folder(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Judge(server, BASE.policy) as there, Judge(CIRCUITS, BASE.policy) as here:
        for bundle in (BASE.job, BASE.other_circuit, BASE.job):
            verdict = there.judge_bundle(bundle).verdict
            assert verdict == here.judge_bundle(bundle).verdict
            assert verdict.assurance == "rebuilt"
    words = ["verify", str(ROOT / "base/bundles/job.json"), "--circuits", f"{server}/"]
    assert run([*words, "--policy", str(ROOT / "base/policy.json")]) == 0
    assert "VALID" in capsys.readouterr().out


def answer(body: bytes, head: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"Connection: close\r\n\r\n" + body


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # http.client leaves a junk answer open
@pytest.mark.parametrize(
    ("odd", "code"),
    [
        ({"manifest.json": b"HTTP/1.1 404 Not Found\r\n\r\n"}, "V1-circuit-missing"),
        ({"manifest.json": b"HTTP/1.1 500 No\r\n\r\n"}, "V1-circuit-unreachable"),
        ({"manifest.json": b"HTTP/1.1 302 Go\r\nLocation: file:///etc/passwd\r\n\r\n"}, "V1-circuit-unreachable"),
        ({"manifest.json": b"junk\r\n\r\n"}, "V1-circuit-unreachable"),
        ({"manifest.json": b""}, "V1-circuit-unreachable"),
        ({"manifest.json": answer(b"short", b"Content-Length: 500\r\n")}, "V0-json"),
        ({"manifest.json": answer(b"zz", b"Transfer-Encoding: chunked\r\n")}, "V1-circuit-unreachable"),
        ({"verifier.bin": answer(b"\0" * ((1 << 20) + 1))}, "V1-circuit-unreachable"),
        ({"manifest.json": answer(b"[" * 1000)}, "V0-depth"),
    ],
)
def test_no_answer_of_a_server_is_more_than_a_refusal(server: str, odd: dict[str, bytes], code: str) -> None:
    """Never INVALID: what a server says is nothing about the bundle."""
    Quiet.odd.update(odd)
    with CircuitStore(server) as store, pytest.raises(OpgateError) as caught:
        store.find(BASE.circuit.circuit_id)
    assert caught.value.code == code
    with Judge(server, BASE.policy) as judge:
        assert judge.judge_bundle(BASE.job).verdict.outcome == "UNDECIDED"


def test_another_circuit_or_code_under_that_id_is_refused(server: str) -> None:
    Quiet.odd["verifier.bin"] = answer(bytes.fromhex("600160005260206000f3"))
    with Judge(server, BASE.policy) as judge:
        assert judge.judge_bundle(BASE.job).verdict.code == "V1-code-hash"
    other = CIRCUITS / str(BASE.other_circuit.circuit_id) / "manifest.json"
    Quiet.odd["manifest.json"] = answer(other.read_bytes())
    with Judge(server, BASE.policy) as judge:
        assert judge.judge_bundle(BASE.job).verdict.code == "V1-circuit-id"


@pytest.mark.parametrize(
    "listing",
    [b"", b"../../../etc/passwd-0000000000000000.json/..", b"\xff" * 1000, b'["cost-../aaaaaaaaaaaaaaaa.json"]'],
)
def test_a_listing_can_only_leave_records_out(server: str, listing: bytes) -> None:
    Quiet.odd["records/"] = answer(listing)
    with Judge(server, BASE.policy) as judge:
        assert judge.judge_bundle(BASE.job).verdict.code == "V1-assurance"


def test_a_dripping_server_is_cut_off(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each single read keeps its time, and the whole would take years."""
    monkeypatch.setattr(remote_circuits, "_WHOLE_ANSWER_S", -1.0)
    with CircuitStore(server) as store, pytest.raises(UndecidedError, match="V1-circuit-unreachable"):
        store.find(BASE.circuit.circuit_id)


@pytest.mark.parametrize("url", ["http://", "http:///x", "http://[", "http://a:b/", "http://h:99999/", "http://a\x1b/"])
def test_what_is_no_url_is_a_usage_error(url: str) -> None:
    with CircuitStore(url) as store, pytest.raises(UsageError, match="U-circuits"):
        store.find(BASE.circuit.circuit_id)


@pytest.mark.parametrize("circuits", ["nowhere", "ftp://host/x", "file:///etc"])
def test_neither_folder_nor_url(circuits: str) -> None:
    words = ["verify", str(ROOT / "base/bundles/job.json"), "--circuits", circuits]
    assert run([*words, "--policy", str(ROOT / "base/policy.json")]) == 2


def test_no_server_there_is_undecided() -> None:
    with Judge("http://127.0.0.1:1", BASE.policy) as judge:
        verdict = judge.judge_bundle(BASE.job).verdict
    assert (verdict.outcome, verdict.code) == ("UNDECIDED", "V1-circuit-unreachable")
