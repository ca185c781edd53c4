"""ezkl's settings in one canonical form, and the few of their fields that opgate reads.

gen_settings differs from run to run in its timestamp and in the order of two arrays, and that order changes the
verifying key. Canonical: timestamp 0, these arrays sorted, keys sorted; then settings, vk and pk are the same bytes
each time.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec

from circuits import ezkl_runner
from circuits.nesting import check_nesting
from circuits.run_arguments import RunArguments
from verifier.errors import CircuitError

MAX_SETTINGS_BYTES = 32 << 20
_UNORDERED = ("required_range_checks", "required_lookups")


class ModuleSizes(msgspec.Struct, frozen=True, kw_only=True):
    """Of ezkl's Poseidon module: the rows that it takes, and how many instances it shows."""

    poseidon: tuple[int, tuple[int, ...]]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of the settings. Instance shapes are in the order of the instances: inputs, then outputs.

    Hashed inputs are not among them: `module_sizes` counts the rows of the hashes and the hashes.
    """

    run_args: dict[str, Any]
    num_rows: int
    total_assignments: int
    total_const_size: int
    total_dynamic_col_size: int
    num_dynamic_lookups: int
    num_shuffles: int
    total_shuffle_col_size: int
    model_instance_shapes: tuple[tuple[int, ...], ...]
    model_output_scales: tuple[int, ...]
    model_input_scales: tuple[int, ...]
    required_lookups: tuple[Any, ...]
    module_sizes: ModuleSizes
    required_range_checks: tuple[tuple[int, int], ...]
    input_types: tuple[str, ...]
    version: str

    @property
    def instances(self) -> int:
        """The number of instance words."""
        return self.hashes + sum(math.prod(shape) for shape in self.model_instance_shapes)

    @property
    def hashes(self) -> int:
        """The number of input tensors that are hashed; 0 where inputs are public."""
        return sum(self.module_sizes.poseidon[1])

    @property
    def hash_rows(self) -> int:
        """The rows that the hashes take."""
        return self.module_sizes.poseidon[0]


def canonical_settings(raw: bytes) -> bytes:
    """The canonical bytes of settings as ezkl wrote them; CircuitError C-settings where they are none."""
    try:
        check_nesting(raw)
        value = json.loads(raw)
        value["timestamp"] = 0
        for name in _UNORDERED:
            value[name].sort(key=lambda item: json.dumps(item, sort_keys=True))
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CircuitError("C-settings", "these are no ezkl settings", found=repr(error)[:200]) from error


def read_settings(raw: bytes) -> Settings:
    """The fields that opgate reads; CircuitError C-settings."""
    try:
        check_nesting(raw)
        return msgspec.json.decode(raw, type=Settings)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CircuitError("C-settings", "these are no ezkl settings", found=str(error)[:200]) from error


def generate(
    model: Path, run_args: RunArguments, folder: Path, limits: ezkl_runner.Limits = ezkl_runner.DEFAULT_LIMITS
) -> bytes:
    """The canonical settings of a model under run arguments, by ezkl in a child with one thread.

    With two threads ezkl counted a row more or fewer in 3 of 25 runs of a convolutional model, with one in none of 25.

    Raises:
        CircuitError: C-ezkl and the runner's; C-nondeterministic where two runs differ beyond order and time: nobody
            could rebuild such a circuit.
    """
    seen = set()
    alone = msgspec.structs.replace(limits, threads=1)
    for turn in range(2):
        path = folder / f"settings-{turn}.json"
        ezkl_runner.require([ezkl_runner.gen_settings(model, path, run_args.to_ezkl())], alone)
        raw = path.read_bytes()
        if len(raw) > MAX_SETTINGS_BYTES:
            raise CircuitError("C-size", "the settings are too large", expected=f"at most {MAX_SETTINGS_BYTES} bytes")
        seen.add(canonical_settings(raw))
    if len(seen) != 1:
        raise CircuitError(
            "C-nondeterministic",
            "ezkl lays this model out in another way at each run, so that nobody could rebuild the circuit",
            where="gen_settings",
            do="Cut the part that is laid out differently (attention, einsum over many axes) out of the model.",
        )
    return seen.pop()
