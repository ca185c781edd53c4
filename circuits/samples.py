"""Samples for a model from EZKL's input.json, .npz or .csv; arrays of the model's shapes come out, or C-samples.

One sample is a tuple of arrays, one for each input of the model in graph order.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from circuits.model import Tensor
from circuits.nesting import check_nesting
from verifier.errors import CircuitError, OpgateError
from verifier.files import read_regular
from verifier.tensors import quantise

MAX_SAMPLE_BYTES = 256 << 20
MAX_SAMPLES = 100_000

Array = npt.NDArray[Any]
Sample = tuple[Array, ...]


def read_samples(path: Path, inputs: tuple[Tensor, ...]) -> tuple[Sample, ...]:
    """The samples of a file, by its ending.

    ``.json``: ``{"input_data": [[flat values of an input], …]}`` or a list of such objects; a flat list that is a
    multiple of the input's size holds that many samples. ``.npz``: an array per input name, or one array for one input;
    the first axis counts samples. ``.csv``: a row per sample, the inputs' values one after another; a first row of
    words is a header.

    Raises:
        CircuitError: C-samples.
    """
    try:
        raw = read_regular(path, limit=MAX_SAMPLE_BYTES)
    except OpgateError as error:
        raise _bad(path, str(error)) from error
    readers = {".json": _from_json, ".npz": _from_npz, ".csv": _from_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise _bad(path, f"the ending {path.suffix!r}; known are {', '.join(readers)}")
    try:
        columns = reader(raw, inputs)
        samples = tuple(_samples(columns, inputs))
    except OpgateError as error:
        raise _bad(path, str(error)) from error
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError, zipfile.BadZipFile) as error:
        raise _bad(path, f"{type(error).__name__}: {error}"[:300]) from error
    if not 0 < len(samples) <= MAX_SAMPLES:
        raise _bad(path, f"{len(samples)} samples")
    return samples


def ezkl_input(sample: Sample, job: tuple[int, ...] = (0,) * 11) -> str:
    """One sample as ezkl's inline input JSON, floats included, with the job limbs last: for building only.

    A job proves integers (`prover.witness`); here ezkl itself quantises, which the differential check then covers too.
    """
    return json.dumps({"input_data": [*(array.reshape(-1).tolist() for array in sample), list(job)]}, allow_nan=False)


def _from_json(raw: bytes, inputs: tuple[Tensor, ...]) -> list[list[Array]]:
    check_nesting(raw)
    value = json.loads(raw)
    objects = value if isinstance(value, list) else [value]
    columns: list[list[Array]] = [[] for _ in inputs]
    for each in objects:
        tensors = each["input_data"]
        if len(tensors) != len(inputs):
            raise ValueError(f"{len(tensors)} tensors in input_data, the model has {len(inputs)} inputs")
        for column, values in zip(columns, tensors, strict=True):
            column.append(np.asarray(values).reshape(-1))
    return columns


def _from_npz(raw: bytes, inputs: tuple[Tensor, ...]) -> list[list[Array]]:
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        if sum(each.file_size for each in archive.infolist()) > MAX_SAMPLE_BYTES:
            raise ValueError("the arrays are too large when unpacked")
    with np.load(BytesIO(raw), allow_pickle=False) as arrays:
        names = [tensor.name for tensor in inputs]
        if len(names) == 1 and names[0] not in arrays:
            if len(arrays.files) != 1:
                raise ValueError(f"no array {names[0]!r} among {arrays.files[:8]}")
            names = arrays.files
        return [[arrays[name].reshape(-1)] for name in names]


def _from_csv(raw: bytes, inputs: tuple[Tensor, ...]) -> list[list[Array]]:
    text = raw.decode("utf-8")
    first = text.split("\n", 1)[0].split(",")[0].strip().strip('"')
    header = 0 if _is_number(first) else 1
    table = np.loadtxt(StringIO(text), delimiter=",", skiprows=header, ndmin=2, dtype=np.float64)
    sizes = [tensor.size for tensor in inputs]
    if table.shape[1] != sum(sizes):
        raise ValueError(f"{table.shape[1]} columns, the model takes {sum(sizes)} values")
    edges = np.cumsum(sizes)[:-1]
    return [[part.reshape(-1)] for part in np.split(table, edges, axis=1)]


def _samples(columns: list[list[Array]], inputs: tuple[Tensor, ...]) -> Iterator[Sample]:
    flat = [np.concatenate(column) for column in columns]
    counts = {len(values) // tensor.size for values, tensor in zip(flat, inputs, strict=True)}
    if any(len(values) % tensor.size for values, tensor in zip(flat, inputs, strict=True)) or len(counts) != 1:
        found = [f"{tensor.name}: {len(values)} for {tensor.size}" for values, tensor in zip(flat, inputs, strict=True)]
        raise ValueError(f"the number of values fits no number of samples ({', '.join(found)})")
    for index in range(counts.pop()):
        yield tuple(
            _typed(values[index * tensor.size : (index + 1) * tensor.size], tensor)
            for values, tensor in zip(flat, inputs, strict=True)
        )


def _typed(values: Array, tensor: Tensor) -> Array:
    """The values in the model's type; NaN, infinities and lossy integers are refused as a payer's would be."""
    if values.dtype == object:
        raise ValueError(f"{tensor.name} holds something that is no number")
    quantise(values.tolist(), scale=0, dtype=tensor.dtype)  # type: ignore[arg-type] # a Dtype by construction
    return values.astype(tensor.dtype).reshape(tensor.shape)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _bad(path: Path, found: str) -> CircuitError:
    return CircuitError(
        "C-samples",
        "the samples cannot be read",
        where=str(path),
        expected="EZKL's input.json, .npz or .csv with whole samples of the model's inputs",
        found=found,
    )
