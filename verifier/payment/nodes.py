"""One or two nodes of one chain: who is asked, who steps in, and what both must say before anything is decided by it.

No contract and no transaction is known here.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Self

from verifier.errors import EscrowError, OpgateError, UndecidedError
from verifier.payment.rpc import JsonRpc

if TYPE_CHECKING:
    from collections.abc import Callable

LAG_S = 10.0
"""How long two nodes are asked again before their different answers count as a disagreement: one may be some blocks
behind the other."""
_PAUSE_S = 0.2
_SILENT = ("E-rpc-unreachable", "E-rpc-timeout", "E-rpc-reply", "E-rpc-error")


class Nodes:
    """A node, and a second one where its URL is given. `call` takes one's word, `agree` wants the same from both.

    With `quorum` 2 a silent second node stops every decision; with 1 the node that answers is believed while the other
    is silent (for who loses more by being late than by one lie), and a disagreement still stops it.
    """

    def __init__(
        self, url: str, second_url: str | None = None, *, timeout: float = 30.0, quorum: int = 2, lag_s: float = LAG_S
    ) -> None:
        """Take the URLs; nothing is sent yet. `timeout` in seconds, for one request."""
        self._all = tuple(JsonRpc(each, timeout=timeout) for each in (url, second_url) if each)
        if len({node.source for node in self._all}) < len(self._all):
            raise EscrowError(
                "E-rpc-url", "the second node is the first one", where=self._all[0].source, do="Name another's node."
            )
        self._quorum, self._lag_s = min(quorum, len(self._all)), lag_s
        self._asked = self._all

    @property
    def source(self) -> str:
        """The first node's URL without path and secrets."""
        return self._all[0].source

    @property
    def count(self) -> int:
        """How many nodes are asked."""
        return len(self._asked)

    def close(self) -> None:
        """Close the connections."""
        for node in self._all:
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def leave_out(self, is_stuck: Callable[[Any], bool], method: str, *parameters: object) -> None:
        """Ask no node whose answer says that it is stuck, until the next look; none is left out below the quorum."""
        self._asked = self._all
        if self._quorum == len(self._all):
            return
        fit = []
        for node in self._all:
            with contextlib.suppress(OpgateError):
                if not is_stuck(node.call(method, *parameters)):
                    fit.append(node)
        if len(fit) >= self._quorum:
            self._asked = tuple(fit)

    def call(self, method: str, *parameters: object) -> Any:
        """The first node's answer, or the second's where the first is silent; errors as `JsonRpc.call`."""
        try:
            return self._asked[0].call(method, *parameters)
        except UndecidedError as error:
            if self.count == 1 or error.code not in _SILENT:
                raise
            return self._asked[1].call(method, *parameters)

    def each(self, method: str, *parameters: object) -> list[Any]:
        """What every node that is not silent answers, in their order; E-rpc-… where fewer than the quorum answer.

        A refusal of one node is an answer: it is raised as `JsonRpc.call` raises it.
        """
        if self.count == 1:
            return [self.call(method, *parameters)]
        answers, silent = [], None
        for node in self._asked:
            try:
                answers.append(node.call(method, *parameters))
            except UndecidedError as error:
                if error.code not in _SILENT:
                    raise
                silent = error
        if silent is not None and len(answers) < self._quorum:
            raise silent
        return answers

    def agree(self, method: str, *parameters: object) -> Any:
        """The one answer, or the one refusal, of all nodes.

        Raises:
            UndecidedError: E-rpc-disagree where they differ for longer than a lag; E-rpc-… where one is silent.
            EscrowError: what all nodes refuse with.
        """
        if self.count == 1:
            return self.call(method, *parameters)
        until = time.monotonic() + self._lag_s
        while True:
            outcomes, silent = self._outcomes(method, parameters)
            if silent is not None and len(outcomes) < self._quorum:
                raise silent
            first = outcomes[0]
            if all(_same(first, other) for other in outcomes[1:]):
                if isinstance(first, OpgateError):
                    raise first
                return first
            if time.monotonic() >= until:
                raise UndecidedError(
                    "E-rpc-disagree",
                    "two nodes say different things, so nothing is decided",
                    where=f"{method} at {' and '.join(node.source for node in self._asked)}",
                    expected=str(first)[:120],
                    found=str(outcomes[1])[:120],
                    do="One is wrong or behind: find out which, and name another.",
                )
            time.sleep(_PAUSE_S)

    def offer(self, method: str, *parameters: object) -> Any:
        """Give something to every node; the first one's answer counts, or the second's where the first is silent."""
        if self.count == 1:
            return self.call(method, *parameters)
        outcomes, silent = self._outcomes(method, parameters)
        if silent is not None and not outcomes:
            raise silent
        if isinstance(outcomes[0], OpgateError):
            raise outcomes[0]
        return outcomes[0]

    def _outcomes(self, method: str, parameters: tuple[object, ...]) -> tuple[list[Any], UndecidedError | None]:
        """What each node answers or refuses with, and the last silence."""
        outcomes: list[Any] = []
        silent = None
        for node in self._asked:
            try:
                outcomes.append(node.call(method, *parameters))
            except EscrowError as error:
                outcomes.append(error)
            except UndecidedError as error:
                if error.code not in _SILENT:
                    raise
                silent = error
        return outcomes, silent


def _same(left: object, right: object) -> bool:
    """Equal answers, or refusals with one code: nodes word them differently."""
    if isinstance(left, OpgateError) or isinstance(right, OpgateError):
        return isinstance(left, OpgateError) and isinstance(right, OpgateError) and left.code == right.code
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    return left == right
