"""Quantisation against EZKL's own: random bits, ties, extremes, each dtype and scale; millions with OPGATE_LONG.

Whatever is quantised here is EZKL's integer. What is refused here, EZKL refuses too, or alters without a word: which of
the two, and why, is told for each case.
"""

from __future__ import annotations

import math
import os
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from verifier.errors import VerifierError
from verifier.statement.manifest import Dtype
from verifier.tensors import EZKL_BOUND, quantise

Oracle = Callable[..., list[object]]
CHUNK = 25_000
CHUNKS = 60 if os.environ.get("OPGATE_LONG") else 1
"""Of each float dtype and of the integers: 1.5 million values each in the long form."""
SCALES = (*range(25), 30, 40, 52, 53, 64, 100, 126, 127)
KINDS: dict[Dtype, str] = {"float32": "F32", "float64": "F64", "float16": "F16"}
WIDTHS: dict[Dtype, tuple[int, int]] = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**63 - 1),
}


def floats(chosen: random.Random, dtype: Dtype) -> Iterator[tuple[float, int]]:
    """Numbers and scales: everyday ones, every bit pattern, ties and their neighbours, the edges of i128."""
    narrow = {"float16": ("<e", "<H", 16), "float32": ("<f", "<I", 32), "float64": ("<d", "<Q", 64)}[dtype]
    while True:
        scale = chosen.choice(SCALES)
        tie = math.ldexp(chosen.randrange(-(2 ** chosen.randrange(1, 54)), 2**53) + 0.5, -scale)
        numbers = [
            chosen.uniform(-300, 300),
            struct.unpack(narrow[0], struct.pack(narrow[1], chosen.getrandbits(narrow[2])))[0],
            tie,
            math.nextafter(tie, chosen.choice((-math.inf, math.inf))),
            math.ldexp(chosen.choice((-1, 1)) * (1 + chosen.random()), chosen.randrange(-160, 130) - scale),
            math.ldexp(chosen.choice((-1, 1)), 127 - scale),
            math.nextafter(math.ldexp(1, 127 - scale), 0),
            chosen.choice((0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 65504.0, 65520.0, 3.4028236e38)),
        ]
        for number in numbers:
            if dtype == "float16" and not math.isnan(number) and abs(number) < 65520:
                # EZKL never rounds to float16: only numbers that are one already can be compared
                number = struct.unpack("<e", struct.pack("<e", number))[0]  # noqa: PLW2901 - the narrowed one
            yield number, scale


def ours(number: float | bool, scale: int, dtype: Dtype) -> str:
    try:
        return str(int(quantise([number], scale=scale, dtype=dtype)[0]))
    except VerifierError as error:
        return error.code


@pytest.mark.parametrize("dtype", KINDS)
def test_floats_are_quantised_as_ezkl_does(dtype: Dtype, ezkl_oracle: Oracle) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - other numbers each run; a failure names them
    chosen = random.Random(seed)  # noqa: S311 - the same
    stream, told = floats(chosen, dtype), Counter[str]()
    for _ in range(CHUNKS):
        cases = [next(stream) for _ in range(CHUNK)]
        answers = ezkl_oracle("quantise", [[number.hex(), scale, KINDS[dtype]] for number, scale in cases])
        for (number, scale), answer in zip(cases, answers, strict=True):
            mine, theirs = ours(number, scale, dtype), str(answer)
            if not mine.startswith("V5"):
                assert mine == theirs, (number.hex(), scale, seed)
            elif theirs.startswith("refused"):
                assert mine in {"V5-tensor-finite", "V5-tensor-bound"}, (number.hex(), scale, mine)
            elif math.isnan(number):
                assert (mine, theirs) == ("V5-tensor-finite", "0"), (number.hex(), scale)
            elif dtype == "float16" and mine == "V5-tensor-finite":
                assert abs(number) >= 65520, (number.hex(), scale)  # EZKL quantises what no float16 is
            else:
                # EZKL saturates at both ends of i128 without a word, and from there on tells no two numbers apart
                assert mine == "V5-tensor-bound", (number.hex(), scale, mine, theirs)
                assert abs(int(theirs)) >= EZKL_BOUND, (number.hex(), scale, theirs)
            told[mine if mine.startswith("V5") else "equal"] += 1
    assert told["equal"] > CHUNKS * CHUNK / 4, told
    assert {"V5-tensor-finite", "V5-tensor-bound"} <= set(told) or dtype == "float16", told


