"""The dev network survives SIGKILL of any of its processes with all state; its chain is no laxer than a real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from verifier.payment.keys import Key, Transaction, load_key
from verifier.statement.scalars import Address
from workers.dev.network import Network, read_network
from workers.dev.processes import read_identity
from workers.dev.rpc import ask
from workers.dev.supervisor import running, stop

_COMMAND = [sys.executable, "-c", "from workers.dev.cli import app; app()"]
_PATIENCE = 60.0


def _start(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*_COMMAND, "--home", str(home), "--json"], stdout=subprocess.PIPE)


def _first_line(process: subprocess.Popen[bytes]) -> dict[str, object]:
    assert process.stdout is not None
    with process.stdout as output:
        shown = json.loads(output.readline())
    assert isinstance(shown, dict)
    return shown


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def _pid(home: Path, name: str) -> int:
    identity = read_identity(home / "dev" / "pids" / f"{name}.json")
    return identity.pid if identity else 0


def _network(home: Path) -> Network:
    network = read_network(home / "dev")
    assert network is not None
    return network


def _balance(network: Network, who: Address) -> int:
    return int(ask(network.port(network.rpc), "eth_getBalance", str(who)), 16)


def _pay(network: Network, key: Key, to: Address, wei: int) -> None:
    port = network.port(network.rpc)
    nonce = int(ask(port, "eth_getTransactionCount", str(key.address)), 16)
    transaction = Transaction(
        chain_id=network.chain_id,
        nonce=nonce,
        to=to,
        data=b"",
        value=wei,
        gas=21_000,
        max_fee_per_gas=10**12,
        max_priority_fee_per_gas=1,
    )
    ask(port, "eth_sendRawTransaction", "0x" + key.sign_transaction(transaction)[0].hex())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose processes are ended afterwards, whatever the test did."""
    yield tmp_path / "home"
    stop(tmp_path / "home")


def test_state_survives_sigkill_of_every_process(home: Path) -> None:
    """The trap: a killed supervisor leaves redis and chain alive, a killed chain may lose its last block."""
    process = _start(home)
    shown = _first_line(process)
    network = _network(home)
    key = load_key(Path(network.accounts["stranger"]))
    fresh = Address(b"\x51" * 20)
    _pay(network, key, fresh, 7)
    with redis.Redis.from_url(network.redis) as client:
        client.set("kept", "yes")

    for name in ("chain", "redis"):
        pid = _pid(home, name)
        os.kill(pid, signal.SIGKILL)
        _until(lambda: _pid(home, name) not in (0, pid) and all(running(home).values()))  # noqa: B023 - called in the loop
    assert _network(home) == network
    _pay(network, key, fresh, 1)
    assert _balance(network, fresh) == 8

    orphans = {name: _pid(home, name) for name in ("chain", "redis")}
    process.kill()
    process.wait()
    again = _start(home)
    assert _first_line(again) == shown
    assert {name: _pid(home, name) for name in ("chain", "redis")} == orphans, "live orphans are adopted"
    assert _balance(network, fresh) == 8

    again.kill()
    again.wait()
    for pid in orphans.values():
        os.kill(pid, signal.SIGKILL)
    last = _start(home)
    assert _first_line(last) == shown, "the same ports, contracts and accounts"
    assert _balance(network, fresh) == 8
    with redis.Redis.from_url(network.redis) as client:
        assert client.get("kept") == b"yes"

    last.send_signal(signal.SIGTERM)
    assert last.wait(_PATIENCE) == 0
    assert not any(running(home).values())


def test_a_second_supervisor_is_refused_and_a_taken_port_left(home: Path) -> None:
    """The traps: two supervisors on one home; a port of last time that someone else took meanwhile."""
    process = _start(home)
    _first_line(process)
    second = subprocess.run([*_COMMAND, "--home", str(home)], capture_output=True, check=False)
    assert second.returncode != 0
    assert b"W-dev-running" in second.stderr
    assert all(running(home).values()), "the refused one takes nothing away"

    network, stuck = _network(home), _pid(home, "chain")
    process.kill()  # first, or it starts the chain again
    process.wait()
    os.kill(stuck, signal.SIGKILL)
    _until(lambda: not running(home)["chain"])
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that the chain closed lingers
        thief.bind(("127.0.0.1", network.port(network.rpc)))
        thief.listen()
        third = _start(home)
        _first_line(third)
    moved = _network(home)
    assert moved.rpc != network.rpc
    assert (moved.token, moved.escrow, moved.accounts) == (network.token, network.escrow, network.accounts)
    third.send_signal(signal.SIGINT)
    assert third.wait(_PATIENCE) == 0


def test_a_network_that_is_not_yet_told_or_told_of_last_time_does_not_run(home: Path) -> None:
    """The trap: both servers run, `status` says yes, and who then reads network.json finds none, or old ports."""
    process = _start(home)
    _first_line(process)
    assert running(home)["network"]
    path = home / "dev" / "network.json"
    told = path.read_bytes()
    path.unlink()
    assert running(home) == {"supervisor": True, "redis": True, "chain": True, "network": False}
    path.write_bytes(told.replace(_network_rpc_port(told), b"9"))
    assert not running(home)["network"]
    status = subprocess.run([*_COMMAND, "status", "--home", str(home)], check=False, capture_output=True)
    assert status.returncode == 1
    path.write_bytes(told)
    assert running(home)["network"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(_PATIENCE) == 0


def _network_rpc_port(told: bytes) -> bytes:
    return str(json.loads(told)["rpc"]).rsplit(":", 1)[-1].encode()


def test_stop_ends_the_supervisor_and_what_a_killed_one_left(home: Path) -> None:
    """The trap: servers ended while their supervisor still starts them again."""
    for kill in (False, True):
        process = _start(home)
        _first_line(process)
        if kill:
            process.kill()
            process.wait()
        subprocess.run([*_COMMAND, "stop", "--home", str(home)], check=True)
        process.wait(_PATIENCE)
        assert not any(running(home).values())


def test_key_files_are_private_and_the_servers_local(home: Path) -> None:
    """The trap: a dev server that listens on every interface, or keys that the group reads."""
    process = _start(home)
    _first_line(process)
    network = _network(home)
    for path in network.accounts.values():
        assert Path(path).stat().st_mode & 0o777 == 0o600
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {network.port(network.rpc), network.port(network.redis)}
    hosts = {row[1].split(":")[0] for row in listening if row[3] == "0A" and int(row[1].split(":")[1], 16) in ports}
    assert hosts == {"0100007F"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(_PATIENCE) == 0
