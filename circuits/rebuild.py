"""Rebuilds a circuit from ONNX file, run arguments and SRS, never from given settings or keys, and compares every byte.

That is what assurance *rebuilt* rests on: altered scales, shapes or types leave the verifying key as it is, and only
this finds them. It says nothing of how close the circuit is to the model, only that it is made from it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from circuits import compile as compiling
from circuits import srs
from circuits.build import Progress
from circuits.check.reading import read_model
from circuits.compile import EZKL_VERSION, Compiled
from circuits.ezkl_runner import Limits, usable_cores
from circuits.model import MAX_ONNX_BYTES
from circuits.registry import CircuitFolder, read_onnx
from circuits.run_arguments import read_run_arguments
from circuits.tuner.timing import this_machine
from verifier.errors import CircuitError
from verifier.files import read_regular
from verifier.statement import canonical
from verifier.statement.certificates import RebuildRecord
from verifier.statement.manifest import CircuitManifest
from verifier.statement.scalars import Timestamp

_MAX_ARTEFACT = 64 << 20


class Difference(NamedTuple):
    """One artefact that came out differently, and both its digests or values."""

    artefact: str
    expected: str
    found: str


def rebuild(
    folder: CircuitFolder,
    *,
    srs_stores: tuple[Path, ...],
    now: int,
    limits: Limits | None = None,
    progress: Progress = lambda _: None,
) -> RebuildRecord:
    """Rebuild a circuit in a new folder and compare the whole manifest, the code and every public file.

    Args:
        folder: the circuit: manifest, code, run arguments, ONNX file; settings and keys there are only compared.
        srs_stores: files or folders where its SRS may be, found by its sha256.
        now: Unix seconds for the record.
        limits: of each ezkl child; by default with one thread fewer than there are cores, unlike a build.
        progress: told each step, in words.

    Raises:
        CircuitError: C-rebuild naming each artefact that differs; C-closed where there is no ONNX file; C-srs-missing.
    """
    circuit = folder.circuit()
    manifest = circuit.manifest
    if not folder.model.exists():
        raise CircuitError(
            "C-closed",
            "the model is not open: without its ONNX file nobody can rebuild the circuit",
            where=str(folder.path),
            do="Ask the owner for the file, or accept a RebuildRecord by a key that you trust.",
        )
    onnx = read_onnx(folder.model, limit=MAX_ONNX_BYTES)
    run_args = read_run_arguments(read_regular(folder.run_args, limit=1 << 16))
    early = [
        Difference("model.onnx", str(manifest.onnx_sha256), str(canonical.sha256(onnx))),
        Difference("run_args.json", str(manifest.run_args_sha256), str(run_args.sha256)),
        Difference("ezkl", str(manifest.ezkl_version), EZKL_VERSION),
    ]
    _require_equal(early)
    srs_file = srs.find_srs((folder.path, folder.private, *srs_stores), manifest.srs)
    bounds = limits or Limits(threads=max(1, usable_cores() - 1))
    with tempfile.TemporaryDirectory(prefix="opgate-rebuild-") as name:
        progress(f"settings, keys and code at k={run_args.logrows}")
        model = read_model(onnx)
        keys = compiling.make_keys(model, run_args, srs_file, Path(name), bounds)
        progress("the probe proof")
        again = compiling.finish(model, run_args, srs_file, keys, bounds)
        _require_equal(differences(folder, manifest, circuit.code, again))
    return RebuildRecord(
        circuit_id=manifest.circuit_id,
        onnx_sha256=manifest.onnx_sha256,
        code_hash=manifest.evm.code_hash,
        ezkl_version=manifest.ezkl_version,
        machine=this_machine(),
        rebuilt_at=Timestamp(now),
    )


def differences(folder: CircuitFolder, manifest: CircuitManifest, code: bytes, again: Compiled) -> list[Difference]:
    """Each artefact and manifest field, with what it should be and what came out; equal ones included."""
    files = again.keys.files
    found = [
        Difference("verifier.bin", str(canonical.sha256(code)), str(canonical.sha256(again.keys.code))),
    ]
    for name, made in (("settings.json", files.settings), ("vk.key", files.vk), ("kzg1.srs", files.srs_k1)):
        path = folder.path / name
        if path.exists():
            given = canonical.sha256(read_regular(path, limit=_MAX_ARTEFACT))
            found.append(Difference(name, str(given), str(canonical.sha256(made.read_bytes()))))
    for name in manifest.__struct_fields__:
        wanted, got = (canonical.to_builtins(getattr(each, name)) for each in (manifest, again.manifest))
        found.append(Difference(f"manifest.{name}", str(wanted), str(got)))
    return found


def _require_equal(compared: list[Difference]) -> None:
    unequal = [each for each in compared if each.expected != each.found]
    if unequal:
        first = unequal[0]
        raise CircuitError(
            "C-rebuild",
            "the circuit is not what its model gives",
            where=", ".join(each.artefact for each in unequal),
            expected=f"{first.artefact} {first.expected[:200]}",
            found=first.found[:200],
            do="Do not pay for this circuit's proofs: its owner, or whoever gave it to you, changed it.",
        )