def integers(chosen: random.Random) -> Iterator[tuple[Dtype, float]]:
    """Integers around each width's ends and of all sizes, and fractions."""
    while True:
        dtype = chosen.choice(tuple(WIDTHS))
        low, high = WIDTHS[dtype]
        yield dtype, chosen.choice((low, high)) + chosen.randrange(-3, 4)
        yield dtype, chosen.randrange(low, high + 1)
        yield dtype, chosen.choice((-1, 1)) * chosen.getrandbits(chosen.randrange(1, 64))
        yield dtype, chosen.uniform(low, high)
        yield dtype, float(chosen.randrange(-(2**53), 2**53))


def test_integers_are_read_as_ezkl_does(ezkl_oracle: Oracle) -> None:
    """EZKL reads each integer through a double, cuts fractions off and knows no width: refused here, all three."""
    stream, told = integers(random.Random()), Counter[str]()  # noqa: S311 - other numbers each run
    for _ in range(CHUNKS):
        cases = [next(stream) for _ in range(CHUNK)]
        answers = ezkl_oracle("quantise", [[float(number).hex(), 0, "Int"] for _, number in cases])
        for (dtype, number), answer in zip(cases, answers, strict=True):
            mine, theirs = ours(number, 0, dtype), str(answer)
            low, high = WIDTHS[dtype]
            told[mine if mine.startswith("V5") else "equal"] += 1
            if not mine.startswith("V5"):
                assert mine == theirs, (dtype, number)
                assert low <= int(mine) <= high
            elif mine == "V5-tensor-integer":
                assert number != int(number)
                assert theirs == str(int(number))
            elif mine == "V5-tensor-range":
                assert not low <= int(number) <= high
            else:
                assert mine == "V5-tensor-precision", (dtype, number, mine)
                assert int(theirs) != number if not theirs.startswith("refused") else abs(number) > 2**53
    assert set(told) == {"equal", "V5-tensor-integer", "V5-tensor-range", "V5-tensor-precision"}, told


ROWS: dict[str, tuple[Dtype, list[float | bool]]] = {
    "FLOAT": ("float32", [0.5, -0.5, 0.1, -2.5, 2.0**24 + 1, 1 / 3, 255.0, -1e-30]),
    "DOUBLE": ("float64", [0.5, -0.5, 0.1, -2.5, 2.0**24 + 1, 1 / 3, 255.0, -1e-30]),
    "FLOAT16": ("float16", [0.5, -0.5, 1.5, -2.5, 0.0999755859375, 255.0]),
    "INT8": ("int8", [0, 1, -1, 127, -128]),
    "INT16": ("int16", [0, 1, -1, 2**15 - 1, -(2**15)]),
    "INT32": ("int32", [0, 1, -1, 2**31 - 1, -(2**31)]),
    "INT64": ("int64", [0, 1, -1, 2**40 + 1, -(2**40) - 1]),
    "UINT8": ("uint8", [0, 1, 255]),
    "UINT16": ("uint16", [0, 1, 2**16 - 1]),
    "UINT32": ("uint32", [0, 1, 2**32 - 1]),
    "UINT64": ("uint64", [0, 1, 2**40 + 1]),
    "BOOL": ("bool", [True, False, 1, 0, 1.0, 0.0]),
}
"""One circuit each: what goes in has to be what `float_to_felt` says, whatever the way into a circuit makes of it."""


def test_each_dtype_goes_into_a_circuit_as_it_is_quantised(ezkl_oracle: Oracle) -> None:
    answers = ezkl_oracle("witness", [[kind, 13, rows] for kind, (_, rows) in ROWS.items()])
    for (kind, (dtype, rows)), answer in zip(ROWS.items(), answers, strict=True):
        scale = 13 if dtype.startswith("float") else 0
        assert [str(int(value)) for value in quantise(rows, scale=scale, dtype=dtype)] == answer, kind


def test_no_dtype_of_a_manifest_is_left_out() -> None:
    assert {dtype for dtype, _ in ROWS.values()} == set(Dtype.__args__)  # type: ignore[attr-defined]  # a Literal
