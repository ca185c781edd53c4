"""The graph that ezkl gets for a model and a visibility, and one sample as ezkl's input for it.

Public inputs: the model's graph with the job id as a further input. Hashed inputs: one flat input ``[x || blind]``, of
which x is sliced off inside, and the job id, which also leaves as the last output: ezkl hashes whole classes of
tensors, so the job's words would be hidden too. Without the blind a low-entropy input could be guessed from its hash.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from circuits import ezkl_runner
from circuits.model import Model
from circuits.samples import Sample
from verifier.errors import CircuitError
from verifier.statement.manifest import BLIND_WORDS, JOB_LIMB_BITS, JOB_LIMBS, Visibility
from verifier.statement.scalars import FieldElement

TRIAL_JOB = tuple((1 << JOB_LIMB_BITS) - 1 - index for index in range(JOB_LIMBS))
"""Job limbs while a circuit is built: large ones, since small ones would fit any bound."""
_TRIAL_BLIND = tuple((1 << JOB_LIMB_BITS) - 101 - index for index in range(BLIND_WORDS))


def circuit_graph(model: Model, visibility: Visibility) -> bytes:
    """The ONNX bytes that ezkl compiles; they depend on the model's bytes, the visibility and onnx's version only.

    Raises:
        CircuitError: C-hashed-inputs where inputs are to be hashed and the model has several; C-onnx-name where a name
            of the model begins as ours do.
    """
    if visibility == "public":
        return model.with_job
    if len(model.inputs) != 1:
        raise CircuitError(
            "C-hashed-inputs",
            "a circuit with hashed inputs has one input tensor",
            expected="1 input",
            found=f"{len(model.inputs)}: {', '.join(tensor.name for tensor in model.inputs)}"[:200],
            do="Join the inputs to one tensor in the model and split it there, or build with --inputs public.",
        )
    if not model.with_blind:
        raise CircuitError(
            "C-onnx-name",
            "a tensor of the model has a name that begins as ours do",
            expected="no name that begins with opgate_",
            do="Rename the tensor, or build with --inputs public.",
        )
    return model.with_blind


def sample_input(
    sample: Sample, visibility: Visibility, job: tuple[int, ...] = TRIAL_JOB, blind: tuple[int, ...] = _TRIAL_BLIND
) -> str:
    """One sample as ezkl's inline input, floats included, for building only: ezkl itself quantises them here.

    What a payer would send is compared with what ezkl made of it (`build`); a job proves integers (`raw_input`).
    """
    tensors: list[list[object]] = [array.reshape(-1).tolist() for array in sample]
    if visibility == "hashed":
        tensors[0].extend(ezkl_runner.to_hex(value) for value in blind)
    return json.dumps({"input_data": [*tensors, list(job)]}, allow_nan=False)


def raw_input(tensors: Sequence[Sequence[FieldElement]]) -> str:
    """Ezkl's inline input of integers, as 64-digit hex that goes in unscaled; the job limbs are its last tensor."""
    return json.dumps({"input_data": [[ezkl_runner.to_hex(value) for value in tensor] for tensor in tensors]})
