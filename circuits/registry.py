"""A folder of circuits: ``<circuit_id>/`` with public files, ``records/``, and ``private/`` where the proving key is.

Files appear whole or not at all, and a circuit's folder appears only when all of it is there. Nothing is judged here:
`verifier` decides what a circuit is worth, `rebuild` whether it is the model.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from circuits.compile import Compiled
from circuits.model import MAX_ONNX_BYTES
from circuits.run_arguments import RunArguments
from verifier.circuit import MAX_CODE_FILE, Circuit
from verifier.errors import CircuitError, OpgateError, UsageError
from verifier.files import read_regular, sync_folder, write_atomic
from verifier.keccak import keccak256
from verifier.payment.keys import Signer
from verifier.statement import canonical
from verifier.statement.certificates import Record, SignedRecord, record_digest
from verifier.statement.manifest import CircuitManifest
from verifier.statement.scalars import Bytes32

Audience = Literal["payer", "provider", "auditor"]

_PUBLIC = ("manifest.json", "verifier.bin", "run_args.json", "settings.json", "vk.key", "kzg1.srs", "model.onnx")
_FOR_AUDITOR = ("manifest.json", "verifier.bin", "run_args.json", "model.onnx")
_PRIVATE = ("pk.key", "model.compiled", "kzg.srs")
_DEVELOPMENT_SRS = "kzg.srs"
_SHORTEST_PREFIX = 6
_TO_REBUILD = {"run_args.json": 1 << 16, "model.onnx": MAX_ONNX_BYTES, "kzg.srs": 1 << 28}
"""What a rebuild needs beside the other public files, with the most that is taken from a server."""


class CircuitFolder(NamedTuple):
    """The files of one circuit. `private` is there only with its owner and its providers."""

    path: Path

    @property
    def private(self) -> Path:
        """Proving key, compiled model and SRS: the model itself."""
        return self.path / "private"

    @property
    def model(self) -> Path:
        """The owner's ONNX file: public for an open model, else private."""
        public = self.path / "model.onnx"
        return public if public.exists() else self.private / "model.onnx"

    @property
    def run_args(self) -> Path:
        """The run arguments, canonical."""
        return self.path / "run_args.json"

    @property
    def settings(self) -> Path:
        """Canonical settings."""
        return self.path / "settings.json"

    @property
    def vk(self) -> Path:
        """The verifying key."""
        return self.path / "vk.key"

    @property
    def srs_k1(self) -> Path:
        """The SRS that a verifier needs."""
        return self.path / "kzg1.srs"

    @property
    def records(self) -> Path:
        """The folder of signed records."""
        return self.path / "records"

    @property
    def pk(self) -> Path:
        """The proving key."""
        return self.private / "pk.key"

    @property
    def compiled(self) -> Path:
        """The compiled model."""
        return self.private / "model.compiled"

    @property
    def srs(self) -> Path:
        """The SRS that a prover needs."""
        return self.private / "kzg.srs"

    def manifest(self) -> CircuitManifest:
        """The manifest, parsed; C-registry where the folder's name is not its sha256."""
        manifest = canonical.decode(
            CircuitManifest,
            read_regular(self.path / "manifest.json", limit=canonical.MAX_BYTES),
            where=str(self.path / "manifest.json"),
        )
        if str(manifest.circuit_id) != self.path.name:
            raise CircuitError(
                "C-registry",
                "the folder's name is not the sha256 of its manifest",
                where=str(self.path),
                expected=self.path.name,
                found=str(manifest.circuit_id),
            )
        return manifest

    def circuit(self) -> Circuit:
        """Manifest, code and records as the verifier takes them; C-registry where the code is not the manifest's."""
        manifest = self.manifest()
        code = read_regular(self.path / "verifier.bin", limit=MAX_CODE_FILE)
        if keccak256(code) != manifest.evm.code_hash:
            raise CircuitError(
                "C-registry",
                "the code is not the one of the manifest",
                where=str(self.path / "verifier.bin"),
                expected=str(manifest.evm.code_hash),
                found=str(keccak256(code)),
            )
        return Circuit.load(self.path)


