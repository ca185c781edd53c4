"""A circuit's witness and one good proof of it, made by the prover's own means; the service itself never calls ezkl."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.ezkl_runner import Limits
from circuits.registry import CircuitFolder
from prover.prove import ProvingFiles, prove
from prover.witness import check_input, make_witness
from verifier.errors import CircuitError
from verifier.evm import run_verifier
from verifier.files import read_regular, write_atomic
from verifier.instances import calldata
from verifier.statement.certificates import FidelityCertificate
from verifier.statement.scalars import Bytes32, TensorInt

if TYPE_CHECKING:
    from verifier.circuit import Circuit
    from verifier.payer.inputs import Tensors

_MAX_CALL = 1 << 18
_TRIAL_JOB = Bytes32(b"\xff" * 32)
"""The job id of the trial proof: the largest limbs, and no job that anyone could fund."""


class CircuitChild:
    """Witness checks (`ports.WitnessRunner`) and trial proofs (`ports.StoredProof`) for a folder of circuits."""

    def __init__(self, circuits: Path, *, wall_seconds: float) -> None:
        """`wall_seconds` bounds each child."""
        self._circuits = circuits
        self._limits = Limits(wall_seconds=wall_seconds)

    def check(self, circuit: Circuit, inputs: Tensors, job_id: Bytes32) -> None:
        """Run the witness of an input; C-… where the circuit cannot take it.

        It does not show that the proof will be made, only that nothing is known to prevent it.
        """
        folder = self._folder(circuit)
        check_input(folder, ProvingFiles.of(folder.private).compiled, inputs, job_id, self._limits)

    def calldata(self, circuit: Circuit) -> bytes:
        """The calldata of a proof that the circuit's code accepts; made once and kept with the private files.

        Raises:
            CircuitError: C-… where no proof can be made, or the code refuses it.
        """
        kept = self._folder(circuit).private / "trial.call"
        if kept.exists():
            call = read_regular(kept, limit=_MAX_CALL)
            if _accepts(circuit, call):
                return call
        call = self._prove(circuit)
        if not _accepts(circuit, call):
            raise CircuitError(
                "C-trial", "the circuit's code refuses a proof made with its own key", where=str(circuit.circuit_id)
            )
        write_atomic(kept, call, mode=0o600)
        return call

    def _prove(self, circuit: Circuit) -> bytes:
        folder = self._folder(circuit)
        files = ProvingFiles.of(folder.private)
        with tempfile.TemporaryDirectory(prefix="opgate-trial-") as name:
            work = Path(name)
            witness_file = work / "witness.json"
            inputs = _trial_input(circuit)
            witness = make_witness(folder, files.compiled, inputs, _TRIAL_JOB, witness_file, self._limits)
            proved = prove(folder, files, witness_file, work, self._limits)
            return calldata(proved.proof, b"".join(word.to_bytes(32) for word in witness.instances))

    def _folder(self, circuit: Circuit) -> CircuitFolder:
        return CircuitFolder(self._circuits / str(circuit.circuit_id))


def _accepts(circuit: Circuit, call: bytes) -> bool:
    manifest = circuit.manifest
    cap = -(-int(manifest.evm.gas) * 5 // 4)
    return run_verifier(circuit.code, call, gas_cap=cap, revision=manifest.evm.revision).accepted


def _trial_input(circuit: Circuit) -> Tensors:
    """The least values that the circuit was certified for, or zeros."""
    certificates = (signed.record for signed in circuit.records if isinstance(signed.record, FidelityCertificate))
    least = {span.name: span.least for span in chain.from_iterable(record.domain for record in certificates)}
    manifest = circuit.manifest
    sizes = zip(manifest.inputs, manifest.wire_sizes, strict=True)
    return tuple(
        (least.get(spec.name, TensorInt(0)),) * spec.size + (TensorInt(1),) * (size - spec.size) for spec, size in sizes
    )
