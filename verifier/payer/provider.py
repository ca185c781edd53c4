"""The provider's HTTP service as its payer uses it. Whatever comes back is a claim: the callers check it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Self

import httpx

from verifier.bundles import MAX_BUNDLE_BYTES
from verifier.errors import ServiceError, UndecidedError, VerifierError
from verifier.payer.inputs import Tensors, encode_tensors
from verifier.statement import canonical
from verifier.statement.scalars import printable
from verifier.statement.terms import SignedQuote, SignedRelease, SignedTerms

if TYPE_CHECKING:
    from types import TracebackType

    from verifier.statement.scalars import Bytes32

_TIMEOUT_S = 60.0
_WHOLE_ANSWER_S = 120.0
_MAX_ANSWER = 1 << 20
_JSON = {"content-type": "application/json"}
# No compression: a bomb would be unpacked before its size could be counted.
_PLAIN = {"accept-encoding": "identity"}
_CODE = re.compile(r"[A-Z][0-9]?-[a-z0-9-]{1,60}\Z")


class Provider:
    """One provider at a URL. Every answer is capped in size, and every failure is an error of ours."""

    def __init__(self, url: str) -> None:
        """Connect at the first request; no redirects, no proxies from the environment."""
        self.url = url.rstrip("/")
        try:
            self._http = httpx.Client(base_url=self.url, timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False)
        except (httpx.InvalidURL, ValueError) as error:
            raise ServiceError("W-url", "the provider's URL is none", where=url[:200], found=str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def circuits(self) -> Any:
        """What the provider says it proves, as parsed JSON."""
        return self._ask_json("/v1/circuits")

    def quote(self, circuit_id: Bytes32) -> SignedQuote:
        """A signed quote; its signature is not checked here."""
        body = canonical.encode({"circuit_id": circuit_id})
        return canonical.decode(SignedQuote, self._ask("POST", "/v1/quotes", body), where=f"{self.url}/v1/quotes")

    def upload(self, commitment: Bytes32, circuit_id: Bytes32, tensors: Tensors) -> None:
        """Give the provider the input that a commitment is over."""
        self._ask("PUT", f"/v1/inputs/{commitment}?circuit_id={circuit_id}", encode_tensors(tensors))

    def accept(self, terms: SignedTerms) -> SignedTerms:
        """Ask for the Acceptance; its signature is not checked here."""
        raw = self._ask("POST", "/v1/accept", canonical.encode(terms))
        return canonical.decode(SignedTerms, raw, where=f"{self.url}/v1/accept")

    def job(self, job_id: Bytes32) -> dict[str, Any]:
        """What the provider says of a job."""
        value = self._ask_json(f"/v1/jobs/{job_id}")
        return value if isinstance(value, dict) else {}

    def bundle(self, job_id: Bytes32) -> bytes:
        """The bytes that the provider gives as a job's bundle."""
        return self._ask("GET", f"/v1/bundles/{job_id}", limit=MAX_BUNDLE_BYTES)

    def send_bundle(self, job_id: Bytes32, raw: bytes) -> None:
        """Put bytes into a job's inbox, as anyone may."""
        self._ask("POST", f"/v1/bundles/{job_id}", raw)

    def release(self, release: SignedRelease) -> None:
        """Hand the provider the payer's release; the provider submits it."""
        self._ask("POST", f"/v1/jobs/{release.release.job_id}/release", canonical.encode(release))

    def _ask_json(self, path: str) -> Any:
        where = f"GET {self.url}{path}"
        try:
            return canonical.load_foreign(self._ask("GET", path), where=where)
        except VerifierError as error:
            raise UndecidedError("W-answer", "the provider's answer is no JSON", where=where, do="Try again") from error

    def _ask(self, method: str, path: str, body: bytes | None = None, *, limit: int = _MAX_ANSWER) -> bytes:
        where = f"{method} {self.url}{path}"
        headers = _PLAIN | (_JSON if body is not None else {})
        until = time.monotonic() + _WHOLE_ANSWER_S
        try:
            with self._http.stream(method, path, content=body, headers=headers) as answer:
                if answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
                    raise UndecidedError("W-answer", "the provider's answer is compressed, unasked", where=where)
                raw = bytearray()
                for part in answer.iter_raw():
                    raw += part
                    if len(raw) > limit:
                        raise UndecidedError("W-answer", "the provider's answer is too large", where=where)
                    if time.monotonic() > until:
                        raise UndecidedError("W-answer", "the provider's answer comes too slowly", where=where)
                if answer.is_success:
                    return bytes(raw)
                raise _problem(answer.status_code, bytes(raw), where)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UndecidedError(
                "W-unreachable", "the provider does not answer", where=where, found=repr(error)[:200], do="Try again"
            ) from error


def _problem(status: int, raw: bytes, where: str) -> ServiceError | UndecidedError:
    """The error that a problem+json answer stands for.

    Its words come from outside and go to a terminal: they are cut, and what is not printable is replaced, since control
    characters could write over what was printed before. A code that is not formed as ours is not taken.
    """
    try:
        value = canonical.load_foreign(raw, where=where)
        names = ("code", "message", "detail", "expected", "found", "do")
        fields = {name: printable(str(value.get(name, ""))[:300]) for name in names}
    except (VerifierError, AttributeError):
        fields = {"message": printable(raw[:200].decode(errors="replace"))}
    kind = UndecidedError if status >= 500 else ServiceError
    code = fields.get("code", "")
    return kind(
        code if _CODE.match(code) else f"W-http-{status}",
        fields.get("message") or fields.get("detail") or f"the provider answers {status}",
        where=where,
        expected=fields.get("expected", ""),
        found=fields.get("found", ""),
        do=fields.get("do", ""),
    )
