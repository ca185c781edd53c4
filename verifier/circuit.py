"""A circuit as a payer or auditor holds it: manifest, code and records, read from a folder that nobody need trust."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from verifier.errors import UndecidedError, VerifierError
from verifier.files import read_regular
from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.certificates import SignedRecord
from verifier.statement.manifest import CircuitManifest
from verifier.statement.scalars import Bytes32

MAX_CODE_FILE = 1 << 20
MAX_RECORDS = 64
MAX_RECORD_BYTES = 1 << 18


class Circuit(msgspec.Struct, frozen=True, kw_only=True):
    """Manifest, runtime code and signed records. Neither the hash of the code nor a signature is checked here."""

    manifest: CircuitManifest
    code: bytes
    records: tuple[SignedRecord, ...] = ()

    @property
    def circuit_id(self) -> Bytes32:
        """The sha256 of the manifest's canonical bytes."""
        return self.manifest.circuit_id

    @property
    def code_hash(self) -> Bytes32:
        """keccak256 of the code that is here."""
        return keccak256(self.code)

    @classmethod
    def from_bytes(cls, manifest: bytes, code: bytes, records: tuple[bytes, ...] = ()) -> Self:
        """The circuit of stored bytes; VerifierError where one of them cannot be parsed."""
        return cls(
            manifest=canonical.decode(CircuitManifest, manifest, where="manifest.json"),
            code=code,
            records=tuple(canonical.decode(SignedRecord, raw, where=f"record {i}") for i, raw in enumerate(records)),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `manifest.json`, `verifier.bin` and `records/*.json` of a circuit folder.

        Raises:
            VerifierError: V0-… where a file is missing, too large or no canonical JSON of its type.
        """
        names = sorted((folder / "records").glob("*.json"))
        if len(names) > MAX_RECORDS:
            found = f"{len(names)} records"
            raise VerifierError(
                "V0-size", "too many records", where=str(folder), expected=f"{MAX_RECORDS}", found=found
            )
        return cls.from_bytes(
            read_regular(folder / "manifest.json", limit=canonical.MAX_BYTES),
            read_regular(folder / "verifier.bin", limit=MAX_CODE_FILE),
            tuple(read_regular(name, limit=MAX_RECORD_BYTES) for name in names),
        )


def find_circuit(circuits: Path, circuit_id: Bytes32) -> Circuit:
    """The circuit of that id in a folder of circuits.

    Raises:
        UndecidedError: V1-circuit-missing where it is not there: nothing can be said of the bundle.
        VerifierError: V0-… where its files cannot be parsed.
    """
    folder = circuits / str(circuit_id)
    if not folder.is_dir():
        raise UndecidedError(
            "V1-circuit-missing",
            "the bundle's circuit is not among yours",
            where=str(circuits),
            expected=f"a folder {circuit_id}",
            do="Ask its owner for it: opgate circuit export --for payer",
        )
    return Circuit.load(folder)
