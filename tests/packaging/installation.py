"""A payer's machine: the base install in a virtual environment of its own, made from the tree as git tracks it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services import missing_service

ROOT = Path(__file__).resolve().parents[2]
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?(==[^ \\;]+)", re.MULTILINE)  # pip constrains names without extras
_NO_NETWORK = "connection broken by"


@dataclass(frozen=True)
class Installation:
    """One virtual environment in which only opgate's base install is.

    Attributes:
        folder: of the environment.
        away: an empty folder to run in, so that nothing of the tree is importable from the current one.
    """

    folder: Path
    away: Path

    def opgate(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the installed command as a payer does."""
        return self._run([str(self.folder / "bin" / "opgate"), *map(str, words)])

    def python(self, script: str) -> str:
        """What a script prints in the environment; a failure of it is the test's."""
        done = self._run([str(self.folder / "bin" / "python"), "-c", script])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.away, env=environment(), capture_output=True, text=True, timeout=60, check=False
        )


def environment() -> dict[str, str]:
    """Nothing of the tester's settings, no path to another package, and a screen that is wide enough for one line."""
    return {"PATH": "", "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "COLUMNS": "200", "NO_COLOR": "1"}


def tracked(*patterns: str) -> list[Path]:
    """The files that git tracks and that are there, relative to the root."""
    git = shutil.which("git") or pytest.fail("git is needed to know what belongs to the tree")
    done = subprocess.run(
        [git, "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [Path(name) for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def install(folder: Path) -> Installation:
    """``pip install .`` of a copy of the tracked tree, every version the one that requirements.txt pins.

    The hashes of requirements.txt are left out: a wheel of the project itself has none.
    """
    tree, away = folder / "tree", folder / "away"
    away.mkdir()
    for name in tracked("circuits", "prover", "verifier", "workers", "LICENSE", "README.md", "pyproject.toml"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    constraints = folder / "constraints.txt"
    pinned = _PINNED.findall((ROOT / "requirements.txt").read_text())
    constraints.write_text("".join(f"{name}{version}\n" for name, version in pinned))
    venv.EnvBuilder(with_pip=True).create(folder / "venv")
    # By the environment and not by -c alone: so the build, too, uses the pinned hatchling.
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "-c", str(constraints), str(tree)],
        cwd=away,
        env=settings | {"PIP_CONSTRAINT": str(constraints), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and _NO_NETWORK in done.stderr:
        missing_service("a package index", "pip install needs a network")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sys.version_info[:2] == (3, 11)
    return Installation(folder / "venv", away)
