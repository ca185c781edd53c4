"""The process that serves the dev chain as JSON-RPC over HTTP, on 127.0.0.1 only.

Run as ``python -m workers.dev.chain_server --database FILE --port N [--fund ADDRESS]...``; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from workers.dev.ledger import DevLedger, RpcError
from workers.dev.methods import Methods
from workers.dev.processes import HOST
from workers.dev.rpc import DEV_CHAIN_ID, NODE_VERSION

_MAX_BODY = 8 << 20
_MAX_BATCH = 100
_IDLE_SECONDS = 60
_log = logging.getLogger(__name__)


class ChainServer(ThreadingHTTPServer):
    """HTTP requests in threads, one ledger behind a lock."""

    daemon_threads = True

    def __init__(self, port: int, methods: Methods) -> None:
        self._methods = methods
        self._lock = threading.Lock()
        super().__init__((HOST, port), _Handler)

    def answer(self, body: bytes) -> Any:
        """The JSON-RPC response to a body: an object, or a list for a batch."""
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return _failure(None, -32700, "the body is no JSON")
        if isinstance(request, list):
            if not 0 < len(request) <= _MAX_BATCH:
                return _failure(None, -32600, f"a batch has 1 to {_MAX_BATCH} requests")
            return [self._answer_one(item) for item in request]
        return self._answer_one(request)

    def _answer_one(self, request: object) -> dict[str, Any]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _failure(None, -32600, "a request is an object with a method")
        number, parameters = request.get("id"), request.get("params") or []
        if not isinstance(parameters, list):
            return _failure(number, -32602, "parameters are a list")
        try:
            with self._lock:
                result = self._methods.answer(request["method"], parameters)
        except RpcError as error:
            return _failure(number, error.code, error.message, error.revert)
        except Exception:  # noqa: BLE001 - the last resort of a server thread
            # A client sees an internal error, never a made-up refusal; the cause is in this process's log.
            _log.exception("internal error in %s", request["method"][:60])
            return _failure(number, -32603, "internal error")
        return {"jsonrpc": "2.0", "id": number, "result": result}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # Head and body leave in one packet: in two, each request would wait 40 ms for a delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: ChainServer

    def do_POST(self) -> None:
        host = (self.headers.get("host") or "").rsplit(":", 1)[0]
        length = self.headers.get("content-length") or ""
        # A web page that resolves its own name to 127.0.0.1 sends that name here.
        if host not in (HOST, "localhost") or not length.isdecimal() or int(length) > _MAX_BODY:
            self.close_connection = True
            self.send_error(400)
            return
        reply = json.dumps(self.server.answer(self.rfile.read(int(length)))).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Requests are not logged."""


def _failure(number: object, code: int, message: str, revert: bytes | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if revert is not None:
        error["data"] = "0x" + revert.hex()
    return {"jsonrpc": "2.0", "id": number, "error": error}


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description="Serve an EVM dev chain on 127.0.0.1.")
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fund", action="append", default=[], metavar="ADDRESS")
    parser.add_argument("--chain-id", type=int, default=DEV_CHAIN_ID)
    options = parser.parse_args()
    funded = tuple(bytes.fromhex(address.removeprefix("0x")) for address in options.fund)
    ledger = DevLedger(options.database, funded=funded, chain_id=options.chain_id)
    server = ChainServer(options.port, Methods(ledger, NODE_VERSION))
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for serve_forever(), which runs in this very thread.
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