def publish(  # noqa: PLR0913 - what a folder is made of
    store: Path, compiled: Compiled, run_args: RunArguments, onnx: bytes, srs_file: Path, *, is_open: bool
) -> CircuitFolder:
    """Put a circuit into a store under its id, with its private part; one that is there already stays.

    Args:
        store: the folder of circuits.
        compiled: what `compile.finish` made.
        run_args: the arguments that it was made with.
        onnx: the owner's model as given.
        srs_file: the SRS that it was made with.
        is_open: whether the ONNX file is public; a closed model lies in the private part.
    """
    folder = CircuitFolder(store / str(compiled.manifest.circuit_id))
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.path.exists():
        folder.circuit()
        return folder
    files = compiled.keys.files
    with tempfile.TemporaryDirectory(dir=store, prefix=".building-") as name:
        made = CircuitFolder(Path(name) / "circuit")
        made.path.mkdir(mode=0o755)
        made.private.mkdir(mode=0o700)
        made.records.mkdir(mode=0o755)
        write_atomic(made.path / "manifest.json", canonical.encode(compiled.manifest))
        write_atomic(made.path / "verifier.bin", compiled.keys.code)
        write_atomic(made.run_args, canonical.encode(run_args))
        for source, target in ((files.settings, made.settings), (files.vk, made.vk), (files.srs_k1, made.srs_k1)):
            write_atomic(target, source.read_bytes())
        model = made.path / "model.onnx" if is_open else made.private / "model.onnx"
        write_atomic(model, onnx, mode=0o644 if is_open else 0o600)
        for source, target in ((files.pk, made.pk), (files.compiled, made.compiled), (srs_file, made.srs)):
            _copy_private(source, target)
        sync_folder(made.path)
        _appear(made.path, folder.path)
    sync_folder(store)
    return folder


def add_record(folder: CircuitFolder, record: Record, key: Signer) -> Path:
    """Sign a record about this circuit and put it among its records, named by kind and digest.

    Raises:
        CircuitError: C-registry where the record names another circuit.
    """
    if str(record.circuit_id) != folder.path.name:
        raise CircuitError("C-registry", "the record is about another circuit", found=str(record.circuit_id))
    signed = SignedRecord(record=record, signer=key.address, signature=key.sign_digest(record_digest(record)))
    raw = canonical.encode(signed)
    kind = str(record.__struct_config__.tag).split("/")[1]
    folder.records.mkdir(mode=0o755, exist_ok=True)
    path = folder.records / f"{kind}-{canonical.sha256(raw).hex()[:16]}.json"
    write_atomic(path, raw)
    return path


def list_circuits(store: Path) -> tuple[CircuitFolder, ...]:
    """The circuits of a store, by id; folders that are no circuits are left out."""
    if not store.is_dir():
        return ()
    found = []
    for path in sorted(store.iterdir()):
        try:
            Bytes32.from_json(path.name)
        except ValueError:
            continue
        if (path / "manifest.json").is_file():
            found.append(CircuitFolder(path))
    return tuple(found)


def find(store: Path, named: str) -> CircuitFolder:
    """The circuit that a person names by id, by the id's beginning, or by the path of its folder.

    Raises:
        CircuitError: C-missing, C-ambiguous.
    """
    path = Path(named)
    if (path / "manifest.json").is_file():
        return CircuitFolder(path.resolve())
    prefix = named.lower() if named.lower().startswith("0x") else f"0x{named.lower()}"
    found = [each for each in list_circuits(store) if each.path.name.startswith(prefix)]
    if len(found) == 1 and len(prefix) >= _SHORTEST_PREFIX:
        return found[0]
    names = ", ".join(each.path.name[:14] for each in found[:8])
    if len(found) > 1:
        raise CircuitError("C-ambiguous", "several circuits begin so", where=str(store), expected=named, found=names)
    there = ", ".join(each.path.name[:14] for each in list_circuits(store)[:8]) or "none"
    raise CircuitError(
        "C-missing", "no such circuit", where=str(store), expected=named, found=there, do="See: opgate circuit list"
    )


