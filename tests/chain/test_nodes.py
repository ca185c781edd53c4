"""One node may be stuck, one of two may lie: nothing is decided by it, and nothing moves."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chain.conftest import Node
from verifier.errors import EscrowError, OpgateError, UndecidedError
from verifier.payment import chain as chain_module
from verifier.payment.chain import Chain
from verifier.payment.escrow import Escrow
from verifier.payment.nodes import Nodes
from verifier.payment.outbox import Limits, Outbox
from verifier.payment.states import JobState
from verifier.statement.scalars import Bytes32

ROOT = Path(__file__).parents[2]
Lie = Callable[[Any], Any]


@pytest.fixture
def pair(dev_node: Node) -> Iterator[Chain]:
    """The dev chain asked by two names, as if two parties ran it."""
    second = f"http://localhost:{dev_node.port}"
    with Chain(dev_node.chain.rpc.source, chain_id=31337, second_url=second, lag_s=0.3) as chain:
        yield chain


def lie(monkeypatch: pytest.MonkeyPatch, chain: Chain, which: int, lies: dict[str, Lie]) -> None:
    """Let one of the nodes change its answers to some methods."""
    node = chain.rpc._all[which]
    real = node.call

    def lying(method: str, *parameters: object) -> Any:
        answer = real(method, *parameters)
        return lies[method](answer) if method in lies else answer

    monkeypatch.setattr(node, "call", lying)


def silence(monkeypatch: pytest.MonkeyPatch, chain: Chain, which: int) -> None:
    def silent(method: str, *_: object) -> Any:
        raise UndecidedError("E-rpc-unreachable", "the node cannot be reached", where=method)

    monkeypatch.setattr(chain.rpc._all[which], "call", silent)


def _refused(code: str) -> pytest.RaisesExc[OpgateError]:
    return pytest.raises(OpgateError, match=rf"^{code}:")


LIES: dict[str, tuple[dict[str, Lie], str]] = {
    "state": ({"eth_call": lambda _: "0x" + (2).to_bytes(32).hex()}, "E-rpc-disagree"),
    "code": ({"eth_getCode": lambda code: code[:-2] + "00"}, "E-rpc-disagree"),
    "branch": ({"eth_getBlockByNumber": lambda block: block | {"hash": "0x" + "11" * 32}}, "E-rpc-disagree"),
    "chain": ({"eth_chainId": lambda _: "0x2105"}, "E-chain-id"),
}


@pytest.fixture
def stranger(dev_node: Node, pair: Chain, tmp_path: Path) -> Escrow:
    """The escrow as somebody with a key uses it, by both nodes."""
    outbox = Outbox(tmp_path / "outbox.sqlite", pair, dev_node.keys["stranger"])
    return Escrow(pair, dev_node.escrow, dev_node.token, outbox)


@pytest.mark.parametrize("lying", [(liar, what) for liar in (0, 1) for what in LIES], ids=str)
def test_a_disagreement_moves_nothing(
    dev_node: Node, pair: Chain, stranger: Escrow, monkeypatch: pytest.MonkeyPatch, lying: tuple[int, str]
) -> None:
    """The trap: one RPC that says a job is funded, or closed, or that other code is the escrow's."""
    terms = dev_node.terms()
    dev_node.fund(terms)
    sender = dev_node.keys["stranger"].address
    nonce = dev_node.chain.nonce(sender)
    liar, what = lying
    lies, code = LIES[what]
    lie(monkeypatch, pair, liar, lies)
    for act in (
        lambda: stranger.funding(dev_node.escrow, dev_node.job_id(terms)),
        lambda: stranger.release(terms, dev_node.signed_release(terms)),
    ):
        with _refused(code):
            act()
    assert dev_node.chain.nonce(sender) == nonce
    assert dev_node.client("payer").state(dev_node.job_id(terms)) is JobState.FUNDED


def test_two_honest_nodes_agree_and_pay(dev_node: Node, stranger: Escrow) -> None:
    terms = dev_node.terms()
    dev_node.fund(terms)
    assert stranger.funding(dev_node.escrow, dev_node.job_id(terms)).state is JobState.FUNDED
    assert stranger.release(terms, dev_node.signed_release(terms)) is not None
    assert stranger.state(dev_node.job_id(terms)) is JobState.RELEASED


