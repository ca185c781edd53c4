"""Plain JSON-RPC over HTTP for the supervisor: it asks its own chain a few things and needs no web3 for that."""

from __future__ import annotations

import http.client
import json
from typing import Any

from verifier.errors import ServiceError
from workers.dev.processes import HOST, Identity

DEV_CHAIN_ID = 31_337
NODE_VERSION = "opgate-dev/1"
"""What the chain server answers to web3_clientVersion, before its process id."""

_TIMEOUT = 60.0
_PROBE_TIMEOUT = 5.0


def ask(port: int, method: str, *parameters: object, seconds: float = _TIMEOUT) -> Any:
    """The result of a method; W-dev-rpc with the server's message where it refuses, OSError where nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=seconds)
    try:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        connection.request("POST", "/", body, {"content-type": "application/json"})
        reply = json.loads(connection.getresponse().read())
    except (ValueError, http.client.HTTPException) as error:
        raise ServiceError("W-dev-rpc", "this is no dev chain", where=f"port {port}", found=str(error)[:200]) from error
    finally:
        connection.close()
    if not isinstance(reply, dict) or "result" not in reply:
        raise ServiceError("W-dev-rpc", "the dev chain refuses", where=method, found=str(reply)[:300])
    return reply["result"]


def chain_answers(identity: Identity) -> bool:
    """Whether the very process serves the chain on its port."""
    try:
        version = ask(identity.port, "web3_clientVersion", seconds=_PROBE_TIMEOUT)
    except (OSError, ServiceError):
        return False
    return bool(version == f"{NODE_VERSION}/{identity.pid}")
