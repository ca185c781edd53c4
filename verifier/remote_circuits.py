"""Circuits from a web server: the same folders as on disk, at ``URL/<circuit_id>/``. The server need not be trusted.

Manifest and code are what their hashes say or they are refused, and records are signed. All that a server can do is to
leave something out. Every answer is capped in size and time; redirects, proxies of the environment and compression are
not followed, so that what is asked is what is named.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from verifier.circuit import MAX_CODE_FILE, MAX_RECORD_BYTES, MAX_RECORDS
from verifier.circuit_store import is_url
from verifier.errors import UndecidedError, UsageError
from verifier.files import write_atomic
from verifier.statement.canonical import MAX_BYTES
from verifier.statement.scalars import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from verifier.statement.scalars import Bytes32

_TIMEOUT_S = 20.0
_WHOLE_ANSWER_S = 60.0
_CHUNK = 1 << 16
_MAX_LISTING = 1 << 18
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "opgate"}
_RECORD = re.compile(rb"[a-z]{1,32}-[0-9a-f]{16}\.json")
"""The names that records have in a circuit's folder; whatever form the listing has, nothing else is asked for."""

_NEEDED = {"manifest.json": MAX_BYTES, "verifier.bin": MAX_CODE_FILE}
_FOR_OPINIONS = {"settings.json": 4 << 20, "vk.key": 64 << 20, "kzg1.srs": 1 << 12}


def fetch_circuit(
    url: str,
    circuit_id: Bytes32,
    folder: Path,
    *,
    for_opinions: bool = False,
    further: Mapping[str, int] | None = None,
) -> None:
    """Write a circuit's public files into ``folder/<circuit_id>``; nothing of them is checked here.

    Asked for are manifest.json, verifier.bin, the listing ``records/`` and the records that it names; for a second
    opinion also settings.json, vk.key and kzg1.srs where they are there, and whatever `further` names with a limit.

    Raises:
        UsageError: U-circuits where the URL is none.
        UndecidedError: V1-circuit-missing where the server does not have it, V1-circuit-unreachable where it does not
            answer, or not as a server of files does.
    """
    base = f"{url.rstrip('/')}/{circuit_id}"
    wanted: dict[str, bytes] = {}
    for name, limit in _NEEDED.items():
        content = _get(f"{base}/{name}", limit)
        if content is None:
            raise UndecidedError(
                "V1-circuit-missing",
                "the bundle's circuit is not on that server",
                where=url,
                expected=f"{circuit_id}/{name}",
            )
        wanted[name] = content
    names = sorted(set(_RECORD.findall(_get(f"{base}/records/", _MAX_LISTING) or b"")))[:MAX_RECORDS]
    for name in (raw.decode() for raw in names):
        record = _get(f"{base}/records/{name}", MAX_RECORD_BYTES)
        if record is not None:
            wanted[f"records/{name}"] = record
    optional = (_FOR_OPINIONS if for_opinions else {}) | dict(further or {})
    for name, limit in optional.items():
        content = _get(f"{base}/{name}", limit)
        if content is not None:
            wanted[name] = content
    target = folder / str(circuit_id)
    (target / "records").mkdir(parents=True, exist_ok=True)
    for name, content in wanted.items():
        write_atomic(target / name, content)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _get(url: str, limit: int) -> bytes | None:
    """The body of one answer, counted while it comes in; None where the server says that there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
    request = _request(url)
    ends = time.monotonic() + _WHOLE_ANSWER_S
    content = b""
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            while chunk := answer.read1(_CHUNK):
                content += chunk
                if len(content) > limit or time.monotonic() > ends:
                    raise _unreachable(url, f"more than {limit} bytes, or more than {_WHOLE_ANSWER_S:g} s")
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return None
        raise _unreachable(url, f"status {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(url, f"{type(error).__name__}: {error}") from error
    return content


def _request(url: str) -> urllib.request.Request:
    try:
        parts = urllib.parse.urlsplit(url)
        if is_url(url) and parts.hostname and (parts.port is None or parts.port > 0) and url.isprintable():
            return urllib.request.Request(url, headers=_HEADERS)  # noqa: S310 - the scheme is http or https
        found = "no host, or no port"
    except ValueError as error:
        found = str(error)[:100]
    raise UsageError("U-circuits", "--circuits is no URL", where=url[:200], expected="https://…", found=found)


def _unreachable(url: str, found: str) -> UndecidedError:
    return UndecidedError(
        "V1-circuit-unreachable",
        "the server of circuits does not answer as one",
        where=url[:200],
        found=printable(found)[:120],
        do="Try again, or copy the circuit's folder here and name that folder",
    )
