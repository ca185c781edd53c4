"""Starts Redis and the chain, sets the chain up, and keeps both running until told to end. One supervisor a home.

The lock on ``dev/lock`` says whether a supervisor runs: the kernel lets go of it however the supervisor dies.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from typing import TYPE_CHECKING

from verifier.errors import ServiceError
from verifier.statement.scalars import Address, Count
from workers.dev.network import Network, open_accounts, read_network, set_up, write_network
from workers.dev.processes import HOST, Identity, Server, read_identity, write_identity
from workers.dev.redis_server import redis_answers, redis_command, redis_url
from workers.dev.rpc import DEV_CHAIN_ID, chain_answers

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from verifier.payment.keys import Signer

_WATCH_SECONDS = 0.25
_MAX_RESTARTS = 20
_RESTART_WINDOW = 60.0


class Supervisor:
    """The dev network of one home folder: `open`, then `watch` until the event is set, then `close`."""

    def __init__(self, home: Path) -> None:
        self._folder = (home / "dev").absolute()
        self._lock: int | None = None
        self._accounts: dict[str, tuple[Path, Signer]] = {}
        self._restarts: list[float] = []
        self._servers: dict[str, Server] = {}

    def open(self, *, rpc_port: int = 0) -> Network:
        """Take the home, adopt or start both servers, set the chain up, write ``network.json``.

        `rpc_port` 0: the port of last time where it is free, else any.

        Raises:
            ServiceError: W-dev-running where another supervisor has the home; W-dev-child, W-dev-contract.
        """
        for folder in (self._folder.parent, self._folder, self._folder / "pids"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        write_identity(self._folder / "pids" / "supervisor.json", Identity.own())
        self._accounts = open_accounts(self._folder)
        self._servers = self._describe()
        before = read_network(self._folder)
        wanted = {
            "redis": before.port(before.redis) if before else 0,
            "chain": rpc_port or (before.port(before.rpc) if before else 0),
        }
        for name, server in self._servers.items():
            if not server.adopt():
                server.start(wanted[name])
        return self._publish()

    def watch(self, ended: threading.Event) -> None:
        """Start again whatever dies, until the event is set; W-dev-child where that does not help."""
        while not ended.wait(_WATCH_SECONDS):
            for server in self._servers.values():
                if not server.alive():
                    self._count_restart(server.name)
                    server.start(server.port)
                    self._publish()

    def close(self) -> None:
        """End both servers; everything they hold stays on disk. A supervisor that was refused the home ends nothing."""
        if self._lock is None:
            return
        for server in reversed(self._servers.values()):
            server.stop()
        (self._folder / "pids" / "supervisor.json").unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def _take_lock(self) -> None:
        handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise ServiceError(
                "W-dev-running", "a dev network runs here already", where=str(self._folder), do="Run: opgate dev status"
            ) from error
        self._lock = handle

    def _describe(self) -> dict[str, Server]:
        funded = [word for _, key in self._accounts.values() for word in ("--fund", str(key.address))]
        chain = [sys.executable, "-m", "workers.dev.chain_server", "--database", str(self._folder / "chain.sqlite")]
        return {
            "redis": Server(
                "redis",
                folder=self._folder,
                command=lambda port: redis_command(self._folder / "redis", port),
                answers=redis_answers,
            ),
            "chain": Server(
                "chain",
                folder=self._folder,
                command=lambda port: [*chain, "--port", str(port), *funded],
                answers=chain_answers,
            ),
        }

    def _publish(self) -> Network:
        token, escrow = set_up(self._servers["chain"].port, self._accounts)
        network = Network(
            rpc=f"http://{HOST}:{self._servers['chain'].port}",
            redis=redis_url(self._servers["redis"].port),
            chain_id=Count(DEV_CHAIN_ID),
            token=token,
            escrow=escrow,
            accounts={name: str(path) for name, (path, _) in self._accounts.items()},
            addresses={name: Address(key.address) for name, (_, key) in self._accounts.items()},
        )
        write_network(self._folder, network)
        return network

    def _count_restart(self, name: str) -> None:
        now = time.monotonic()
        self._restarts = [when for when in self._restarts if now - when < _RESTART_WINDOW] + [now]
        if len(self._restarts) > _MAX_RESTARTS:
            raise ServiceError("W-dev-child", f"{name} dies again and again", where=str(self._folder / f"{name}.log"))


def running(home: Path) -> dict[str, bool]:
    """Which of supervisor, redis and chain run for a home, and whether ``network.json`` tells where they answer.

    A process that runs may not serve yet, and a file may be that of last time: `network` is true when both are past.
    """
    pids, network = home / "dev" / "pids", read_network(home / "dev")
    found = {name: read_identity(pids / f"{name}.json") for name in ("supervisor", "redis", "chain")}
    parts = {name: identity is not None and identity.process() is not None for name, identity in found.items()}
    redis, chain = found["redis"], found["chain"]
    parts["network"] = bool(
        all(parts.values())
        and network
        and redis
        and chain
        and (redis.port, chain.port) == (network.port(network.redis), network.port(network.rpc))
        and redis_answers(redis)
        and chain_answers(chain)
    )
    return parts


def stop(home: Path) -> None:
    """End the supervisor of a home, or what a killed one left behind."""
    pids = home / "dev" / "pids"
    for name in ("supervisor", "chain", "redis"):
        identity = read_identity(pids / f"{name}.json")
        if identity is not None:
            identity.end()
