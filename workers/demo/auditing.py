"""The auditor's part: the payer's archive as it is, then two damaged copies of it."""

from __future__ import annotations

import functools
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

from verifier.archive.log import Archive
from workers.demo.actors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from workers.demo.setting import Stage


@functools.cache
def _without_network() -> tuple[str, ...]:
    """The words before a command that give it a network namespace of its own, with nothing in it."""
    words = ("unshare", "-rn")
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        allowed = False
    return words if allowed else ()


def audit(stage: Stage) -> None:
    """Audit the archive; then flip one byte of one proof, and remove one entry, each on a copy: both must be named."""
    started = time.monotonic()
    archive = stage.party("payer") / "payer" / "archive"
    report = _audit(stage, archive)
    alone = "no key, no network" if _without_network() else "no key"
    stage.tell.line("auditor", f"{report['entries']} entries, clean: {report['clean']}, {alone}", since=started)
    damaged = [("flipped byte", _flip_a_proof), ("removed entry", _remove_an_entry)]
    found: list[dict[str, Any]] = []
    for kind, damage in damaged:
        copy = stage.home / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(archive, copy)
        damage(copy)
        findings = _audit(stage, copy)["damage_found"]
        if findings:
            first = next((item for item in findings if item["digest"]), findings[0])  # names the proof or the entry
            found.append({**first, "kind": kind})
            stage.tell.line(
                "auditor", f"{kind}: found, {first['code']} at entry {first.get('entry')}: {first['message']}"
            )
        shutil.rmtree(copy)
    stage.tell.audit = {"clean": report["clean"], "entries": report["entries"], "damage_found": found}


def _audit(stage: Stage, folder: Path) -> dict[str, Any]:
    """Run `opgate audit` in a process that has no key, and no network where the system lets us take it away."""
    try:
        return stage.actors.call("audit", str(folder), environment={}, through=_without_network())
    except Refused as refused:
        return refused.answer


def _flip_a_proof(folder: Path) -> None:
    """Change one hex digit inside the proof of one archived bundle."""
    archive = Archive.open(folder)
    digest = next(entry.digests["bundle"] for _, entry in archive.entries() if "bundle" in entry.digests)
    path = next(folder.glob(f"blobs/*/{digest}"))
    raw = bytearray(path.read_bytes())
    at = raw.index(b'"proof":"0x') + 400
    raw[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(raw)


def _remove_an_entry(folder: Path) -> None:
    """Take the newest entry out of the entry bundle; the signed checkpoint still counts it."""
    newest = max((folder / "tile" / "entries").rglob("*"), key=lambda path: (path.is_file(), path.stat().st_mtime_ns))
    newest.unlink()
