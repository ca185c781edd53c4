"""Signers outside this process: a program or a URL that holds the key, such as a KMS, an HSM or a hardware wallet.

The protocol is one JSON object each way. To a command it goes by stdin and stdout, to a URL by POST:

``{"method": "address"}`` is answered by ``{"address": "0x…"}``;
``{"method": "sign", "address": "0x…", "digest": "0x…"}``, with ``"transaction": {…}`` beside the digest where it is a
transaction's, by ``{"signature": "0x…"}``: r and s in 64 bytes, or r, s and v in 65. Signers that know neither v nor
the rule of low s need not care: both are found here, by the address that must come out. A refusal is an exit status
other than 0, or an HTTP status of 400 to 499. Nothing that a signer prints beside its answer is shown or logged.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from verifier.errors import EscrowError, UndecidedError, VerifierError
from verifier.evm import signed_by
from verifier.payment.keys import Signer, Transaction
from verifier.statement import canonical
from verifier.statement.scalars import SECP256K1_ORDER, Address, Bytes32, Signature

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_VARIABLE = "OPGATE_SIGNER_TOKEN"  # noqa: S105 - the name of a variable
"""Where a URL's bearer token is taken from; it stands in no argument and no file of ours."""
_SECONDS = 60.0
_MAX_ANSWER = 1 << 16
_LOCAL = ("localhost", "127.0.0.1", "::1")


class RemoteSigner(Signer):
    """A key that somebody else holds. Each signature is checked to be this address's before it is used."""

    def __init__(self, ask: Callable[[dict[str, Any]], Any], where: str) -> None:
        """Ask for the address; `ask` gives the signer's answer to a request, `where` names it without secrets."""
        self._ask, self._where = ask, where
        try:
            self.address = Address.from_json(str(self._field({"method": "address"}, "address")).lower())
        except ValueError as error:
            raise EscrowError("E-signer-answer", "the signer names no address", where=where) from error

    def __repr__(self) -> str:
        return f"RemoteSigner(address={self.address})"

    def sign_digest(self, digest: Bytes32) -> Signature:
        """Have 32 bytes signed."""
        return self._sign(digest, {})

    def _sign_transaction_digest(self, digest: Bytes32, transaction: Transaction) -> Signature:
        return self._sign(digest, {"transaction": transaction.to_json()})

    def _sign(self, digest: Bytes32, more: dict[str, Any]) -> Signature:
        answer = self._field(
            {"method": "sign", "address": str(self.address), "digest": str(digest)} | more, "signature"
        )
        try:
            raw = bytes.fromhex(str(answer).removeprefix("0x"))
        except ValueError:
            raw = b""
        s = int.from_bytes(raw[32:64])
        if len(raw) in (64, 65) and 0 < s < SECP256K1_ORDER:
            low = min(s, SECP256K1_ORDER - s)
            for v in (27, 28):
                try:
                    signature = Signature(raw[:32] + low.to_bytes(32) + bytes([v]))
                except ValueError:
                    break
                if signed_by(self.address, digest, signature):
                    return signature
        raise EscrowError(
            "E-signer-signature",
            "the signer's signature is not its address's over what was asked",
            where=self._where,
            expected=f"64 or 65 bytes by {self.address}",
            found=f"{len(raw)} bytes",
            do="The signer may hold another key, or hash what it is given once more.",
        )

    def _field(self, request: dict[str, Any], name: str) -> Any:
        answer = self._ask(request)
        if not isinstance(answer, dict) or name not in answer:
            raise EscrowError("E-signer-answer", f"the signer's answer has no {name}", where=self._where)
        return answer[name]


def command_signer(command: str) -> RemoteSigner:
    """A signer that is run anew for each request; no shell is between.

    Raises:
        EscrowError: E-signer-refused, E-signer-answer.
        UndecidedError: E-signer-silent where it cannot be run or does not end in time.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise EscrowError("E-signer-command", "the signer's command cannot be read", found=str(error)) from error
    if not words:
        raise EscrowError("E-signer-command", "the signer's command is empty", expected="command:/path/to/program …")
    where = words[0]

    def ask(request: dict[str, Any]) -> Any:
        try:
            done = subprocess.run(
                words, input=json.dumps(request).encode(), capture_output=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _silent(where, type(error).__name__) from error
        if done.returncode != 0:
            raise _refused(where, f"exit {done.returncode}")
        return _parsed(done.stdout, where)

    return RemoteSigner(ask, where)


def url_signer(url: str) -> RemoteSigner:
    """A signer behind HTTP; without TLS only on this machine. The URL may hold a secret: only its host is named.

    Raises:
        EscrowError: E-signer-url, E-signer-refused, E-signer-answer.
        UndecidedError: E-signer-silent where it does not answer, or with a status of 500 and more.
    """
    parts = urlsplit(url)
    if not parts.hostname or (parts.scheme != "https" and parts.hostname not in _LOCAL):
        raise EscrowError(
            "E-signer-url",
            "this is no URL for a signer",
            expected="https://, or http:// on this machine",
            found=parts.scheme,
        )
    where = f"{parts.scheme}://{parts.hostname}"
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"authorization": f"Bearer {token}"} if token else {}

    def ask(request: dict[str, Any]) -> Any:
        try:
            with httpx.Client(timeout=_SECONDS, follow_redirects=False, trust_env=False, headers=headers) as client:
                reply = client.post(url, json=request)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _silent(where, type(error).__name__) from error
        if reply.status_code >= 500:
            raise _silent(where, f"HTTP {reply.status_code}")
        if reply.status_code != 200:
            raise _refused(where, f"HTTP {reply.status_code}")
        return _parsed(reply.content, where)

    return RemoteSigner(ask, where)


def _parsed(raw: bytes, where: str) -> Any:
    try:
        return canonical.load_foreign(raw[:_MAX_ANSWER], where=where)
    except VerifierError as error:
        raise EscrowError("E-signer-answer", "the signer's answer is no JSON", where=where) from error


def _refused(where: str, found: str) -> EscrowError:
    return EscrowError("E-signer-refused", "the signer refuses", where=where, found=found, do="Its own log says why.")


def _silent(where: str, found: str) -> UndecidedError:
    return UndecidedError("E-signer-silent", "the signer does not answer", where=where, found=found, do="Try again.")
