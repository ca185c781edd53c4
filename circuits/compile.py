"""From a model, run arguments and an SRS to the whole circuit: settings, keys, verifier code, manifest.

Building and rebuilding both go through here, and nothing that comes out depends on samples, costs, folder, thread
count or time. The figures that need a proof (its length and gas) are taken from the proof of a fixed probe input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from circuits import ezkl_runner, solidity, srs
from circuits import settings as settings_module
from circuits.ezkl_runner import Limits, Outcome, Witness
from circuits.graph import circuit_graph, raw_input
from circuits.model import Model
from circuits.run_arguments import RunArguments
from circuits.settings import Settings
from verifier.errors import CircuitError
from verifier.evm import run_verifier
from verifier.instances import calldata
from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.manifest import (
    BLIND_WORDS,
    JOB_LIMBS,
    MAX_CODE_BYTES,
    MAX_INSTANCES,
    MAX_PROOF_BYTES,
    CircuitManifest,
    EvmVerifier,
    TensorSpec,
)
from verifier.statement.scalars import Count, FieldElement, Text
from verifier.verify import MAX_GAS

EZKL_VERSION = "23.0.5"
PROBE_GAS = 25_000_000
_PROBES: tuple[Callable[[int], int], ...] = (
    lambda _: 0,
    lambda index: (index * 37 + 11) % 64,
    lambda index: (index * 3701 + 1009) % 4096,
    lambda index: 1 << 12 if index % 2 else 1 << 11,
)
"""Fixed inputs by the index of a value: zeros first; a variance or a logarithm needs others."""


class Files(NamedTuple):
    """Where a circuit's files lie in its folder; the last two and the full SRS are private."""

    folder: Path

    @property
    def model(self) -> Path:
        """The graph with the job input, as ezkl takes it."""
        return self.folder / "job.onnx"

    @property
    def settings(self) -> Path:
        """Canonical settings."""
        return self.folder / "settings.json"

    @property
    def vk(self) -> Path:
        """The verifying key."""
        return self.folder / "vk.key"

    @property
    def srs_k1(self) -> Path:
        """The SRS that a verifier needs."""
        return self.folder / "kzg1.srs"

    @property
    def solidity(self) -> Path:
        """The verifier's source as ezkl writes it."""
        return self.folder / "verifier.sol"

    @property
    def compiled(self) -> Path:
        """The compiled model: private."""
        return self.folder / "model.compiled"

    @property
    def pk(self) -> Path:
        """The proving key: it is the model, private."""
        return self.folder / "pk.key"


class Keys(NamedTuple):
    """A circuit that has keys and code, but no manifest yet."""

    files: Files
    settings: Settings
    code: bytes
    setup: Outcome


class Compiled(NamedTuple):
    """A whole circuit and what making its probe proof cost."""

    keys: Keys
    manifest: CircuitManifest
    prove: Outcome


def make_keys(  # noqa: PLR0913 - a circuit's sources, and where it goes
    model: Model, run_args: RunArguments, srs_file: Path, folder: Path, limits: Limits, *, with_code: bool = True
) -> Keys:
    """Settings, compiled model, both keys, Solidity and runtime code in a folder that must be private.

    Without code where only the cost of a proof is asked; `make_code` adds it.

    Raises:
        CircuitError: the runner's and solc's; C-version where the installed ezkl is another one.
    """
    files = Files(folder)
    files.model.write_bytes(circuit_graph(model, run_args.visibility))
    files.settings.write_bytes(settings_module.generate(files.model, run_args, folder, limits))
    settings = settings_module.read_settings(files.settings.read_bytes())
    if settings.version != EZKL_VERSION:
        raise CircuitError("C-version", "another ezkl is installed", expected=EZKL_VERSION, found=settings.version)
    files.srs_k1.write_bytes(srs.derive_k1(srs_file))
    ezkl_runner.require([ezkl_runner.compile_model(files.model, files.settings, files.compiled)], limits)
    setup = ezkl_runner.setup(files.compiled, srs_file, vk=files.vk, pk=files.pk, limits=limits)
    for private in (files.pk, files.compiled):
        private.chmod(0o600)
    keys = Keys(files, settings, b"", setup)
    return make_code(keys, limits) if with_code else keys


