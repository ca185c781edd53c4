"""A service behind a real HTTP server on this machine, for as long as a test needs it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn

from workers.api import make_api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.service import Service


@contextmanager
def serving(service: Service) -> Iterator[httpx.Client]:
    """A client of the service."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        server = uvicorn.Server(uvicorn.Config(make_api(service), log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
