"""How the demo tells its story: lines as they happen for people, one object at the end for machines."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from rich.console import Console


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """One job of the story. `paid_wei` is what the payee got; `gas` is the closing transaction's."""

    name: str
    job_id: str
    closed_by: str
    paid_wei: str
    gas: int | None
    seconds: dict[str, float]


class AttackResult(msgspec.Struct, frozen=True, kw_only=True):
    """One attack: the payer's error code, the escrow's where it was tried there, and whether anything was paid."""

    name: str
    paid: bool
    code: str
    on_chain: str | None = None


class Teller:
    """Collects the results; prints them unless it is quiet."""

    def __init__(self, *, quiet: bool) -> None:
        """`quiet` for `--json`: nothing is printed before the end."""
        self.console = Console(highlight=False, quiet=quiet, soft_wrap=True)
        self.jobs: list[JobResult] = []
        self.attacks: list[AttackResult] = []
        self.audit: dict[str, Any] = {}
        self.started = time.monotonic()

    def title(self, text: str) -> None:
        """A chapter."""
        self.console.print(f"\n[bold]{text}[/]")

    def doing(self, text: str, seconds: int) -> AbstractContextManager[object]:
        """Say what is going on now and about how long it takes; gone when it is done, and never in a file."""
        return self.console.status(f"{text}, about {seconds} s")

    def line(self, who: str, text: str, *, since: float | None = None) -> None:
        """Something that an actor did."""
        took = f" [dim]{time.monotonic() - since:.1f} s[/]" if since is not None else ""
        self.console.print(f"  [cyan]{who:<9}[/] {text}{took}")

    def job(self, result: JobResult) -> None:
        """A job that the chain has closed."""
        self.jobs.append(result)
        paid = int(result.paid_wei)
        money = f"[green]{paid / 10**18:g} OPG paid[/]" if paid else "[yellow]money back with the payer[/]"
        self.line("escrow", f"{result.name}: closed by {result.closed_by}, {money}, {result.gas:,} gas")

    def attack(self, result: AttackResult) -> None:
        """An attack and what became of it."""
        self.attacks.append(result)
        verdict = "[red]PAID[/]" if result.paid else "[green]not paid[/]"
        chain = f", escrow {result.on_chain}" if result.on_chain else ""
        self.console.print(f"  {verdict}  {result.name:<52} {result.code}{chain}")

    @property
    def sound(self) -> bool:
        """Whether every attack stayed unpaid, the audit passed, and both kinds of damage were found."""
        found = {item["kind"] for item in self.audit.get("damage_found", ())}
        unpaid = bool(self.attacks) and not any(attack.paid for attack in self.attacks)
        return unpaid and bool(self.audit.get("clean")) and found == {"flipped byte", "removed entry"}

    def to_json(self) -> str:
        """The one object of `--json`."""
        value = {"jobs": self.jobs, "attacks": self.attacks, "audit": self.audit}
        return json.dumps(msgspec.to_builtins(value) | {"seconds": round(time.monotonic() - self.started, 1)})
