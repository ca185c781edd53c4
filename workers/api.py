"""HTTP of the provider: paths, size caps, rate limits, problem+json. What the answers are is `workers.service`'s.

A body is counted while it comes in and cut off at its cap, whatever its headers say; nothing is parsed here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from verifier.bundles import MAX_BUNDLE_BYTES
from verifier.errors import OpgateError, ServiceError, UndecidedError
from verifier.statement import canonical
from workers.service import MAX_SMALL_BODY, Service, parse_id

log = structlog.get_logger("opgate.api")

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_BODY_SECONDS = 30
_MAX_CLIENTS = 10_000
_STATUS = {
    "W-body-size": 413,
    "W-body-late": 408,
    "W-rate": 429,
    "W-inputs-full": 503,
    "W-jobs-full": 503,
    "W-busy": 503,
    "W-broker": 503,
    "W-database": 503,
    "W-job-unknown": 404,
    "W-bundle-pending": 404,
    "W-circuit-unknown": 404,
    "W-circuit-price": 404,
    "W-path": 404,
    "W-bundle-exists": 409,
    "W-job-state": 409,
}
_RETRY = {"W-rate": "10", "W-inputs-full": "60", "W-jobs-full": "60", "W-busy": "5", "W-bundle-pending": "1"}


class RateLimit:
    """So many costly requests a minute for one client address, by a bucket; only the latest are remembered."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """A client may use a minute's worth at once."""
        self._size = float(per_minute)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str) -> None:
        """Count one request; W-rate where the client has none left."""
        now = self._clock()
        with self._lock:
            left, at = self._buckets.pop(client, (self._size, now))
            left = min(self._size, left + (now - at) * self._size / 60) - 1
            self._buckets[client] = (max(left, 0.0), now)
            while len(self._buckets) > _MAX_CLIENTS:
                self._buckets.popitem(last=False)
        if left < 0:
            raise ServiceError(
                "W-rate", "too many requests", expected=f"{self._size:g} a minute", do="Wait some seconds"
            )


def make_api(service: Service) -> FastAPI:  # noqa: C901 - one route after another, none with a branch
    """The app of a service."""
    api = FastAPI(title="opgate provider", docs_url=None, redoc_url=None, openapi_url=None)
    settings = service.workshop.settings
    rate = RateLimit(settings.requests_per_minute)

    async def body(request: Request, limit: int) -> bytes:
        rate.take(request.client.host if request.client else "unknown")
        return await read_body(request, limit)

    @api.get("/v1/circuits")
    async def circuits() -> Response:
        return _answer(await run_in_threadpool(service.circuits))

    @api.post("/v1/quotes")
    async def quotes(request: Request) -> Response:
        return _answer(await run_in_threadpool(service.quote, await body(request, MAX_SMALL_BODY)))

    @api.put("/v1/inputs/{commitment}")
    async def inputs(request: Request, commitment: str, circuit_id: str = "") -> Response:
        named, circuit = parse_id(commitment), parse_id(circuit_id)
        raw = await body(request, settings.max_input_bytes)
        await run_in_threadpool(service.put_input, named, circuit, raw)
        return _answer({"commitment": named, "circuit_id": circuit})

    @api.post("/v1/accept")
    async def accept(request: Request) -> Response:
        return _answer(await run_in_threadpool(service.accept, await body(request, MAX_SMALL_BODY)))

    @api.get("/v1/jobs/{job_id}")
    async def job(job_id: str) -> Response:
        return _answer(await run_in_threadpool(service.job, parse_id(job_id)))

    @api.get("/v1/bundles/{job_id}")
    async def bundle(job_id: str) -> Response:
        return Response(await run_in_threadpool(service.bundle, parse_id(job_id)), media_type=_JSON)

    @api.post("/v1/bundles/{job_id}")
    async def deliver(request: Request, job_id: str) -> Response:
        named = parse_id(job_id)
        return _answer(await run_in_threadpool(service.deliver, named, await body(request, MAX_BUNDLE_BYTES)))

    @api.post("/v1/jobs/{job_id}/release")
    async def release(request: Request, job_id: str) -> Response:
        named = parse_id(job_id)
        return _answer(await run_in_threadpool(service.release, named, await body(request, MAX_SMALL_BODY)))

    @api.get("/v1/health")
    async def health() -> Response:
        found = await run_in_threadpool(service.health)
        return _answer(found.to_json(), status=200 if found.ok else 503)

    api.add_exception_handler(OpgateError, _problem_of)
    api.add_exception_handler(404, _no_such_path)
    api.add_exception_handler(405, _no_such_path)
    api.add_exception_handler(Exception, _internal)
    return api


async def read_body(request: Request, limit: int) -> bytes:
    """The body, counted while it comes in.

    Raises:
        ServiceError: W-body-size as soon as it is or says that it will be above the limit; W-body-late.
    """
    declared = request.headers.get("content-length", "")
    raw = bytearray()
    if declared.isdigit() and len(declared) < 20 and int(declared) > limit:
        raise _too_large(limit, declared)
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                raw += part
                if len(raw) > limit:
                    raise _too_large(limit, "more")
    except TimeoutError as error:
        expected = f"within {_BODY_SECONDS} s"
        raise ServiceError("W-body-late", "the body comes too slowly", expected=expected) from error
    return bytes(raw)


def _too_large(limit: int, found: str) -> ServiceError:
    return ServiceError(
        "W-body-size", "the body is too large", expected=f"at most {limit} bytes", found=f"{found} bytes"
    )


def _answer(value: object, *, status: int = 200) -> Response:
    return Response(canonical.encode(value), status_code=status, media_type=_JSON)


def problem(error: OpgateError) -> Response:
    """A refusal as RFC 9457: its parts, a title and a status."""
    status = 503 if isinstance(error, UndecidedError) else _STATUS.get(error.code, 422)
    parts: dict[str, Any] = {name: value for name, value in error.to_json().items() if value}
    raw = canonical.encode(parts | {"type": "about:blank", "title": error.message, "status": status})
    headers = {"retry-after": _RETRY[error.code]} if error.code in _RETRY else None
    return Response(raw, status_code=status, media_type=_PROBLEM, headers=headers)


async def _problem_of(request: Request, error: Exception) -> Response:
    if not isinstance(error, OpgateError):
        return await _internal(request, error)
    log.info("refused", path=request.url.path, code=error.code)
    return problem(error)


async def _no_such_path(request: Request, _error: Exception) -> Response:
    return problem(ServiceError("W-path", "there is nothing here", where=f"{request.method} {request.url.path[:200]}"))


async def _internal(request: Request, error: Exception) -> Response:
    """Nothing of an unexpected failure is shown to a stranger; the log has it."""
    log.error("internal error", path=request.url.path, error=repr(error)[:500])
    internal = UndecidedError("W-internal", "the provider failed at this request", do="Nothing was decided; try again")
    return problem(internal)
