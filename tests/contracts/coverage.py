"""Which lines and branches of the contracts do the tests of their verbs run? ``python -m tests.contracts.coverage``.

From the instructions that titanoboa traces and the compiler's source map. A branch is one way out of a conditional jump
that stands for an ``if``, an ``assert`` or a part of an ``and`` or ``or``: an assert counts fully once it was seen to
hold and to fail. Where the compiler made several copies of a function, any of them counts. What it puts in by itself
(checks of calldata, overflow, bounds, the lock) is not counted, nor is a statement that compiles to nothing of its own,
such as the empty first value of a variable. Exit 1 where a test fails or something is not reached.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import vyper.ast as vy
from boa.environment import Env

FOLDER = Path(__file__).parent
CONTRACTS = FOLDER.parents[1] / "verifier" / "payment"
ELSEWHERE = {"artifacts", "differential", "eip7702", "gas", "state_machine"}
"""Tests that run on other machines than titanoboa, or run no contract."""
TESTS = [path for path in sorted(FOLDER.glob("test_*.py")) if path.stem.removeprefix("test_") not in ELSEWHERE]
JUMPI = 0x57
STATEMENTS = (vy.Assign, vy.AnnAssign, vy.AugAssign, vy.Expr, vy.Log, vy.Return, vy.Raise, vy.Assert, vy.If, vy.For)
BRANCHES = (vy.Assert, vy.If, vy.BoolOp, vy.IfExp)
Place = tuple[str, int, int]


class Traced:
    """What ran of every contract, by its source and by whether it was the constructor's code."""

    def __init__(self) -> None:
        self.steps: dict[Any, set[tuple[int, int]]] = defaultdict(set)
        self.contracts: dict[Any, tuple[dict[int, Any], bytes]] = {}

    def trace(self, env: Any, computation: Any, contract: Any = None) -> None:
        """Take the place of titanoboa's own hook, which is called after each call and each deployment."""
        if contract is not None and hasattr(contract, "source_map"):
            compiled, creates = contract.compiler_data, bool(computation.msg.is_create)
            key = (str(compiled.contract_path), creates)
            if key not in self.contracts:
                code = compiled.bytecode if creates else compiled.bytecode_runtime
                self.contracts[key] = contract.source_map["pc_raw_ast_map"], code
            ran = computation.code._trace
            self.steps[key].update(pairwise([*ran, -1]))
        for child in computation.children:
            if child.msg.code_address != b"":
                self.trace(env, child, env._lookup_contract_fast(child.msg.code_address))

    def report(self) -> tuple[dict[str, dict[int, bool]], dict[Place, set[bool]]]:
        """By file each line of a statement and whether it ran; each branch and the ways out of it that were taken."""
        lines: dict[str, dict[int, bool]] = defaultdict(dict)
        ways: dict[Place, set[bool]] = defaultdict(set)
        for key, (nodes, code) in self.contracts.items():
            after: dict[int, set[int]] = defaultdict(set)
            for pc, following in self.steps[key]:
                after[pc].add(following)
            for pc, node in nodes.items():
                path = Path(node.module_node.resolved_path)
                if path.parent != CONTRACTS:
                    continue
                statement = node if isinstance(node, STATEMENTS) else node.get_ancestor(STATEMENTS)
                if statement is not None:
                    lines[path.name][statement.lineno] = pc in after or lines[path.name].get(statement.lineno, False)
                if pc < len(code) and code[pc] == JUMPI and isinstance(node, BRANCHES):
                    ways[path.name, node.lineno, node.col_offset] |= {to == pc + 1 for to in after[pc]}
        return lines, ways


def main() -> int:
    """Run the tests and print what they reach."""
    traced = Traced()
    Env._coverage_enabled = True
    Env._trace_computation = lambda env, computation, contract=None: traced.trace(env, computation, contract)
    failed = pytest.main(["--quiet", "-W", "ignore::pytest.PytestAssertRewriteWarning", *map(str, TESTS)])
    lines, ways = traced.report()
    missing = 0
    sys.stdout.write(f"{'':<22}{'lines':>12}{'branches':>12}\n")
    for name, ran in sorted(lines.items()):
        mine = {place: taken for place, taken in ways.items() if place[0] == name}
        halves = sum(len(taken) for taken in mine.values())
        sys.stdout.write(f"{name:<22}{sum(ran.values()):>6}/{len(ran):<5}{halves:>6}/{2 * len(mine):<5}\n")
        for line in sorted(line for line, done in ran.items() if not done):
            sys.stdout.write(f"  line {line} never ran\n")
        for (_, line, column), taken in sorted(mine.items()):
            if len(taken) < 2:
                sys.stdout.write(f"  line {line}, column {column}: {len(taken)} of 2 ways\n")
        missing += len(ran) - sum(ran.values()) + 2 * len(mine) - halves
    return int(bool(failed or missing))


if __name__ == "__main__":
    sys.exit(main())
