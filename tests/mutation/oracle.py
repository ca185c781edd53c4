"""What a mutant of the verifier must not survive: every vector, the likeliest to tell first.

The vectors lie on the disk and the EVM's answers in memory of a process whose forks run this (`tests.mutation.run`).
tests/verifier/test_vectors.py has the same vectors as tests of their own, for everybody else.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pyrevm

from tests.conformance.vectors import Vector, vectors
from tests.verifier.messages import MESSAGES, said
from verifier.judge import Judge


class RememberingEVM:
    """pyrevm's EVM, which runs the same call on the same code once in all forks that come after it."""

    answers: dict[tuple[Any, ...], bytes | RuntimeError] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._codes: dict[str, Any] = {}

    def insert_account_info(self, address: str, info: Any) -> None:
        """As pyrevm's."""
        self._codes[address] = info

    def message_call(self, caller: str, to: str, **call: Any) -> bytes:
        """As pyrevm's."""
        codes = tuple((address, bytes(info.code)) for address, info in self._codes.items())
        key = (codes, caller, to, *self._settings.items(), *call.items())
        if key not in self.answers:
            self.answers[key] = self._run(caller, to, call)
        answer = self.answers[key]
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    def _run(self, caller: str, to: str, call: dict[str, Any]) -> bytes | RuntimeError:
        evm = _EVM(**self._settings)
        for address, info in self._codes.items():
            evm.insert_account_info(address, info)
        try:
            return bytes(evm.message_call(caller, to, **call))
        except RuntimeError as error:
            return error


_EVM = pyrevm.EVM


@functools.cache
def scratch() -> Path:
    """Where the vectors are that git cannot hold; it stays for the forks."""
    return Path(tempfile.mkdtemp(prefix="opgate-vectors-"))


@functools.cache
def known() -> tuple[Vector, ...]:
    """The vectors, those that git cannot hold written beside the forks."""
    return tuple(vectors(scratch()))


@functools.cache
def telling() -> tuple[Vector, ...]:
    """The passing ones, and one vector of each refusal in its own words."""
    forms = {re.sub(r"[0-9a-f]{8,}|\d+", "", f"{each.code} {words().get(each.name)}"): each for each in known()}
    return (*(each for each in known() if each.passing), *(each for each in forms.values() if not each.passing))


@functools.cache
def words() -> dict[str, str]:
    """What is said of the vectors in folders."""
    return dict(json.loads(MESSAGES.read_bytes()))


def judge(chosen: tuple[Vector, ...]) -> None:
    """AssertionError where anything is said of a vector that was not said before."""
    vars(pyrevm)["EVM"] = RememberingEVM
    judges: dict[tuple[Path, Path], Judge] = {}
    for vector in chosen:
        outcome, code, message = said(vector, scratch(), judges)
        assert (vector.name, outcome, code) == (vector.name, vector.outcome, vector.code)
        assert message == words().get(vector.name, message)
