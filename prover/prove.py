"""A proof of a witness, and ezkl's own opinion of a proof. Whether it pays is decided by the EVM code alone."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

from circuits import ezkl_runner, opinion, srs
from circuits.compile import EZKL_VERSION, read_proof
from circuits.ezkl_runner import Limits, usable_cores
from circuits.registry import CircuitFolder
from circuits.tuner.cost import Machine, read_machine
from verifier.errors import CircuitError
from verifier.statement.bundle import ProofBytes, Receipt
from verifier.statement.scalars import Count, FieldElement, Measure, Text

ENGINE = Text(f"ezkl {EZKL_VERSION}")


class ProvingFiles(NamedTuple):
    """The private files of a circuit."""

    compiled: Path
    pk: Path
    srs: Path

    @classmethod
    def of(cls, private: Path) -> ProvingFiles:
        """Those in a private folder; C-private where one is missing."""
        files = cls(private / "model.compiled", private / "pk.key", private / "kzg.srs")
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise CircuitError(
                "C-private",
                "this store cannot prove the circuit",
                where=str(private),
                found=f"{', '.join(missing)} missing",
                do="Get it from the owner: opgate circuit export --for provider",
            )
        return files


class Proved(NamedTuple):
    """A proof and what the provider says of making it."""

    proof: ProofBytes
    receipt: Receipt


def prove(folder: CircuitFolder, files: ProvingFiles, witness_file: Path, work: Path, limits: Limits) -> Proved:
    """Prove a witness. A wrong witness gives a proof too: nothing here says that it holds.

    Raises:
        CircuitError: C-srs where the SRS is not the manifest's (a proof under another one never verifies); C-proof.
    """
    manifest = folder.manifest()
    found = srs.file_sha256(files.srs)
    if found != manifest.srs.sha256:
        raise CircuitError(
            "C-srs",
            "the SRS is not the manifest's",
            where=str(files.srs),
            expected=str(manifest.srs.sha256),
            found=str(found),
        )
    proof_file = work / "proof.json"
    done = ezkl_runner.prove(
        witness=witness_file, compiled=files.compiled, pk=files.pk, srs=files.srs, proof=proof_file, limits=limits
    )
    receipt = Receipt(
        engine=ENGINE,
        device=Text(f"CPU {platform.machine()}, {limits.threads} of {usable_cores()} threads{_constants()}"),
        prove_seconds=Measure.of(done.seconds, 3),
        peak_memory_bytes=Count(done.peak_bytes),
    )
    return Proved(ProofBytes(read_proof(proof_file)), receipt)


def _constants() -> str:
    """Which bench this machine's predictions rest on, where it was benched; a damaged file stops no job."""
    try:
        machine = read_machine(Path(os.environ.get("OPGATE_HOME", ".opgate")) / "machine.json")
    except CircuitError:
        return ", bench unreadable"
    return "" if machine == Machine() else f", {machine.label}"


def ezkl_accepts(
    folder: CircuitFolder, proof: bytes, words: tuple[FieldElement, ...], work: Path, limits: Limits
) -> bool:
    """Ezkl's own opinion of a proof for these instances, from a file that holds nothing else.

    It is a second opinion only: ezkl accepts trailing bytes, surplus instances and foreign settings.

    Raises:
        CircuitError: C-wall, C-died: no opinion. A refusal is False.
    """
    return opinion.accepts(proof=proof, words=words, work=work, limits=limits, folder=folder.path)
