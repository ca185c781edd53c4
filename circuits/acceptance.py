"""A reader's own acceptance set: the float model against the circuit on samples that its owner never saw.

A model can be made so that it behaves in floats and misbehaves once quantised. The reader chooses the samples, signs
what was found, and its policy says how much is too much. Only the ONNX file is needed, no key and no proof.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from circuits import compare, ezkl_runner, fidelity
from circuits import settings as settings_module
from circuits.check.reading import read_with_samples
from circuits.ezkl_runner import Limits
from circuits.graph import circuit_graph
from circuits.model import MAX_ONNX_BYTES
from circuits.registry import CircuitFolder, read_onnx
from circuits.run_arguments import read_run_arguments
from verifier.errors import CircuitError
from verifier.files import read_regular
from verifier.statement import canonical
from verifier.statement.certificates import FidelityCertificate


def accept(folder: CircuitFolder, samples_file: Path, *, limits: Limits | None = None) -> FidelityCertificate:
    """Run every sample through the circuit and through the float model; the certificate of what was found.

    The circuit is compiled anew from ONNX file and run arguments, so that no file of the owner's is believed; its
    settings must be the manifest's.

    Raises:
        CircuitError: C-closed without the ONNX file; C-rebuild where it, the run arguments or the settings are not the
            manifest's; C-domain where the circuit does not take a sample; C-samples.
    """
    manifest = folder.manifest()
    if not folder.model.exists():
        raise CircuitError("C-closed", "without its ONNX file nobody can compare the circuit", where=str(folder.path))
    onnx = read_onnx(folder.model, limit=MAX_ONNX_BYTES)
    run_args = read_run_arguments(read_regular(folder.run_args, limit=1 << 16))
    bounds = limits or Limits()
    if (canonical.sha256(onnx), run_args.sha256) != (manifest.onnx_sha256, manifest.run_args_sha256):
        raise CircuitError("C-rebuild", "model or run arguments are not the manifest's", where=str(folder.path))
    model, samples, floats = read_with_samples(onnx, samples_file, split=False)
    with tempfile.TemporaryDirectory(prefix="opgate-accept-") as name:
        work = Path(name)
        graph, settings, compiled = (work / each for each in ("job.onnx", "settings.json", "model.compiled"))
        graph.write_bytes(circuit_graph(model, run_args.visibility))
        settings.write_bytes(settings_module.generate(graph, run_args, work, bounds))
        if canonical.sha256(settings.read_bytes()) != manifest.settings_sha256:
            raise CircuitError("C-rebuild", "the circuit is not what its model gives", where="settings.json")
        ezkl_runner.require([ezkl_runner.compile_model(graph, settings, compiled)], bounds)
        witnesses = compare.witnesses_of(manifest, compiled, samples)
        scales = [int(spec.scale) for spec in manifest.outputs]
        found = fidelity.compare(witnesses, [floats.run(sample) for sample in samples], scales)
        accepted = compare.accept(manifest, compiled, floats, samples)
    sizes = [spec.size for spec in manifest.inputs]
    seen = [tuple(tensor[:size] for tensor, size in zip(each.inputs, sizes, strict=False)) for each in witnesses]
    return fidelity.certify(
        circuit_id=manifest.circuit_id,
        fidelity=found,
        samples=samples,
        domain=fidelity.value_ranges([spec.name for spec in manifest.inputs], seen),
        outputs=fidelity.value_ranges([spec.name for spec in manifest.outputs], [each.outputs for each in witnesses]),
        headroom_bits=0,
        rewrites=model.rewrites,
        acceptance=accepted,
    )
