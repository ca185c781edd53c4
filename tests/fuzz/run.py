"""Coverage-guided fuzzing by atheris: `python -m tests.fuzz.run [--minutes 1] [TARGET …]`, or `make fuzz MINUTES=10`.

One process a target, one after another, each for so many minutes: an input that takes over a second, a process above
256 MB beyond what it began with, or anything but an answer is a find; its bytes are written to the folder `--finds`.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SLOWEST_S = 1
GROWTH_MB = 256


def fuzz_one(name: str, arguments: list[str]) -> None:
    """Fuzz a target in this process, which libFuzzer then ends."""
    import atheris  # noqa: PLC0415 - instruments what is imported after it

    with atheris.instrument_imports(include=["verifier", "rfc8785", "rlp", "trie"]):
        from tests.fuzz.targets import TARGETS, ours  # noqa: PLC0415 - the same
    target, seeds = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for index, seed in enumerate(seeds):
            (Path(corpus) / str(index)).write_bytes(seed)
        began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        limits = [
            f"-timeout={20 * SLOWEST_S}",
            f"-rss_limit_mb={began + GROWTH_MB}",
            "-max_len=16384",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], corpus, *limits, *arguments], timed(ours(target)))
        atheris.Fuzz()


def timed(target: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """The target, with too much of this thread's own time as a find; the wall clock of a busy machine is no measure."""

    def run(raw: bytes) -> None:
        started = time.thread_time()
        target(raw)
        spent = time.thread_time() - started
        if spent > SLOWEST_S:
            raise TimeoutError(f"an input took {spent:.2f} s")

    return run


def main() -> int:
    """Run the targets, print a line each, and fail where one found something."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - a target's own process must import it under atheris

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; without: all")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"))
    chosen = parser.parse_args()
    chosen.finds.mkdir(exist_ok=True)
    failed = []
    for name in chosen.targets or TARGETS:
        prefix = f"-artifact_prefix={chosen.finds}/{name}-"
        words = [sys.executable, "-m", "tests.fuzz.run", "--one", name, prefix]
        words.append(f"-max_total_time={max(int(chosen.minutes * 60), 1)}")
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        said = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
        covered = re.findall(r"cov: (\d+)", done.stderr)
        figures = (
            f"{said.get('number_of_executed_units', '?')} inputs, {said.get('average_exec_per_sec', '?')} a second"
        )
        print(f"{name:<16} {figures}, {covered[-1] if covered else '?'} edges, peak {said.get('peak_rss_mb', '?')} MB")  # noqa: T201 - a program for people
        if done.returncode:
            failed.append(name)
            print(f"exit {done.returncode}", done.stdout[-3000:], done.stderr[-1500:], sep="\n")  # noqa: T201 - the same
    if not failed:
        with_finds = any(chosen.finds.iterdir())
        if not with_finds:
            chosen.finds.rmdir()
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
        os._exit(0)
    sys.exit(main())
