"""Two real nodes under every test: our dev chain over HTTP, and anvil."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.services import missing_service
from verifier.payment.chain import Chain
from verifier.payment.escrow import Escrow, deploy_code
from verifier.payment.keys import Key, create_key
from verifier.payment.outbox import Limits, Outbox
from verifier.statement.scalars import Address, Bytes32, Count, Signature, Timestamp, Uint256
from verifier.statement.terms import Acceptance, JobTerms, ProofRule, Release, SignedRelease, input_commitment
from workers.dev.chain_server import ChainServer
from workers.dev.ledger import DevLedger
from workers.dev.methods import Methods
from workers.dev.network import ACCOUNTS, set_up
from workers.dev.rpc import ask

ANVIL = Path(__file__).parents[2] / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
ALWAYS_TRUE = bytes.fromhex("600160005260206000f3")
NOWHERE = Address(bytes(20))
AMOUNT = 5 * 10**18


@dataclass
class Node:
    """A node with token, escrow, an always-true verifier, and an account and outbox for each role."""

    port: int
    chain: Chain
    token: Address
    escrow: Address
    keys: dict[str, Key]
    folder: Path
    verifier: Address = NOWHERE
    outboxes: dict[str, Outbox] = field(default_factory=dict)

    def outbox(self, role: str) -> Outbox:
        if role not in self.outboxes:
            path = self.folder / "outbox.sqlite"
            self.outboxes[role] = Outbox(path, self.chain, self.keys[role], limits=Limits(patience_s=10))
        return self.outboxes[role]

    def client(self, role: str) -> Escrow:
        return Escrow(self.chain, self.escrow, self.token, self.outbox(role))

    def terms(self, *, deadline_in: int = 3600) -> JobTerms:
        now = max(self.chain.block_time(), int(time.time()))
        code_hash = self.chain.code_hash(self.verifier)
        assert code_hash is not None
        rule = ProofRule(
            verifier=self.verifier,
            code_hash=code_hash,
            n_instances=Count(13),
            proof_len=Count(32),
            input_offset=Count(0),
            input_len=Count(1),
            job_offset=Count(1),
            gas_cap=Count(100_000),
        )
        return JobTerms(
            payer=self.keys["payer"].address,
            provider=self.keys["provider"].address,
            payee=self.keys["payee"].address,
            token=self.token,
            amount=Uint256(AMOUNT),
            circuit_id=Bytes32(b"\x0c" * 32),
            rule=rule,
            input_commitment=input_commitment((7).to_bytes(32)),
            fund_by=Timestamp(now + deadline_in // 2),
            deadline=Timestamp(now + deadline_in),
            salt=Bytes32(secrets.token_bytes(32)),
        )

    def job_id(self, terms: JobTerms) -> Bytes32:
        return terms.job_id(self.client("payer").domain)

    def acceptance(self, terms: JobTerms) -> Signature:
        digest = Acceptance(job_id=self.job_id(terms)).digest(self.client("payer").domain)
        return self.keys["provider"].sign_digest(digest)

    def signed_release(self, terms: JobTerms) -> SignedRelease:
        release = Release(job_id=self.job_id(terms), instances_hash=Bytes32(b"\x1d" * 32))
        digest = release.digest(self.client("payer").domain)
        return SignedRelease(release=release, signature=self.keys["payer"].sign_digest(digest))

    def calldata(self, terms: JobTerms) -> bytes:
        job = int.from_bytes(self.job_id(terms))
        words = [7, *((job >> (24 * limb)) & 0xFFFFFF for limb in range(11)), 42]
        head = [64, 96 + 32, 32, 0xABCDEF, len(words)]
        return bytes.fromhex("1e8e1e13") + b"".join(word.to_bytes(32) for word in [*head, *words])

    def fund(self, terms: JobTerms) -> None:
        payer = self.client("payer")
        payer.approve(terms.amount)
        payer.fund(terms, acceptance=self.acceptance(terms))


def _prepare(port: int, keys: dict[str, Key], folder: Path) -> Node:
    token, escrow = set_up(port, {name: (folder / name, key) for name, key in keys.items()})
    node = Node(port, Chain(f"http://127.0.0.1:{port}", chain_id=31337), token, escrow, keys, folder)
    mined = deploy_code(node.outbox("owner"), ALWAYS_TRUE, name="always-true")
    assert mined.contract is not None
    node.verifier = mined.contract
    assert node.chain.code(node.verifier) == ALWAYS_TRUE
    return node


def _keys(folder: Path) -> dict[str, Key]:
    return {name: create_key(folder / f"{name}.key") for name in ACCOUNTS}


def _dev(folder: Path) -> Iterator[Node]:
    keys = _keys(folder)
    ledger = DevLedger(folder / "chain.sqlite", funded=tuple(bytes(key.address) for key in keys.values()))
    server = ChainServer(0, Methods(ledger, "test"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        node = _prepare(int(server.server_address[1]), keys, folder)
        yield node
        node.chain.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        ledger.close()


def start_anvil(port: int, *options: str) -> subprocess.Popen[bytes]:
    """The binary itself: npm's wrapper would leave it running."""
    if not ANVIL.is_file():
        missing_service("anvil", "npm ci --ignore-scripts")
    command = [str(ANVIL), "--port", str(port), "--silent", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "NO_PROXY": "*"})
    until = time.monotonic() + 30
    while True:
        try:
            ask(port, "eth_chainId")
        except OSError:
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        else:
            return process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def anvil_node(folder: Path) -> Iterator[Node]:
    """An anvil of its own with everything deployed, and killed in the end."""
    keys, port = _keys(folder), free_port()
    process = start_anvil(port)
    try:
        for key in keys.values():
            ask(port, "anvil_setBalance", str(key.address), hex(10**22))
        node = _prepare(port, keys, folder)
        yield node
        node.chain.close()
    finally:
        process.kill()
        process.wait()


_NODES: dict[str, Callable[[Path], Iterator[Node]]] = {"dev": _dev, "anvil": anvil_node}


@pytest.fixture(scope="session", params=sorted(_NODES))
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Each node in turn, once a session."""
    yield from _NODES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def dev_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The dev chain alone."""
    yield from _dev(tmp_path_factory.mktemp("dev-only"))