def make_code(keys: Keys, limits: Limits) -> Keys:
    """The runtime code of keys: from verifying key, settings and the k = 1 SRS alone."""
    files = keys.files
    ezkl_runner.create_evm_verifier(
        vk=files.vk, settings=files.settings, srs=files.srs_k1, solidity=files.solidity, limits=limits
    )
    return keys._replace(code=solidity.compile_runtime(files.solidity))


def finish(model: Model, run_args: RunArguments, srs_file: Path, keys: Keys, limits: Limits) -> Compiled:
    """Prove the probe, run it through the code, and write down the manifest.

    Whether an escrow could take the circuit is `check_closable`'s question.

    Raises:
        CircuitError: C-probe where no probe input can be proved, C-code where the code refuses an honest proof,
            C-manifest where the circuit is outside what a manifest can say.
    """
    files, settings = keys.files, keys.settings
    blind = BLIND_WORDS if run_args.visibility == "hashed" else 0
    witness = _probe_witness([tensor.size + blind for tensor in model.inputs], keys, limits)
    proof_file = files.folder / "probe.proof"
    done = ezkl_runner.prove(
        witness=files.folder / "probe.witness",
        compiled=files.compiled,
        pk=files.pk,
        srs=srs_file,
        proof=proof_file,
        limits=limits,
    )
    proof = read_proof(proof_file)
    gas = measure_gas(keys.code, proof, witness)
    stated = re.search(rb"eq\(0x([0-9a-f]+), proof\.length\)", files.solidity.read_bytes())
    if stated is None or int(stated[1], 16) != len(proof):
        raise CircuitError("C-code", "the code asks for another proof length than the proof has", found=str(len(proof)))
    try:
        manifest = CircuitManifest(
            ezkl_version=Text(EZKL_VERSION),
            onnx_sha256=canonical.sha256(model.source),
            run_args_sha256=run_args.sha256,
            settings_sha256=canonical.sha256(files.settings.read_bytes()),
            vk_sha256=canonical.sha256(files.vk.read_bytes()),
            srs=srs.srs_digest(srs_file),
            visibility=run_args.visibility,
            inputs=tuple(_inputs(model, settings)),
            outputs=tuple(_outputs(model, settings)),
            n_instances=Count(settings.instances),
            proof_len=Count(len(proof)),
            value_bound=run_args.value_bound,
            evm=EvmVerifier(
                solc=solidity.SOLC, revision=solidity.REVISION, code_hash=keccak256(keys.code), gas=Count(gas)
            ),
        )
        canonical.decode(CircuitManifest, canonical.encode(manifest), where="manifest.json")
    except ValueError as error:
        raise CircuitError("C-manifest", "no manifest can describe this circuit", found=str(error)) from error
    return Compiled(keys, manifest, done)


def check_closable(manifest: CircuitManifest, code: bytes) -> None:
    """Refuse a circuit that no chain would hold or no escrow would take: C-closable."""
    expected = {"code": MAX_CODE_BYTES, "instances": MAX_INSTANCES, "proof": MAX_PROOF_BYTES, "gas": MAX_GAS}
    found = {
        "code": len(code),
        "instances": int(manifest.n_instances),
        "proof": int(manifest.proof_len),
        "gas": int(manifest.evm.gas),
    }
    if any(found[name] > expected[name] for name in expected):
        raise CircuitError(
            "C-closable",
            "the escrow could not take a proof of this circuit",
            expected=", ".join(f"{name} <= {value}" for name, value in expected.items()),
            found=", ".join(f"{name} {value}" for name, value in found.items()),
            do="Make the model smaller, ask for less --fidelity, or build with --target offchain, not to be sold.",
        )


