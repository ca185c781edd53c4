"""Bundle files one after another under one policy: step 0, the circuit from the reader's own, steps 1-8, and alarms."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from verifier.basis import Basis
from verifier.bundles import MAX_BUNDLE_BYTES, parse_bundle
from verifier.circuit_store import CircuitStore
from verifier.errors import OpgateError
from verifier.files import read_regular
from verifier.second_opinion import ask, load_engines, raise_alarm
from verifier.statement.canonical import sha256
from verifier.statement.scalars import Count, Text
from verifier.statement.verdict import Verdict
from verifier.verify import verify_on

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from verifier.policy import Policy
    from verifier.second_opinion import Engine
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.scalars import Bytes32
    from verifier.statement.verdict import Outcome

_KEPT = 64
"""Circuits held at a time, so that memory does not grow with a store's size."""


class Judgement(NamedTuple):
    """A verdict, and where both inputs of a disagreement are kept, if there was one."""

    verdict: Verdict
    alarm: Path | None = None


class Judge:
    """One policy, one store of circuits, the engines to ask. What it keeps is what no bundle can change."""

    def __init__(
        self, circuits: str | Path, policy: Policy, *, second_opinion: tuple[str, ...] = (), alarms: Path | None = None
    ) -> None:
        """Load the engines; circuits are read when a bundle names them.

        Args:
            circuits: a folder of circuit folders, or the URL of a web server of such (`remote_circuits`).
            policy: what the reader accepts.
            second_opinion: names of engines to ask (`second_opinion`).
            alarms: where the inputs of a disagreement are kept; None where engines are not asked.

        Raises:
            UsageError: U-second-opinion.
        """
        self.policy = policy
        self._engines: dict[str, Engine] = load_engines(second_opinion)
        self._alarms = alarms or Path(".opgate/alarms")
        self._store = CircuitStore(circuits, for_opinions=bool(self._engines))
        self._bases: OrderedDict[Bytes32, Basis] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, trace)

    def judge(self, path: Path) -> Judgement:
        """Read and verify one file; bytes that cannot be read give a verdict too. Never raises an OpgateError."""
        try:
            raw = read_regular(path, limit=MAX_BUNDLE_BYTES)
            unverified_bundle = parse_bundle(raw, where=str(path))
        except OpgateError as error:
            return Judgement(unread(error, "INVALID"))
        return self.judge_bundle(unverified_bundle, subject=sha256(raw))

    def judge_bundle(self, unverified_bundle: ProofBundle, *, subject: Bytes32 | None = None) -> Judgement:
        """Steps 1-8. Engines are asked only where a verdict hangs on them: a bundle of junk reaches none."""
        try:
            basis = self._basis(unverified_bundle.circuit_id)
        except OpgateError as error:
            # a circuit of ours that cannot be read says nothing about the bundle
            return Judgement(unread(error, "UNDECIDED"))
        verdict = verify_on(basis, unverified_bundle, subject=subject)
        if not self._engines or (verdict.outcome != "VALID" and verdict.code not in ("V7-proof", "V8-missing")):
            return Judgement(verdict)
        folder = self._store.folder(unverified_bundle.circuit_id)
        try:
            opinions = ask(self._engines, unverified_bundle, folder)
        except OpgateError as error:
            if verdict.code == "V7-proof":
                return Judgement(verdict)
            return Judgement(_undecided(verdict, error))
        verdict = verify_on(basis, unverified_bundle, opinions)
        if verdict.code != "V8-disagreement":
            return Judgement(verdict)
        alarm = raise_alarm(
            self._alarms,
            bundle=unverified_bundle,
            circuit_folder=folder,
            policy=self.policy,
            opinions=opinions,
            verdict=verdict,
        )
        return Judgement(verdict, alarm)

    def _basis(self, circuit_id: Bytes32) -> Basis:
        basis = self._bases.get(circuit_id)
        if basis is None:
            basis = self._bases[circuit_id] = Basis(self._store.find(circuit_id), self.policy)
            if len(self._bases) > _KEPT:
                self._bases.popitem(last=False)
        else:
            self._bases.move_to_end(circuit_id)
        return basis


def unread(error: OpgateError, outcome: Outcome) -> Verdict:
    """The verdict for bytes that steps 1-8 never saw."""
    return Verdict(outcome=outcome, shown=(), not_shown=(), code=Text(error.code), message=Text.shown(str(error)))


def _undecided(verdict: Verdict, error: OpgateError) -> Verdict:
    return replace(
        verdict,
        outcome="UNDECIDED",
        shown=(),
        not_shown=(),
        step=Count(8),
        code=Text(error.code),
        message=Text.shown(str(error)),
    )
