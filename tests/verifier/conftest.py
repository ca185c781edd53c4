"""EZKL as an oracle beside the tests of the verifier, which itself never sees it."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.services import missing_service

Oracle = Callable[[str, Sequence[Sequence[object]]], list[object]]


@pytest.fixture(scope="session")
def ezkl_oracle() -> Oracle:
    """Answers of the installed ezkl: `ezkl_oracle(operation, [arguments, ...])`, one exec'd process for each call."""
    if importlib.util.find_spec("ezkl") is None:
        missing_service("ezkl", "pip install 'opgate[circuits]'; the literal vectors are all there is to compare with")

    def ask(operation: str, calls: Sequence[Sequence[object]]) -> list[object]:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("ezkl_oracle.py"))],
            input=json.dumps([operation, calls]),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        answers = json.loads(done.stdout)
        assert len(answers) == len(calls)
        return list(answers)

    return ask