def read_proof(path: Path) -> bytes:
    """The proof's bytes from ezkl's file. Nothing else of that file is believed; CircuitError C-proof."""
    try:
        return bytes(json.loads(path.read_bytes())["proof"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CircuitError("C-proof", "ezkl wrote no proof", where=path.name, found=repr(error)[:200]) from error


def measure_gas(code: bytes, proof: bytes, witness: Witness) -> int:
    """The gas of one accepted verification in the pinned revision; CircuitError C-code where the code refuses."""
    words = b"".join(word.to_bytes(32) for word in witness.instances)
    answer = run_verifier(code, calldata(proof, words), gas_cap=PROBE_GAS, revision=solidity.REVISION)
    if not answer.accepted:
        raise CircuitError(
            "C-code", "the verifier's code refuses an honest proof", expected="instances: inputs | job limbs | outputs"
        )
    return answer.gas


def _probe_witness(sizes: list[int], keys: Keys, limits: Limits) -> Witness:
    """The witness of the first fixed input that the circuit takes and whose constraints hold."""
    files = keys.files
    failure = None
    for probe in _PROBES:
        tensors = [[FieldElement(probe(index)) for index in range(size)] for size in sizes]
        tensors.append([FieldElement(0)] * JOB_LIMBS)
        witness = files.folder / "probe.witness"
        operations = [
            ezkl_runner.gen_witness(raw_input(tensors), files.compiled, witness),
            ezkl_runner.mock(witness, files.compiled),
        ]
        outcomes = ezkl_runner.run(operations, limits)
        if isinstance(outcomes[-1], Outcome) and isinstance(outcomes[0], Outcome):
            return ezkl_runner.read_witness(outcomes[0])
        failure = outcomes[-1]
    found = ezkl_runner.cause(failure) if isinstance(failure, ezkl_runner.Failure) else ""
    raise CircuitError("C-probe", "the circuit takes none of the fixed probe inputs", found=found)


def _inputs(model: Model, settings: Settings) -> Iterator[TensorSpec]:
    offset = 0
    hashed = settings.hashes > 0
    shapes = [(tensor.size,) for tensor in model.inputs] if hashed else settings.model_instance_shapes
    if hashed and settings.hashes != len(model.inputs) + 1:
        raise CircuitError("C-layout", "ezkl hashes other inputs than the graph has", found=str(settings.hashes))
    if len(settings.model_input_scales) != len(model.inputs) + 1 or settings.model_input_scales[-1] != 0:
        raise CircuitError(
            "C-layout", "ezkl sees other inputs than the graph has", found=str(settings.model_input_scales)
        )
    for tensor, scale, shape in zip(model.inputs, settings.model_input_scales[:-1], shapes, strict=False):
        if _size(shape) != tensor.size:
            raise CircuitError("C-layout", "ezkl gives an input another size", where=tensor.name, found=str(shape))
        yield TensorSpec(
            name=Text(tensor.name),
            shape=tuple(Count(axis) for axis in tensor.shape),
            dtype=tensor.dtype,  # type: ignore[arg-type] # one of Dtype by construction of Tensor
            scale=Count(scale),
            offset=Count(offset),
            length=Count(1 if hashed else tensor.size),
        )
        offset += tensor.size


def _outputs(model: Model, settings: Settings) -> Iterator[TensorSpec]:
    shapes, scales = list(settings.model_instance_shapes), list(settings.model_output_scales)
    if settings.hashes:
        offset, limbs = settings.hashes, shapes.pop()
        if scales.pop() != 0:
            raise CircuitError("C-layout", "ezkl scales the job limbs that the circuit shows")
    else:
        inputs, shapes = shapes[: len(model.inputs) + 1], shapes[len(model.inputs) + 1 :]
        offset, limbs = sum(_size(shape) for shape in inputs), inputs[-1]
    if limbs != (1, JOB_LIMBS) or len(shapes) != len(model.output_names):
        expected = "hashes | outputs | job limbs" if settings.hashes else "inputs | job limbs | outputs"
        raise CircuitError(
            "C-layout",
            "the instances are in another order",
            expected=expected,
            found=str(settings.model_instance_shapes),
        )
    for name, dtype, scale, shape in zip(model.output_names, model.output_dtypes, scales, shapes, strict=True):
        yield TensorSpec(
            name=Text(name),
            shape=tuple(Count(axis) for axis in shape),
            dtype=dtype,  # type: ignore[arg-type] # one of Dtype by construction of Model
            scale=Count(scale),
            offset=Count(offset),
            length=Count(_size(shape)),
        )
        offset += _size(shape)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for axis in shape:
        size *= axis
    return size
