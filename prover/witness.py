"""From a payer's integers and a job id to a witness, checked before anything is proved: what admission runs too.

A lookup input outside its table makes a witness and then a proof that never ends; both ends are compared here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from circuits import ezkl_runner
from circuits.ezkl_runner import Limits, Witness
from circuits.graph import raw_input
from circuits.registry import CircuitFolder
from circuits.run_arguments import read_run_arguments
from circuits.settings import read_settings
from verifier.errors import CircuitError
from verifier.files import read_regular
from verifier.statement import canonical
from verifier.statement.manifest import CircuitManifest
from verifier.statement.scalars import Bytes32, TensorInt
from verifier.tensors import job_limbs

Tensors = tuple[tuple[TensorInt, ...], ...]

_MAX_SETTINGS = 32 << 20


def check_input(folder: CircuitFolder, compiled: Path, inputs: Tensors, job_id: Bytes32, limits: Limits) -> Tensors:
    """Whether the circuit can take this input for this job; gives the outputs that a proof would show.

    Raises:
        CircuitError: as `make_witness`.
    """
    with tempfile.TemporaryDirectory(prefix="opgate-witness-") as name:
        return make_witness(folder, compiled, inputs, job_id, Path(name) / "witness.json", limits).outputs


def make_witness(  # noqa: PLR0913, PLR0917 - what a witness is made of, and where it goes
    folder: CircuitFolder, compiled: Path, inputs: Tensors, job_id: Bytes32, witness_file: Path, limits: Limits
) -> Witness:
    """Run the circuit on the integers and the job's limbs, as raw field elements, in a child; no float ever enters.

    Args:
        folder: the circuit, whose settings and run arguments must be the manifest's.
        compiled: ezkl's compiled model.
        inputs: one tuple of integers a tensor, in the manifest's order; a hashed one ends with its blind.
        job_id: the job.
        witness_file: where ezkl's witness goes.
        limits: of the child.

    Raises:
        CircuitError: C-input-shape, C-input-range for inputs that the circuit does not have; C-input where ezkl refuses
            them; C-lookup where one would leave a lookup's table; C-witness where the witness is about other inputs.
    """
    manifest = folder.manifest()
    _check_tensors(inputs, manifest)
    limbs = job_limbs(job_id)
    tensors = [[value.to_field() for value in tensor] for tensor in (*inputs, limbs)]
    outcome = ezkl_runner.run([ezkl_runner.gen_witness(raw_input(tensors), compiled, witness_file)], limits)[0]
    if isinstance(outcome, ezkl_runner.Failure):
        raise CircuitError(
            "C-input",
            "the circuit does not take this input",
            where=str(manifest.circuit_id),
            expected="an input within the domain of the fidelity certificate",
            found=ezkl_runner.cause(outcome),
        )
    witness = ezkl_runner.read_witness(outcome)
    _check_lookups(folder, manifest, witness)
    if witness.inputs != (*inputs, limbs):
        raise CircuitError("C-witness", "ezkl made a witness of other inputs", where=str(manifest.circuit_id))
    if [len(tensor) for tensor in witness.outputs] != [spec.size for spec in manifest.outputs]:
        raise CircuitError("C-witness", "the witness has other outputs than the manifest")
    return witness


def _check_tensors(inputs: Tensors, manifest: CircuitManifest) -> None:
    """Ezkl ignores surplus inputs silently and panics on missing ones: the shape is compared here."""
    bound, specs = int(manifest.value_bound), manifest.inputs
    sizes, wanted = tuple(len(tensor) for tensor in inputs), manifest.wire_sizes
    if sizes != wanted:
        raise CircuitError(
            "C-input-shape", "the input is not the circuit's", where="inputs", expected=f"{wanted}", found=f"{sizes}"
        )
    for spec, tensor in zip(specs, inputs, strict=True):
        if any(abs(value) > bound for value in tensor):
            raise CircuitError(
                "C-input-range",
                "a value is beyond the circuit's bound",
                where=str(spec.name),
                expected=f"|v| <= {bound}",
            )


def _check_lookups(folder: CircuitFolder, manifest: CircuitManifest, witness: Witness) -> None:
    raw = read_regular(folder.settings, limit=_MAX_SETTINGS)
    run_args = read_run_arguments(read_regular(folder.run_args, limit=1 << 16))
    if canonical.sha256(raw) != manifest.settings_sha256 or run_args.sha256 != manifest.run_args_sha256:
        raise CircuitError("C-registry", "settings or run arguments are not the manifest's", where=str(folder.path))
    if not read_settings(raw).required_lookups:
        return
    if witness.min_lookup < run_args.lookup_min or witness.max_lookup > run_args.lookup_max:
        raise CircuitError(
            "C-lookup",
            "the input leads a lookup out of its table: a proof of it would never end",
            where=str(manifest.circuit_id),
            expected=f"{run_args.lookup_min} to {run_args.lookup_max}",
            found=f"{witness.min_lookup} to {witness.max_lookup}",
        )
