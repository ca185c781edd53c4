"""Asks a verifier every vector (PROTOCOL.md), says where it parts: `python -m tests.conformance.run -- CMD...`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.conformance.vectors import Vector, vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EXITS = {"VALID": 0, "INVALID": 1, "USAGE": 2, "UNDECIDED": 3}
SECONDS_EACH = 10
Answer = tuple[str | None, str | None]
NONE: Answer = (None, None)


class Disagreement(NamedTuple):
    """A vector and what the verifier said of it."""

    vector: Vector
    found: Answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 where the verifier agrees on all, 1 where it does not, 2 where nothing was asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.run", description=__doc__)
    parser.add_argument("--one-by-one", action="store_true", help="a process for each vector: CMD verify")
    parser.add_argument("--only", default="", metavar="TEXT", help="the vectors with this in their name")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the vectors out as plain folders, ask nobody")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the disagreements as JSON")
    parser.add_argument("command", nargs="*", help="the verifier, behind --")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="opgate-vectors-") as scratch:
        chosen = vectors(Path(scratch), asked.only)
        if asked.write:
            write(chosen, asked.write)
            return 0
        if not asked.command or not chosen:
            parser.error("give a verifier behind --, and vectors to ask it")
        answers = (ask_each if asked.one_by_one else ask_all)(asked.command, chosen)
        found = disagreements(chosen, answers)
    report(chosen, found, as_json=asked.as_json)
    return 1 if found else 0


def ask_all(command: Sequence[str], asked: Iterable[Vector]) -> dict[str, Answer]:
    """What one process that lives long answers, by name."""
    lines = "".join(json.dumps(_question(vector)) + "\n" for vector in asked)
    try:
        done = subprocess.run(
            [*command, "serve"], input=lines, stdout=subprocess.PIPE, text=True, check=False, timeout=600
        ).stdout
    except subprocess.TimeoutExpired as error:
        done = (error.stdout or b"").decode() if isinstance(error.stdout, bytes) else error.stdout or ""
    answers = {}
    for line in done.splitlines():
        given = _parsed(line)
        answers[str(given.get("id"))] = (given.get("outcome"), given.get("code"))
    return answers


def ask_each(command: Sequence[str], asked: Iterable[Vector]) -> dict[str, Answer]:
    """What a process of its own answers for each vector; an exit code that is not the outcome's is no answer."""
    answers = {}
    for vector in asked:
        where = [str(vector.bundle), "--circuits", str(vector.circuits), "--policy", str(vector.policy)]
        try:
            done = subprocess.run(
                [*command, "verify", *where], stdout=subprocess.PIPE, text=True, check=False, timeout=SECONDS_EACH
            )
        except subprocess.TimeoutExpired:
            continue
        given = _parsed(done.stdout.strip().rpartition("\n")[2])
        if EXITS.get(str(given.get("outcome"))) == done.returncode:
            answers[vector.name] = (given.get("outcome"), given.get("code"))
    return answers


def disagreements(asked: Iterable[Vector], answers: dict[str, Answer]) -> list[Disagreement]:
    """Every vector whose answer is missing or another one."""
    wanted = {vector.name: (vector, (vector.outcome, vector.code)) for vector in asked}
    return [
        Disagreement(vector, answers.get(name, NONE))
        for name, (vector, right) in wanted.items()
        if answers.get(name, NONE) != right
    ]


def report(asked: list[Vector], found: list[Disagreement], *, as_json: bool) -> None:
    """A table by step for people, or the disagreements for machines."""
    if as_json:
        rows = [{"name": v.name, "expected": [v.outcome, v.code], "found": list(answer)} for v, answer in found]
        sys.stdout.write(json.dumps({"asked": len(asked), "disagreements": rows}) + "\n")
        return
    console = Console()
    table = Table("expected", "vectors", "agree")
    total = Counter(_group(vector) for vector in asked)
    wrong = Counter(_group(each.vector) for each in found)
    for group, count in sorted(total.items()):
        table.add_row(group, str(count), str(count - wrong[group]))
    console.print(table)
    for vector, (outcome, code) in found:
        console.print(
            f"{vector.name}: expected {vector.outcome} {vector.code}, found {outcome} {code}",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"{len(asked) - len(found)} of {len(asked)} agree")


def write(chosen: Iterable[Vector], out: Path) -> None:
    """Every vector as a folder of its own; what is no plain file stays as it is made for a run, and is left out."""
    for vector in chosen:
        folder = out / vector.name
        folder.mkdir(parents=True)
        if vector.bundle.is_file() and not vector.bundle.is_symlink():
            shutil.copyfile(vector.bundle, folder / "bundle.json")
        shutil.copyfile(vector.policy, folder / "policy.json")
        shutil.copytree(vector.circuits, folder / "circuits")
        (folder / "expected.json").write_text(json.dumps({"outcome": vector.outcome, "code": vector.code}) + "\n")


def _question(vector: Vector) -> dict[str, str]:
    paths = {"bundle": vector.bundle, "circuits": vector.circuits, "policy": vector.policy}
    return {"id": vector.name, **{name: str(path) for name, path in paths.items()}}


def _parsed(line: str) -> dict[str, str | None]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _group(vector: Vector) -> str:
    return f"{vector.outcome} {(vector.code or '')[:2]}".strip()


if __name__ == "__main__":
    sys.exit(main())
