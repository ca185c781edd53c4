"""Makes a circuit's code again from its verifying key, settings and the k = 1 SRS: assurance *compiled*.

It shows that the code is EZKL's verifier for this key under this SRS, free of its environment; which model stands
behind the key it does not show. Nothing private and no ONNX file is needed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from circuits import ezkl_runner, solidity
from circuits.ezkl_runner import Limits
from circuits.registry import CircuitFolder
from circuits.settings import MAX_SETTINGS_BYTES, canonical_settings
from verifier.errors import CircuitError
from verifier.files import read_regular
from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.certificates import CompileRecord
from verifier.statement.scalars import Bytes32, Timestamp

_MAX_KEY_BYTES = 64 << 20
_K1_BYTES = 516


def compile_check(folder: CircuitFolder, *, now: int, limits: Limits | None = None) -> CompileRecord:
    """Compile the code anew and compare; every file is compared with the manifest first, and ezkl reads copies.

    Args:
        folder: the circuit: manifest, code, vk.key, settings.json, kzg1.srs.
        now: Unix seconds for the record.
        limits: of the ezkl child, since a stranger's key may never return.

    Raises:
        CircuitError: C-compile naming what differs; C-registry where a file is missing.
    """
    manifest = folder.circuit().manifest
    with tempfile.TemporaryDirectory(prefix="opgate-compile-") as name:
        work = Path(name)
        copies = {}
        for path, limit, expected in (
            (folder.vk, _MAX_KEY_BYTES, manifest.vk_sha256),
            (folder.settings, MAX_SETTINGS_BYTES, manifest.settings_sha256),
            (folder.srs_k1, _K1_BYTES, manifest.srs.sha256_k1),
        ):
            raw = _read(path, limit)
            _require(path.name, expected, canonical.sha256(raw))
            if path == folder.settings:
                _require("settings.json", canonical.sha256(canonical_settings(raw)), canonical.sha256(raw))
            copies[path.name] = work / path.name
            copies[path.name].write_bytes(raw)
        source = work / "verifier.sol"
        ezkl_runner.create_evm_verifier(
            vk=copies["vk.key"],
            settings=copies["settings.json"],
            srs=copies["kzg1.srs"],
            solidity=source,
            limits=limits or Limits(),
        )
        code = solidity.compile_runtime(source)
    _require("verifier.bin", manifest.evm.code_hash, keccak256(code))
    return CompileRecord(
        circuit_id=manifest.circuit_id,
        vk_sha256=manifest.vk_sha256,
        code_hash=manifest.evm.code_hash,
        compiled_at=Timestamp(now),
    )


def _read(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise CircuitError(
            "C-registry",
            "a file that the code is compiled from is not here",
            where=str(path),
            do="Get the circuit as a payer: opgate circuit export --for payer",
        )
    return read_regular(path, limit=limit)


def _require(artefact: str, expected: Bytes32, found: Bytes32) -> None:
    if expected != found:
        raise CircuitError(
            "C-compile",
            "the circuit's code is not what its key, settings and SRS give",
            where=artefact,
            expected=str(expected),
            found=str(found),
            do="Do not pay for this circuit's proofs: someone changed it.",
        )
