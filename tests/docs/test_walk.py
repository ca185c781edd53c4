"""The walk by hand of the README, typed into a shell as it stands there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.error_table import ROOT

PORT = "8440"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.usefixtures("socket_enabled")
def test_the_walk_by_hand_works_as_it_is_written(tmp_path: Path) -> None:
    """Only the port is another. Trap: a walk that nobody walks any more."""
    (walk,) = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert walk.count(PORT) == 2
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPGATE_")}
    with (tmp_path / "out").open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", walk.replace(PORT, free_port())],
            cwd=tmp_path,
            env=clean,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            returned = shell.wait(timeout=400)
        finally:
            stop = [sys.executable, "-m", "verifier.cli.root", "dev", "stop", "--home", str(tmp_path / ".opgate")]
            subprocess.run(stop, check=False, capture_output=True)
            end(shell.pid)
    printed = (tmp_path / "out").read_text(encoding="utf-8")
    assert returned == 0, printed[-3000:]
    for shown in ("closed by", "VALID", "CLEAN"):
        assert shown in printed


def end(group: int) -> None:
    """End what the shell started and left behind."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
