"""This project's verifier behind PROTOCOL.md: `python -m tests.conformance.opgate serve`, or `verify`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from verifier.cli.verify import EXIT_OF, verdict_of
from verifier.errors import OpgateError
from verifier.policy import Policy


def main() -> int:
    """The exit code of a verdict; 0 after the last of many."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve")
    one = commands.add_parser("verify")
    one.add_argument("bundle", type=Path)
    one.add_argument("--circuits", type=Path, required=True)
    one.add_argument("--policy", type=Path, required=True)
    asked = parser.parse_args()
    if asked.command == "verify":
        outcome, code = answer(asked.bundle, asked.circuits, asked.policy)
        sys.stdout.write(json.dumps({"outcome": outcome, "code": code}) + "\n")
        return EXIT_OF.get(outcome, 2)
    for line in sys.stdin:
        question = json.loads(line)
        outcome, code = answer(*(Path(question[name]) for name in ("bundle", "circuits", "policy")))
        sys.stdout.write(json.dumps({"id": question["id"], "outcome": outcome, "code": code}) + "\n")
        sys.stdout.flush()
    return 0


def answer(bundle: Path, circuits: Path, policy: Path) -> tuple[str, str | None]:
    """Outcome and code; USAGE where the policy cannot be read, which is no verdict."""
    try:
        taken = Policy.load(policy)
    except OpgateError as error:
        return "USAGE", error.code
    verdict = verdict_of(bundle, circuits, taken)
    return verdict.outcome, verdict.code


if __name__ == "__main__":
    sys.exit(main())
