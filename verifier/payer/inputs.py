"""A payer's input file: numbers of the model, quantised here into the integers that cross the wire."""

from __future__ import annotations

import secrets
from itertools import chain
from typing import TYPE_CHECKING, Any

from verifier.errors import VerifierError
from verifier.files import read_regular
from verifier.statement import canonical
from verifier.statement.manifest import BLIND_WORDS, JOB_LIMB_BITS
from verifier.statement.scalars import TensorInt
from verifier.tensors import quantise

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.statement.manifest import CircuitManifest

MAX_INPUT_BYTES = 4 << 20
Tensors = tuple[tuple[TensorInt, ...], ...]


def read_input(path: Path, manifest: CircuitManifest) -> Tensors:
    """The quantised tensors of a JSON file: EZKL's ``{"input_data": [[…], …]}``, or a list of tensors, nested or flat.

    A hashed input gets a fresh random blind at its end, as it crosses the wire.

    Raises:
        VerifierError: V0-file, V0-size, V5-input where the file does not fit the circuit, V5-tensor-… where a number
            does not.
    """
    raw = read_regular(path, limit=MAX_INPUT_BYTES)
    try:
        value = canonical.load_foreign(raw, where=str(path))
        tensors = value["input_data"] if isinstance(value, dict) else value
        flat = [list(_flatten(tensor)) for tensor in tensors]
    except (VerifierError, ValueError, KeyError, TypeError) as error:
        expected = '{"input_data": [[1.0, …]]}, one list a tensor'
        raise VerifierError(
            "V5-input", "the input file cannot be read", where=str(path), expected=expected, found=repr(error)[:200]
        ) from error
    sizes = [spec.size for spec in manifest.inputs]
    if [len(tensor) for tensor in flat] != sizes:
        raise VerifierError(
            "V5-input",
            "the input has another shape than the circuit's",
            where=str(path),
            expected=", ".join(f"{spec.name}: {list(map(int, spec.shape))}" for spec in manifest.inputs),
            found=f"{[len(tensor) for tensor in flat]} values",
        )
    quantised = tuple(
        quantise(tensor, scale=int(spec.scale), dtype=spec.dtype, bound=int(manifest.value_bound))
        for tensor, spec in zip(flat, manifest.inputs, strict=True)
    )
    return with_blind(quantised) if manifest.visibility == "hashed" else quantised


def with_blind(tensors: Tensors) -> Tensors:
    """The one tensor of a hashed input with a fresh blind at its end; never the same one twice."""
    blind = tuple(TensorInt(secrets.randbelow(1 << JOB_LIMB_BITS)) for _ in range(BLIND_WORDS))
    return ((*tensors[0], *blind),) if any(blind) else with_blind(tensors)


def encode_tensors(tensors: Tensors) -> bytes:
    """The canonical JSON of an upload: a list of tensors, each a list of decimal strings."""
    return canonical.encode([list(tensor) for tensor in tensors])


def decode_tensors(raw: bytes, *, where: str) -> Tensors:
    """The tensors of an upload; VerifierError V0-… for other bytes."""
    value = canonical.parse(raw, where=where, limit=MAX_INPUT_BYTES)
    if type(value) is not list or not all(type(tensor) is list for tensor in value):
        raise VerifierError("V0-schema", "this is no list of tensors", where=where, expected="a list of lists")
    try:
        return tuple(tuple(TensorInt.from_json(item) for item in tensor) for tensor in value)
    except (TypeError, ValueError) as error:
        raise VerifierError("V0-schema", "this is no list of tensors", where=where, found=str(error)[:200]) from error


def _flatten(value: Any) -> chain[Any]:
    if isinstance(value, list):
        return chain.from_iterable(_flatten(item) for item in value)
    return chain((value,))