def fetch(url: str, store: Path) -> CircuitFolder:
    """A circuit's public files from ``URL/<circuit_id>``, into a store of what was fetched; the server is not trusted.

    Manifest and code are what the id and the hash say, records are signed, and a rebuild compares every other file.

    Raises:
        UsageError: U-circuits where the URL does not end with a circuit_id.
        UndecidedError: V1-circuit-missing, V1-circuit-unreachable.
        CircuitError: C-registry where the server sent another manifest or code.
    """
    from verifier.remote_circuits import fetch_circuit  # noqa: PLC0415 - HTTP only where a server is named

    base, _, name = url.rstrip("/").rpartition("/")
    try:
        circuit_id = Bytes32.from_json(name)
    except ValueError as error:
        raise UsageError(
            "U-circuits", "the URL ends with no circuit_id", where=url[:200], expected="URL/0x…"
        ) from error
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    fetch_circuit(base, circuit_id, store, for_opinions=True, further=_TO_REBUILD)
    folder = CircuitFolder(store / str(circuit_id))
    folder.circuit()
    return folder


def export(folder: CircuitFolder, audience: Audience, out: Path, *, development: bool) -> CircuitFolder:
    """Write what that reader may hold into ``out/<circuit_id>/``; it must not be there yet.

    A payer gets all public files, an auditor what verifies and rebuilds, a provider the private part too: the proving
    key shows the weights. A development SRS goes with the public files, since it exists nowhere else to rebuild from.

    Raises:
        CircuitError: C-export where the target exists or a file is missing here.
    """
    folder.circuit()
    target = CircuitFolder(out / folder.path.name)
    if target.path.exists():
        raise CircuitError("C-export", "the target is there already", where=str(target.path), do="Remove it first.")
    for parent in (*reversed([above for above in out.parents if not above.exists()]), out):
        # a provider's folders are its own from the start: `parents=True` would give them to everyone
        parent.mkdir(mode=0o700 if audience == "provider" else 0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".exporting-") as name:
        made = CircuitFolder(Path(name) / "circuit")
        shutil.copytree(folder.records, made.records)
        for each in _FOR_AUDITOR if audience == "auditor" else _PUBLIC:
            if (folder.path / each).exists():
                shutil.copyfile(folder.path / each, made.path / each)
        if development and folder.srs.exists():
            shutil.copyfile(folder.srs, made.path / _DEVELOPMENT_SRS)
        if audience == "provider":
            made.private.mkdir(mode=0o700)
            for each in _PRIVATE:
                _copy_private(folder.private / each, made.private / each)
        _appear(made.path, target.path)
    return target


def _copy_private(source: Path, target: Path) -> None:
    """Copy a file that only its owner may read, whole and synced, however large."""
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with source.open("rb") as reader, os.fdopen(descriptor, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
    except OSError as error:
        raise CircuitError(
            "C-registry", "a private file cannot be copied", where=str(source), found=str(error)
        ) from error


def _appear(made: Path, target: Path) -> None:
    """Give a finished folder its name; whoever was first stays."""
    try:
        made.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise CircuitError(
                "C-registry", "the folder cannot be made", where=str(target), found=str(error)
            ) from error


def read_onnx(path: Path, *, limit: int) -> bytes:
    """The bytes of an ONNX file; CircuitError C-onnx-file."""
    try:
        return read_regular(path, limit=limit)
    except OpgateError as error:
        raise CircuitError("C-onnx-file", "the model cannot be read", where=str(path), found=str(error)) from error
