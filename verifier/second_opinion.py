"""Other verifiers beside the circuit's code: found by entry point, asked where a verdict hangs on them, and the alarm.

An engine is an entry point of the group `opgate.second_opinion`: its name is the engine's, and it gives a callable
``(bundle, circuit_folder) -> bool`` that says whether that verifier accepts the bundle's proof, and raises where it
cannot say. An opinion can make a verdict UNDECIDED and never VALID; a disagreement means that one of two verifiers is
wrong, so both inputs are kept for whoever finds out which.
"""

from __future__ import annotations

import logging
import shutil
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

from verifier.errors import UndecidedError, UsageError
from verifier.files import write_atomic
from verifier.statement import canonical
from verifier.statement.scalars import Text
from verifier.statement.verdict import Opinion

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from verifier.policy import Policy
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.verdict import Verdict

GROUP = "opgate.second_opinion"
_ALARM = logging.getLogger("opgate.alarm")
_MAX_KEPT = 256
"""Alarms kept in one folder: whoever can send disagreeing bundles must not fill the disk."""
_CIRCUIT_FILES = ("manifest.json", "verifier.bin", "settings.json", "vk.key", "kzg1.srs")


class Engine(Protocol):
    """What an entry point of the group gives."""

    def __call__(self, bundle: ProofBundle, circuit_folder: Path) -> bool:
        """True where that verifier accepts the proof; an exception where it cannot say."""


def installed_engines() -> dict[str, metadata.EntryPoint]:
    """The engines that installed packages bring, by name; nothing is imported."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def load_engines(names: Iterable[str]) -> dict[str, Engine]:
    """The engines of those names.

    Raises:
        UsageError: U-second-opinion where one is not installed.
    """
    names = tuple(names)
    known = installed_engines() if names else {}  # reading what is installed takes longer than verifying a bundle
    engines: dict[str, Engine] = {}
    for name in names:
        try:
            engines[name] = known[name].load()
        except (KeyError, ImportError, AttributeError) as error:
            extras = ", ".join(known[name].extras) if name in known else ""
            raise UsageError(
                "U-second-opinion",
                "that verifier is not installed",
                expected=f"one of: {', '.join(sorted(known)) or 'none is'}",
                found=name[:40],
                do=f"pip install 'opgate[{extras or 'circuits'}]'",
            ) from error
    return engines


def ask(engines: dict[str, Engine], bundle: ProofBundle, circuit_folder: Path) -> tuple[Opinion, ...]:
    """One opinion an engine.

    Raises:
        UndecidedError: V8-engine where one of them cannot say; it is never taken for a yes or a no.
    """
    subject = canonical.digest(bundle)
    opinions = []
    for name, engine in engines.items():
        try:
            accepts = engine(bundle, circuit_folder)
        except Exception as error:
            raise UndecidedError(
                "V8-engine", "the other verifier could not say", where=name, found=str(error)[:200]
            ) from error
        opinions.append(Opinion(engine=Text(name), bundle_sha256=subject, accepts=accepts is True))
    return tuple(opinions)


def raise_alarm(  # noqa: PLR0913 - all that somebody needs to find out who is wrong, each by keyword
    alarms: Path,
    *,
    bundle: ProofBundle,
    circuit_folder: Path,
    policy: Policy,
    opinions: tuple[Opinion, ...],
    verdict: Verdict,
) -> Path:
    """Log a disagreement and keep what both verifiers were given, in a folder named by the bundle's digest."""
    subject = canonical.digest(bundle)
    folder = alarms / str(subject)
    if not folder.exists() and _has_room(alarms):
        partial = alarms / f".{subject}"
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "circuit").mkdir(parents=True)
        for name, content in (("bundle", bundle), ("policy", policy), ("verdict", verdict), ("opinions", opinions)):
            write_atomic(partial / f"{name}.json", canonical.encode(content))
        for name in _CIRCUIT_FILES:
            if (circuit_folder / name).is_file():
                shutil.copyfile(circuit_folder / name, partial / "circuit" / name)
        if (circuit_folder / "records").is_dir():
            shutil.copytree(circuit_folder / "records", partial / "circuit" / "records")
        partial.rename(folder)
    _ALARM.critical(
        "two verifiers disagree about bundle %s of circuit %s: %s; both inputs are in %s",
        subject,
        bundle.circuit_id,
        ", ".join(f"{opinion.engine} {'accepts' if opinion.accepts else 'refuses'}" for opinion in opinions),
        folder,
    )
    return folder


def _has_room(alarms: Path) -> bool:
    return not alarms.is_dir() or sum(1 for _ in alarms.iterdir()) < _MAX_KEPT