@pytest.mark.parametrize("silent", [0, 1])
def test_a_silent_second_node_stops_a_payer_and_not_a_provider_near_its_deadline(
    dev_node: Node, monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    """A payer can wait; a provider that waits for a dead node loses the payment."""
    urls = (dev_node.chain.rpc.source, f"http://localhost:{dev_node.port}")
    for quorum in (2, 1):
        with Chain(urls[0], chain_id=31337, second_url=urls[1], quorum=quorum) as chain:
            silence(monkeypatch, chain, silent)
            escrow = Escrow(chain, dev_node.escrow, dev_node.token)
            if quorum == 1:
                escrow.check()
                assert escrow.state(Bytes32(b"\x01" * 32)) is JobState.NONE
            else:
                with _refused("E-rpc-unreachable"):
                    escrow.check()


def test_a_node_that_hides_what_is_mined_hides_nothing(
    dev_node: Node, pair: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The trap: a node that takes transactions and passes none on, and so has the payer pay for a second one."""
    lie(monkeypatch, pair, 0, {"eth_getTransactionReceipt": lambda _: None})
    terms = dev_node.terms()
    dev_node.fund(terms)
    outbox = Outbox(tmp_path / "outbox.sqlite", pair, dev_node.keys["stranger"], limits=Limits(patience_s=2))
    mined = Escrow(pair, dev_node.escrow, dev_node.token, outbox).release(terms, dev_node.signed_release(terms))
    assert mined is not None
    assert [len(row["hashes"]) for row in outbox.history()] == [1]


def test_a_lagging_node_is_waited_for(dev_node: Node, pair: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    lie(monkeypatch, pair, 1, {"eth_getCode": lambda code: code if time.monotonic() > begun + 0.15 else "0x"})
    assert pair.code_hash(dev_node.escrow) is not None
    assert time.monotonic() > begun + 0.15


def test_a_stuck_node_is_refused_where_blocks_come_by_themselves(
    dev_node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The trap: a node cut off from the chain answers everything, as it was an hour ago."""
    monkeypatch.setattr(chain_module, "ON_DEMAND_CHAINS", frozenset())
    terms = dev_node.terms()
    dev_node.fund(terms)
    with Chain(dev_node.chain.rpc.source, chain_id=31337) as chain:
        key = dev_node.keys["stranger"]
        outbox = Outbox(tmp_path / "outbox.sqlite", chain, key)
        escrow = Escrow(chain, dev_node.escrow, dev_node.token, outbox)
        chain.check_alive()
        for seconds, code in ((-3600, "E-rpc-stale"), (2 * 3600, "E-rpc-time")):
            with monkeypatch.context() as patch:
                shifted = {"eth_getBlockByNumber": _shift(seconds)}
                lie(patch, chain, 0, shifted)
                for act in (escrow.check, lambda: escrow.release(terms, dev_node.signed_release(terms))):
                    with _refused(code):
                        act()
    assert outbox.history() == []


@pytest.mark.parametrize("stuck", [0, 1])
def test_a_stuck_node_does_not_keep_a_provider_from_its_payment(
    dev_node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stuck: int
) -> None:
    """With one of two enough, the stuck one is left out; where both must speak, nothing moves."""
    monkeypatch.setattr(chain_module, "ON_DEMAND_CHAINS", frozenset())
    terms = dev_node.terms()
    dev_node.fund(terms)
    urls = (dev_node.chain.rpc.source, f"http://localhost:{dev_node.port}")
    for quorum in (2, 1):
        with Chain(urls[0], chain_id=31337, second_url=urls[1], quorum=quorum, lag_s=0.3) as chain:
            stale = {"eth_getBlockByNumber": _shift(-3600), "eth_call": lambda _: "0x" + bytes(32).hex()}
            lie(monkeypatch, chain, stuck, stale)
            outbox = Outbox(tmp_path / "outbox.sqlite", chain, dev_node.keys["provider"])
            escrow = Escrow(chain, dev_node.escrow, dev_node.token, outbox)
            if quorum == 2:
                with _refused("E-rpc-(stale|disagree)"):
                    escrow.release(terms, dev_node.signed_release(terms))
            else:
                assert escrow.release(terms, dev_node.signed_release(terms)) is not None
    assert dev_node.client("payer").state(dev_node.job_id(terms)) is JobState.RELEASED


def _shift(seconds: int) -> Lie:
    return lambda block: block | {"timestamp": hex(int(block["timestamp"], 16) + seconds)}


def test_the_second_node_must_be_another_one() -> None:
    with pytest.raises(EscrowError, match=r"^E-rpc-url:"):
        Nodes("http://127.0.0.1:1/key-a", "http://127.0.0.1:1/key-b")


def test_only_the_chain_module_speaks_to_nodes() -> None:
    """The rule that keeps the chain in one place: JSON-RPC behind `chain`, `nodes` and `evidence`; web3 nowhere."""
    allowed = {
        "verifier.payment.rpc": {
            "verifier/payment/chain.py",
            "verifier/payment/nodes.py",
            "verifier/payment/evidence.py",
        },
        "verifier.payment.nodes": {"verifier/payment/chain.py"},
        "web3": set(),
        "eth_account": {"verifier/payment/keys.py"},
        "eth_abi": {"verifier/payment/abi.py", "verifier/payment/escrow.py", "workers/dev/methods.py"},
    }
    found: dict[str, set[str]] = {name: set() for name in allowed}
    for package in ("verifier", "circuits", "prover", "workers"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                for name in names:
                    for rule in allowed:
                        if name == rule or name.startswith(f"{rule}."):
                            found[rule].add(str(path.relative_to(ROOT)))
    assert {name: files - allowed[name] for name, files in found.items()} == {name: set() for name in allowed}
    assert found["verifier.payment.rpc"] == allowed["verifier.payment.rpc"], "the rule looks at what is there"
