"""`opgate doctor` in a process of its own: healthy here, and each fault that it is for is found and named."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.installation import ROOT

Findings = dict[str, list[dict[str, str]]]
OPGATE = Path(sys.executable).parent / "opgate"


def doctor(*words: str, settings: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPGATE_", "PYTHON"))}
    return subprocess.run(
        [str(OPGATE), "doctor", *words],
        cwd=ROOT,
        env=kept | {"PYTHONUTF8": "1", "COLUMNS": "300"} | (settings or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def examined(exit_code: int, **settings: str) -> Findings:
    done = doctor("--json", settings=settings)
    assert (done.returncode, done.stderr) == (exit_code, "")
    report = json.loads(done.stdout)
    assert report["healthy"] is (exit_code == 0)
    findings: Findings = {}
    for finding in report["findings"]:
        assert set(finding) == {"name", "state", "seen", "mend"}
        findings.setdefault(finding["name"], []).append(finding)
    return findings


def test_healthy_here() -> None:
    findings = examined(0)
    assert set(findings) == {"python", "evm", "extra", "packages", "node", "solc", "redis", "chain", "gpu"}
    for name in ("python", "evm", "packages", "redis"):
        assert [finding["state"] for finding in findings[name]] == ["ok"], name
    assert {finding["state"] for finding in findings["extra"]} == {"ok"}
    assert [finding["state"] for finding in findings["chain"]] == ["optional"]


def test_people_read_the_same() -> None:
    done = doctor()
    assert done.returncode == 0
    assert "circuits, prover, verifier, workers are opgate's own" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("place", ["workers/__init__.py", "workers.py", "prover/__init__.py", "circuits.py"])
def test_a_foreign_package_before_ours_is_named(place: str, tmp_path: Path) -> None:
    """Trap: four common words are top-level packages; a project of the same name would run instead, in silence."""
    foreign = tmp_path / place
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_text("raise SystemExit('the foreign package ran')\n")
    (finding,) = examined(1, PYTHONPATH=str(tmp_path))["packages"]
    assert finding["state"] == "missing"
    assert str(foreign.resolve()) in finding["seen"]
    assert finding["seen"].startswith("shadowed: ")
    assert finding["mend"]


def test_a_folder_without_code_shadows_nothing(tmp_path: Path) -> None:
    """A namespace package loses against a real one, wherever it stands: no alarm."""
    (tmp_path / "workers").mkdir()
    assert examined(0, PYTHONPATH=str(tmp_path))["packages"][0]["state"] == "ok"


def test_another_distribution_with_a_package_of_our_name_is_named(tmp_path: Path) -> None:
    """Trap: both install into one folder and overwrite each other's files; what is imported looks like ours."""
    record = tmp_path / "crew-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: crew\nVersion: 1.0\n")
    (record / "top_level.txt").write_text("workers\n")
    (finding,) = examined(1, PYTHONPATH=str(tmp_path))["packages"]
    assert finding["state"] == "missing"
    assert "workers also in crew" in finding["seen"]


@pytest.mark.parametrize(("variable", "name"), [("OPGATE_RPC_URL", "chain"), ("OPGATE_BROKER_URL", "redis")])
def test_a_service_that_is_named_and_does_not_answer_is_missing(variable: str, name: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound and not listening: the port refuses, and nobody else can take it
        url = f"http://user:a-secret@127.0.0.1:{bound.getsockname()[1]}"
        findings = examined(1, **{variable: url})
    assert findings[name][0]["state"] == "missing"
    assert "a-secret" not in json.dumps(findings)


def test_a_service_that_answers_is_ok() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        findings = examined(0, OPGATE_RPC_URL=f"http://127.0.0.1:{listening.getsockname()[1]}")
    assert findings["chain"][0]["state"] == "ok"


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:port", "nonsense", "http://"])
def test_a_url_that_is_none_is_a_finding_and_no_crash(url: str) -> None:
    assert examined(1, OPGATE_RPC_URL=url)["chain"][0]["state"] == "missing"


@pytest.mark.parametrize("manifest", [b"", b'{"version": ', b"[]", b"{}", b'{"version": "0.8.26"}', b"\xff"], ids=repr)
def test_a_solc_that_is_damaged_or_another_is_missing(manifest: bytes, tmp_path: Path) -> None:
    """Trap: the doctor is asked when something is half installed, and must not fall over that very thing."""
    (tmp_path / "solc").mkdir()
    (tmp_path / "solc" / "package.json").write_bytes(manifest)
    (finding,) = examined(1, OPGATE_NODE_MODULES=str(tmp_path))["solc"]
    assert (finding["state"], finding["mend"]) == ("missing", "npm ci --ignore-scripts")
