"""Every vector as three paths and a verdict: what `PROTOCOL.md` says of folders and sweeps, carried out on a disk."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE, CASES, SWEEPS = ROOT / "base", ROOT / "cases", ROOT / "sweeps"


@dataclass(frozen=True)
class Vector:
    """One question to a verifier, and the right answer."""

    name: str
    bundle: Path
    circuits: Path
    policy: Path
    outcome: str
    code: str | None

    @property
    def passing(self) -> bool:
        """Whether the bundle is VALID."""
        return self.outcome == "VALID"


def vectors(scratch: Path, only: str = "") -> list[Vector]:
    """All vectors with that in their name; what git cannot hold is made below `scratch`, an empty folder."""
    return [*_folders(scratch, only), *_sweeps(scratch, only)]


def _folders(scratch: Path, only: str) -> Iterator[Vector]:
    for case in sorted(path for path in CASES.iterdir() if only in path.name):
        expected = json.loads((case / "expected.json").read_bytes())
        bundle = case / "bundle.json"
        if "make" in expected:
            bundle = _made(expected["make"], bundle, scratch / "made" / case.name)
        yield Vector(
            name=case.name,
            bundle=bundle,
            circuits=_own(case, "circuits"),
            policy=_own(case, "policy.json"),
            outcome=expected["outcome"],
            code=expected["code"],
        )


def _own(case: Path, name: str) -> Path:
    return case / name if (case / name).exists() else BASE / name


def _made(what: str, source: Path, folder: Path) -> Path:
    """What stands in place of the bundle's file."""
    folder.mkdir(parents=True)
    path = folder / "bundle.json"
    word, _, size = what.partition(" ")
    if word == "fifo":
        os.mkfifo(path)
    elif word == "symlink":
        path.symlink_to(source)
    elif word == "directory":
        path.mkdir()
    elif word == "size":
        shutil.copyfile(source, path)
        os.truncate(path, int(size))
    elif word == "pad":
        path.write_bytes(source.read_bytes().ljust(int(size)))
    elif word != "missing":
        raise ValueError(f"{source}: no way to make {what!r}")
    return path


def _sweeps(scratch: Path, only: str) -> Iterator[Vector]:
    for sweep in sorted(SWEEPS.glob("*.jsonl")):
        for line in sweep.read_text(encoding="utf-8").splitlines():
            spec = json.loads(line)
            if only in spec["name"]:
                yield _swept(spec, scratch / sweep.stem)


def _swept(spec: dict[str, str], below: Path) -> Vector:
    """A copy of one file of the base, with one piece cut out and another put in its place."""
    file = BASE / spec["file"]
    raw = file.read_text(encoding="utf-8")
    at, cut = int(spec["at"]), int(spec["cut"])
    content = raw[:at] + spec["put"] + raw[at + cut :]
    folder = below / spec["name"]
    folder.mkdir(parents=True)
    bundle, circuits, policy = BASE / spec["bundle"], BASE / "circuits", BASE / "policy.json"
    kind, _, inner = spec["file"].partition("/")
    if kind == "bundles":
        bundle = folder / "bundle.json"
        bundle.write_text(content, encoding="utf-8")
    elif kind == "circuits":
        circuits = folder / "circuits"
        circuit = inner.partition("/")[0]
        shutil.copytree(BASE / "circuits" / circuit, circuits / circuit, copy_function=_linked)
        (circuits / inner).unlink()
        (circuits / inner).write_text(content, encoding="utf-8")
    else:
        policy = folder / "policy.json"
        policy.write_text(content, encoding="utf-8")
    return Vector(
        name=spec["name"],
        bundle=bundle,
        circuits=circuits,
        policy=policy,
        outcome=spec["outcome"],
        code=spec["code"],
    )


def _linked(source: str, target: str) -> None:
    """A thousand copies of one circuit's files would take longer than judging them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
