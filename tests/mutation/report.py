"""What `mutmut run` found, against what is known: `python -m tests.mutation.report` after it, in the same folder.

Counts the mutants of each module. A survivor is a change of the verifier that no test notices; survivors.toml has a
reason for each, as a pattern of the function and of the changed line. One without a reason is judged again in a process
of its own, since mutmut chooses a mutant after the import, when what runs then has run. Exit 1 where a survivor is
left, and where a reason fits no survivor any more.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import msgspec
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

REASONS = Path(__file__).with_name("survivors.toml")
MUTANTS = Path("mutants")


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why survivors are as they should be: patterns of the mutated function and of the line that was put in."""

    function: str
    line: str
    why: str

    def fits(self, function: str, lines: str) -> bool:
        """Whether this is the reason for that survivor."""
        return bool(re.search(self.function, function) and re.search(self.line, lines, re.MULTILINE))


def changed(diff: str) -> str:
    """The lines that a mutant takes out and puts in, with - and + before them."""
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("---", "+++")]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines)


def main() -> int:
    """Print the table and what has no reason."""
    reasons = msgspec.convert(tomllib.loads(REASONS.read_text(encoding="utf-8"))["reasons"], list[Reason])
    unused, unexplained, explained, late = set(reasons), [], Counter[Reason](), 0
    print(f"{'module':<34}{'mutants':>8}{'killed':>8}{'survived':>9}{'no test':>8}{'other':>6}")
    total = Counter[str]()
    for file in sorted(MUTANTS.glob("verifier/**/*.meta")):
        results: dict[str, int | None] = json.loads(file.read_bytes())["exit_code_by_key"]
        counts = Counter(str(status_by_exit_code[code]) for code in results.values())
        total += counts
        print(row(str(file.relative_to(MUTANTS)).removesuffix(".py.meta"), counts))
        for mutant, code in results.items():
            if status_by_exit_code[code] not in ("survived", "no tests"):
                continue
            function = re.sub(r"__mutmut_\d+$", "", mutant).replace("xǁ", "").replace("ǁ", ".").replace(".x_", ".")
            lines = changed(get_diff_for_mutant(mutant))
            reason = next((each for each in reasons if each.fits(function, lines)), None)
            if reason is None and noticed_from_the_start(mutant):
                late += 1
            elif reason is None:
                unexplained.append(f"{mutant}\n{lines}")
            else:
                explained[reason] += 1
                unused.discard(reason)
    print(row("all", total))
    print(f"{late:>5}  noticed in a process of its own")
    for reason, count in explained.most_common():
        print(f"{count:>5}  {reason.why}")
    for text in unexplained:
        print(f"\nno reason: {text}")
    for reason in unused:
        print(f"\nfits no survivor: {reason}")
    judged = sum(count for status, count in total.items() if status != "not checked")
    print(
        f"\n{judged} judged, {sum(explained.values())} explained, {len(unexplained)} not, {len(unused)} reasons unused"
    )
    return 1 if unexplained or unused or judged < total.total() else 0


def noticed_from_the_start(mutant: str) -> bool:
    """Whether tests fail where the mutant is there from the first import on."""
    selection = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", *selection["pytest_add_cli_args_test_selection"]]
    environment = os.environ | {"MUTANT_UNDER_TEST": mutant}
    return subprocess.run(command, cwd=MUTANTS, env=environment, capture_output=True, check=False).returncode == 1


def row(name: str, counts: Counter[str]) -> str:
    """One line of the table."""
    killed = counts["killed"] + counts["timeout"]
    rest = counts.total() - killed - counts["survived"] - counts["no tests"]
    return f"{name:<34}{counts.total():>8}{killed:>8}{counts['survived']:>9}{counts['no tests']:>8}{rest:>6}"


if __name__ == "__main__":
    sys.exit(main())
