"""JSON-RPC over HTTP to one node: bounded, typed at the edge, with every failure told apart.

`EscrowError` E-… means that the node understood and refused (a revert carries its reason). `UndecidedError` E-rpc-…
means that we do not know: unreachable, late, malformed. Nothing here knows a contract. The URL may hold a secret (an
API key): errors show its host only.
"""

from __future__ import annotations

import itertools
import re
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from verifier.errors import EscrowError, UndecidedError, VerifierError
from verifier.statement import canonical

_MAX_REPLY = 32 << 20
_REASON = re.compile(r"(?:execution reverted|VM Exception[^:]*)(?::\s*(?:revert:?\s*)?|,\s*)?(.*)", re.DOTALL)
_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\Z")
_ERROR_STRING = "0x08c379a0"
_NODE_WORDS = (
    ("nonce too low", "E-nonce-low"),
    ("nonce too high", "E-nonce-high"),
    ("already known", "E-already-known"),
    ("already imported", "E-already-known"),
    ("known transaction", "E-already-known"),
    ("replacement transaction underpriced", "E-underpriced"),
    ("transaction underpriced", "E-underpriced"),
    ("fee cap less than", "E-underpriced"),
    ("max fee per gas less than", "E-underpriced"),
    ("insufficient funds", "E-funds"),
    ("chain id", "E-chain-id"),
    ("gas limit", "E-gas-limit"),
    ("gas too low", "E-gas-limit"),
    ("gas too high", "E-gas-limit"),
)
_METHOD_MISSING = (-32601, -32004)


class JsonRpc:
    """One node. Safe to use from several threads; close it, or use it as a context."""

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        """Take the URL; nothing is sent yet. `timeout` in seconds, for one request."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EscrowError(
                "E-rpc-url", "this is no URL of a node", expected="http:// or https://", found=parts.scheme
            )
        self.source = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._url = url
        self._client = httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *parameters: object) -> Any:
        """The result of a method.

        Raises:
            EscrowError: the node refuses: E-<reason> for a revert, E-nonce-low, E-funds, E-chain-id …, E-refused.
            UndecidedError: E-rpc-unreachable, E-rpc-timeout, E-rpc-reply, E-rpc-method, E-rpc-error.
        """
        number = next(self._numbers)
        reply = self._post({"jsonrpc": "2.0", "id": number, "method": method, "params": list(parameters)}, method)
        if not isinstance(reply, dict) or reply.get("id") != number:
            raise self._undecided("E-rpc-reply", "the node's reply is not to our question", method, str(reply)[:100])
        if reply.get("error") is not None:
            raise self._refusal(reply["error"], method)
        if "result" not in reply:
            raise self._undecided("E-rpc-reply", "the node's reply has no result", method, str(reply)[:100])
        return reply["result"]

    def _post(self, request: dict[str, Any], method: str) -> Any:
        try:
            with self._client.stream("POST", self._url, json=request) as response:
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > _MAX_REPLY:
                        raise self._undecided(
                            "E-rpc-reply", "the node's reply is too large", method, f"{len(body)} bytes"
                        )
                status = response.status_code
        except httpx.TimeoutException as error:
            raise self._undecided("E-rpc-timeout", "the node did not answer in time", method, "") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            kind = type(error).__name__
            raise self._undecided("E-rpc-unreachable", "the node cannot be reached", method, kind) from error
        try:
            return canonical.load_foreign(bytes(body), where=method)
        except VerifierError as error:
            raise self._undecided("E-rpc-reply", "the node's reply is no JSON", method, f"HTTP {status}") from error

    def _refusal(self, error: object, method: str) -> EscrowError | UndecidedError:
        """The error of a node as ours: a revert's reason first, then what nodes say of transactions."""
        fields = error if isinstance(error, dict) else {}
        message, code, returned = str(fields.get("message", ""))[:500], fields.get("code"), fields.get("data")
        if isinstance(returned, dict):
            returned = returned.get("data")
        reverted = _REASON.match(message)
        if code == 3 or reverted:
            reason = _reason(returned) or (reverted.group(1).strip().strip("'\"") if reverted else "")
            return reverted_with(reason, where=method)
        for words, ours in _NODE_WORDS:
            if words in message.lower():
                return EscrowError(ours, "the node refuses the transaction", where=self.source, found=message[:200])
        if code in _METHOD_MISSING:
            return self._undecided("E-rpc-method", "the node does not offer this method", method, message[:200])
        if method == "eth_sendRawTransaction":
            return EscrowError("E-refused", "the node refuses the transaction", where=self.source, found=message[:200])
        return self._undecided("E-rpc-error", "the node could not answer", method, f"{code}: {message[:200]}")

    def _undecided(self, code: str, message: str, method: str, found: str) -> UndecidedError:
        return UndecidedError(
            code, message, where=f"{method} at {self.source}", found=found, do="Try again, or name another node."
        )


def reverted_with(reason: str, *, where: str) -> EscrowError:
    """The error for a revert: E-<reason> for the escrow's and token's reasons, E-reverted for any other text."""
    code = f"E-{reason}" if _CODE.match(reason) else "E-reverted"
    return EscrowError(code, f"the contract refuses: {reason[:200] or 'no reason given'}", where=where)


def _reason(returned: object) -> str:
    """The text of Error(string) in a revert's bytes, else nothing."""
    if not isinstance(returned, str) or not returned.startswith(_ERROR_STRING) or len(returned) > 1 << 16:
        return ""
    try:
        body = bytes.fromhex(returned[10:])
    except ValueError:
        return ""
    size = int.from_bytes(body[32:64])
    return body[64 : 64 + min(size, 500)].decode(errors="replace")


def quantity(value: object, *, where: str) -> int:
    """A JSON-RPC quantity (0x and hex digits, at most 256 bits); E-rpc-reply where it is none."""
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,64}", value):
        return int(value, 16)
    raise UndecidedError("E-rpc-reply", "the node's reply is no quantity", where=where, found=str(value)[:80])


def octets(value: object, *, where: str, size: int | None = None) -> bytes:
    """JSON-RPC bytes (0x and hex, of a fixed size where one is given); E-rpc-reply where they are none."""
    if isinstance(value, str) and re.fullmatch(r"0x(?:[0-9a-fA-F]{2})*", value):
        found = bytes.fromhex(value[2:])
        if size is None or len(found) == size:
            return found
    raise UndecidedError(
        "E-rpc-reply", "the node's reply is not the bytes expected", where=where, found=str(value)[:80]
    )


def mapping(value: object, *, where: str) -> dict[str, Any]:
    """A JSON object; E-rpc-reply where it is none."""
    if isinstance(value, dict):
        return value
    raise UndecidedError("E-rpc-reply", "the node's reply is no object", where=where, found=str(value)[:80])
