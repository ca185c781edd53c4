"""Judges each change of the verifier: `python -m tests.mutation.run [--keep]`, then `tests.mutation.report`.

mutmut makes the mutants, in the folder mutants; its own runner starts pytest for each, which takes ten times longer.
Here each is judged in a fork of one process that has the vectors on its disk and the EVM's answers in memory: by the
vectors that tell most, then by the selection of tests in pyproject.toml, then by all vectors. Results are kept in
mutmut's files, so that a run goes on where it was stopped (`--keep`), and `mutmut show` and `mutmut browse` work.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mutmut.__main__ import create_mutants
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, setup_source_paths

if TYPE_CHECKING:
    from collections.abc import Callable

SURVIVED, KILLED, TIMED_OUT = 0, 1, 36
CPU_SECONDS = 60
"""Three times what a survivor takes: what is still running then does not end."""
SLOW_TO_IMPORT = ("eth_account", "numpy", "onnx")
"""What the tests import of others, once for all forks."""


def make() -> None:
    """Write the mutants of all modules that pyproject.toml names."""
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    copy_src_dir()
    copy_also_copy_files()
    setup_source_paths()
    create_mutants(os.cpu_count() or 1)


def unjudged() -> list[tuple[SourceFileMutationData, str]]:
    """The mutants without a result."""
    found = []
    for meta in sorted(Path("mutants/verifier").rglob("*.meta")):
        data = SourceFileMutationData(path=meta.relative_to("mutants").with_suffix(""))
        data.load()
        found += [(data, name) for name, result in data.exit_code_by_key.items() if result is None]
    return found


def judge(name: str, stages: list[Callable[[], int]]) -> NoReturn:
    """In a fork: the exit code of the first stage that notices the mutant."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    set_mutant_under_test(name)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    try:
        os._exit(next((code for stage in stages if (code := stage())), SURVIVED))
    except BaseException:  # noqa: BLE001 - whatever a mutant raises, it was noticed
        os._exit(KILLED)


def in_forks(work: list[tuple[SourceFileMutationData, str]], stages: list[Callable[[], int]]) -> None:
    """Judge all, as many at a time as there are cores; each result is kept at once."""
    running: dict[int, tuple[SourceFileMutationData, str]] = {}
    waiting, begun = list(reversed(work)), time.monotonic()
    done = survived = 0
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            data, name = waiting.pop()
            pid = os.fork()
            if pid == 0:
                judge(name, stages)
            running[pid] = (data, name)
        pid, status = os.wait()
        data, name = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        data.exit_code_by_key[name] = TIMED_OUT if code < 0 else min(code, KILLED)
        data.save()
        done, survived = done + 1, survived + (code == SURVIVED)
        left = (time.monotonic() - begun) / done * (len(waiting) + len(running))
        print(f"\r{done} of {len(work)}, {survived} survived, about {left / 60:.0f} min left ", end="", flush=True)
    print()


def stages() -> list[Callable[[], int]]:
    """Some vectors, tried on the unchanged verifier first; then the tests; then all vectors."""
    sys.path[0] = str(Path.cwd())
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]  # from here on all of them are the copies in the folder of the mutants
    import pytest  # noqa: PLC0415

    import verifier  # noqa: PLC0415
    from tests.mutation import oracle  # noqa: PLC0415

    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)

    if not Path(verifier.__file__).is_relative_to(Path.cwd()):
        raise SystemExit(f"these are no mutants: {verifier.__file__}")

    selection = config().pytest_add_cli_args_test_selection
    arguments = ["-x", "-q", "-p", "no:cacheprovider", *selection]

    def telling_vectors() -> int:
        oracle.judge(oracle.telling())
        return 0

    def vectors() -> int:
        oracle.judge(oracle.known())
        return 0

    def tests() -> int:
        return KILLED if pytest.main(arguments) != 0 else SURVIVED

    vectors()
    if os.fork() == 0:
        judge("none", [tests, vectors])
    if os.waitstatus_to_exitcode(os.wait()[1]) != SURVIVED:
        raise SystemExit("the vectors or the tests fail on the verifier as it is")
    return [telling_vectors, tests, vectors]


def main() -> None:
    """Make the mutants, judge those that are not judged yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="go on with the mutants that are there")
    if not parser.parse_args().keep:
        make()
    work = unjudged()
    os.chdir("mutants")
    set_mutant_under_test("")
    judging = stages()
    for data, _ in work:
        data.meta_path = Path(f"{data.path}.meta")
    in_forks(work, judging)


if __name__ == "__main__":
    main()
