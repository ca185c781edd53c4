"""A broker that remembers what it was given, and can be silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.errors import ServiceError

if TYPE_CHECKING:
    from workers.store import Message


@dataclass
class SimulatedBroker:
    """`waiting` is the queue; clearing it loses the messages."""

    waiting: list[Message] = field(default_factory=list)
    sent: int = 0
    canaries: int = 0
    down: bool = False

    def send(self, message: Message) -> None:
        self._check()
        self.waiting.append(message)
        self.sent += 1

    def send_canary(self, *, expires: float) -> None:  # noqa: ARG002 - the port's signature
        self._check()
        self.canaries += 1

    def depth(self) -> int:
        self._check()
        return len(self.waiting)

    def _check(self) -> None:
        if self.down:
            raise ServiceError("W-broker", "the broker does not answer")
