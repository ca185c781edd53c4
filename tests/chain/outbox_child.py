"""Processes that send one payment through an outbox and die at their n-th question to the node, before or after it.

They are forks of a server that has everything imported: an import of eth_account costs more than a payment.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from verifier.payment.abi import encode_call
from verifier.payment.chain import Chain
from verifier.payment.keys import load_key
from verifier.payment.outbox import Call, Limits, Outbox
from verifier.statement.scalars import Address

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


@dataclass(frozen=True, kw_only=True)
class Payment:
    """What a child is told: it pays `amount` of the token, and dies at question number `fatal` (0: never)."""

    folder: Path
    url: str
    keyfile: Path
    token: Address
    receiver: Address
    amount: int
    purpose: str = "pay"
    fatal: int = 0
    when: str = "before"
    patience_s: float = 10.0

    @property
    def answer(self) -> Path:
        """Where the child writes hash and count of questions."""
        return self.folder / f"answer-{self.purpose}"


def pay(payment: Payment) -> None:
    """What a child does."""
    asked = 0
    with Chain(payment.url, chain_id=31337) as chain:
        real = chain.rpc.call

        def deadly(method: str, *parameters: object) -> object:
            nonlocal asked
            asked += 1
            if asked == payment.fatal and payment.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = real(method, *parameters)
            if asked == payment.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        chain.rpc.call = deadly  # type: ignore[method-assign]  # the seam where this process is killed
        limits = Limits(patience_s=payment.patience_s)
        outbox = Outbox(payment.folder / "outbox.sqlite", chain, load_key(payment.keyfile), limits=limits)
        call = encode_call("transfer(address,uint256)", payment.receiver, payment.amount)
        mined = outbox.send(payment.purpose, Call(to=payment.token, data=call))
        payment.answer.write_text(f"{mined.transaction_hash} {asked}")


def start(payment: Payment) -> multiprocessing.process.BaseProcess:
    """Begin a payment in a process of its own."""
    payment.folder.mkdir(exist_ok=True, parents=True)
    process = CONTEXT.Process(target=pay, args=(payment,))
    process.start()
    return process


def finish(process: multiprocessing.process.BaseProcess) -> int:
    """Wait for it; its exit status, -SIGKILL where it was killed."""
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode
