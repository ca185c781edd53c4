"""What the prover's process is given: the folder of the home, and nothing else of the worker's settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from workers.prover_process import run_prover

TELLS_ITS_ENVIRONMENT = (
    sys.executable,
    "-c",
    "import json, os, pathlib, sys; pathlib.Path(sys.argv[2], 'bundle.json').write_text(json.dumps(dict(os.environ)))",
)


def test_the_prover_finds_the_home_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: the prover runs in a folder of its own, so a relative home would be another one there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPGATE_HOME", "provider-home")
    monkeypatch.setenv("OPGATE_BROKER_URL", "redis://:secret@localhost")
    monkeypatch.setenv("OPGATE_KEYFILE", "keys/signer")
    told = run_prover(
        {}, tmp_path / "attempt", wall_seconds=60, beat=lambda: None, beat_seconds=60, command=TELLS_ITS_ENVIRONMENT
    )
    seen = json.loads(told)
    assert seen["OPGATE_HOME"] == str(tmp_path / "provider-home")
    assert [name for name in seen if name.startswith("OPGATE_")] == ["OPGATE_HOME"]
