"""Tensors: quantised as EZKL does or refused, one word for each value, and back."""

import math
import random
import struct
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.errors import VerifierError
from verifier.keccak import keccak256
from verifier.poseidon import poseidon_hash
from verifier.statement.scalars import FIELD_MODULUS, Bytes32, FieldElement, TensorInt
from verifier.tensors import (
    EZKL_BOUND,
    dequantise,
    from_words,
    job_limbs,
    quantise,
    to_words,
    words_hash,
)

Oracle = Callable[..., list[object]]
FLOAT_KINDS = {"float32": "F32", "float64": "F64"}
TENSOR_INTS = st.integers(-(FIELD_MODULUS // 2), FIELD_MODULUS // 2).map(TensorInt)

SPECIAL = [
    0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 0.1, -0.1, 1 / 3, 1 / 255, 255.0,
    math.nextafter(0.5, 0), math.nextafter(0.5, 1), math.nextafter(-0.5, 0), math.nextafter(1.5, 0),
    2.0**-14, 2.0**-15, -(2.0**-14), math.nextafter(2.0**-14, 0), 1.5 * 2.0**-13,
    2.0**24 - 1, 2.0**24 + 1, -(2.0**24) - 1, 2.0**24 + 3, 2.0**31 + 1, 2.0**52 + 1, 2.0**53 - 1, 0.5 + 2.0**51,
    5e-324, -5e-324, 2.0**-149, 2.0**-150, 1.5 * 2.0**-150, 2.0**-1022, 1.1754942e-38,
    1e10, -1e15, 1e20, 2.0**100, -(2.0**100),
]  # fmt: skip
"""Halves of both signs and their neighbours, -0.0, subnormals of both widths, where float32 loses integers, large."""


def code_of(**arguments: object) -> str:
    with pytest.raises(VerifierError) as refusal:
        quantise(**arguments)  # type: ignore[arg-type]  # wrong arguments are the point
    assert len(str(refusal.value)) < 500
    return refusal.value.code


@pytest.mark.parametrize(
    ("value", "scale", "dtype", "integer"),
    [
        (0.5, 0, "float32", 1),
        (-0.5, 0, "float32", -1),
        (2.5, 0, "float64", 3),
        (-2.5, 0, "float64", -3),
        (math.nextafter(0.5, 0), 0, "float64", 0),
        (math.nextafter(0.5, 0), 0, "float32", 1),
        (-0.0, 13, "float32", 0),
        (5e-324, 100, "float64", 0),
        (0.1, 13, "float32", 819),
        (0.1, 30, "float32", 107374184),
        (0.1, 30, "float64", 107374182),
        (0.1, 30, "float16", 107347968),
        (2**24 + 1, 0, "float32", 2**24),
        (2**24 + 1, 0, "float64", 2**24 + 1),
        (2.0**52 + 1, 0, "float64", 2**52 + 1),
        (2.0**126, 0, "float64", 2**126),
        (True, 0, "bool", 1),
        (1.0, 0, "bool", 1),
        (-3.0, 0, "int64", -3),
        (-128, 0, "int8", -128),
        (2**62, 0, "uint64", 2**62),
        (-(2**63), 0, "int64", -(2**63)),
    ],
)
def test_literal_values(value: float, scale: int, dtype: str, integer: int) -> None:
    """Trap: half to even, floor(|x| + 0.5), or float32's rounding left out or applied to a double."""
    assert quantise([value], scale=scale, dtype=dtype) == (integer,)  # type: ignore[arg-type]  # str of the table
    assert type(quantise([value], scale=scale, dtype=dtype)[0]) is TensorInt  # type: ignore[arg-type]  # as above


def test_equals_ezkl_on_special_and_random_floats(ezkl_oracle: Oracle) -> None:
    """Every float is either quantised to EZKL's integer or refused, and what EZKL refuses is refused."""
    draw = random.Random(7)  # noqa: S311 - reproducible cases, not a secret
    numbers = [*SPECIAL, 2.0**126, 2.0**128, -(2.0**128), 3.4028235e38, 1e39, 1e300, math.inf, -math.inf]
    numbers += [draw.uniform(-300, 300) for _ in range(300)]
    numbers += [draw.randrange(-4096, 4096) / 2 ** draw.randrange(16) for _ in range(300)]
    numbers += [math.ldexp(draw.uniform(-1, 1), draw.randrange(-160, 120)) for _ in range(300)]
    cases = [(number, scale, dtype) for number in numbers for scale in (0, 7, 13, 20) for dtype in FLOAT_KINDS]
    answers = ezkl_oracle("quantise", [[number.hex(), scale, FLOAT_KINDS[dtype]] for number, scale, dtype in cases])
    for (number, scale, dtype), answer in zip(cases, answers, strict=True):
        if str(answer).startswith("refused"):
            assert code_of(values=[number], scale=scale, dtype=dtype) in {"V5-tensor-finite", "V5-tensor-bound"}
        else:
            assert [str(int(v)) for v in quantise([number], scale=scale, dtype=dtype)] == [answer], (number, scale)  # type: ignore[arg-type]  # str of the table


def test_equals_ezkl_on_float16_values(ezkl_oracle: Oracle) -> None:
    """EZKL never rounds to float16; on numbers that are float16 already it must not matter."""
    draw = random.Random(16)  # noqa: S311 - reproducible cases, not a secret
    patterns = [*range(0, 0x7C00, 97), 1, 0x3FF, 0x400, 0x7BFF, *(draw.randrange(0x7C00) for _ in range(200))]
    halves = [struct.unpack("<e", struct.pack("<H", p | sign << 15))[0] for p in patterns for sign in (0, 1)]
    answers = ezkl_oracle("quantise", [[half.hex(), 13, "F16"] for half in halves])
    assert answers == [str(int(v)) for v in quantise(halves, scale=13, dtype="float16")]


def test_equals_ezkl_on_integers(ezkl_oracle: Oracle) -> None:
    integers = [0, 1, -1, 127, -128, 2**31, 2**53, -(2**53), 2**53 + 2, 2**62, -(2**63)]
    answers = ezkl_oracle("quantise", [[float(number).hex(), 0, "Int"] for number in integers])
    assert answers == [str(int(v)) for v in quantise(integers, scale=0, dtype="int64")]


def test_ezkl_alters_quietly_what_is_refused_here(ezkl_oracle: Oracle) -> None:
    """The reasons for four refusals, held against the wheel: should EZKL mend one, this says so."""
    cases = [
        (math.nan, 0, "F32", "0", "float32", "V5-tensor-finite"),
        (0.7, 0, "Int", "0", "int64", "V5-tensor-integer"),
        (-0.7, 0, "Bool", "0", "bool", "V5-tensor-integer"),
        (2.0**127, 0, "F64", str(2**127 - 1), "float64", "V5-tensor-bound"),
    ]
    answers = ezkl_oracle("quantise", [[number.hex(), scale, kind] for number, scale, kind, *_ in cases])
    assert answers == [answer for _, _, _, answer, _, _ in cases]
    for number, scale, _, _, dtype, code in cases:
        assert code_of(values=[number], scale=scale, dtype=dtype) == code


def test_equals_the_inputs_of_a_circuit(ezkl_oracle: Oracle) -> None:
    """Trap: `float_to_felt` and the way into a circuit part, or an integer input takes the scale of the floats."""
    floats = [0.5, -0.5, 0.1, -2.5, 2.0**24 + 1, 1 / 3, 255.0, 1.5 * 2.0**-14, -1e-30, 3.0]
    whole = [0, 1, -1, 127, 2**24 - 1, 2**24 + 1, -(2**24), 2**40 + 1]
    answers = ezkl_oracle(
        "witness",
        [["FLOAT", 13, floats], ["DOUBLE", 13, floats], ["INT64", 13, whole], ["INT32", 13, whole[:-1]]],
    )
    ours = [
        quantise(floats, scale=13, dtype="float32"),
        quantise(floats, scale=13, dtype="float64"),
        quantise(whole, scale=0, dtype="int64"),
        quantise(whole[:-1], scale=0, dtype="int32"),
    ]
    assert answers == [[str(int(value)) for value in row] for row in ours]


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30), st.integers(0, 24))
def test_quantising_a_double_is_exact_rounding(number: float, scale: int) -> None:
    """Against exact fractions: the nearest integer, and of two equally near the one farther from zero."""
    exact = abs(Fraction(number) * 2**scale)
    (integer,) = quantise([number], scale=scale, dtype="float64")
    nearest = math.floor(exact + Fraction(1, 2))
    assert integer == (nearest if number >= 0 else -nearest)
    assert quantise([-number], scale=scale, dtype="float64") == (-integer,)


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6), st.integers(0, 20))
def test_a_float32_is_quantised_alike_as_float32_and_as_float64(number: float, scale: int) -> None:
    narrow = quantise([number], scale=scale, dtype="float32")
    assert narrow == quantise([number], scale=scale, dtype="float64")
    assert abs(dequantise(narrow, scale)[0] - number) <= 0.5 / 2**scale


@pytest.mark.parametrize(
    ("value", "scale", "dtype", "code"),
    [
        (math.nan, 13, "float32", "V5-tensor-finite"),
        (math.inf, 13, "float64", "V5-tensor-finite"),
        (1e39, 13, "float32", "V5-tensor-finite"),
        (10**400, 13, "float64", "V5-tensor-finite"),
        (65520.0, 0, "float16", "V5-tensor-finite"),
        (math.nan, 0, "int64", "V5-tensor-finite"),
        (-math.inf, 0, "bool", "V5-tensor-finite"),
        (2.0**127, 0, "float64", "V5-tensor-bound"),
        (-(2.0**127), 0, "float64", "V5-tensor-bound"),
        (1.0, 127, "float64", "V5-tensor-bound"),
        (1e308, 127, "float64", "V5-tensor-bound"),
        (0.5, 0, "int64", "V5-tensor-integer"),
        (2**53 + 1, 0, "int64", "V5-tensor-precision"),
        (2**63, 0, "uint64", "V5-tensor-range"),
        (10**5000, 0, "int64", "V5-tensor-range"),
        (2**31, 0, "int32", "V5-tensor-range"),
        (256, 0, "uint8", "V5-tensor-range"),
        (-1, 0, "uint32", "V5-tensor-range"),
        (2, 0, "bool", "V5-tensor-range"),
        (True, 0, "int8", "V5-tensor-type"),
        (True, 13, "float32", "V5-tensor-type"),
        ("1", 13, "float32", "V5-tensor-type"),
        (None, 0, "int64", "V5-tensor-type"),
        ([1.0], 13, "float32", "V5-tensor-type"),
        (1j, 13, "float64", "V5-tensor-type"),
        (1.0, -1, "float32", "V5-tensor-scale"),
        (1.0, 128, "float32", "V5-tensor-scale"),
        (1.0, True, "float32", "V5-tensor-scale"),
        (1, 13, "int64", "V5-tensor-scale"),
        (1, 13, "bool", "V5-tensor-scale"),
        (1.0, 13, "bfloat16", "V5-tensor-dtype"),
        (1.0, 13, "complex64", "V5-tensor-dtype"),
    ],
    ids=lambda case: repr(case)[:12] if not isinstance(case, int) or case.bit_length() < 64 else "huge",
)
def test_refusals(value: object, scale: int, dtype: str, code: str) -> None:
    assert code_of(values=[value], scale=scale, dtype=dtype) == code


def test_a_refusal_names_the_value() -> None:
    with pytest.raises(VerifierError, match="where value 2; expected a finite number; found nan"):
        quantise([0.0, 1.0, math.nan, 2.0], scale=0, dtype="float32")


def test_the_circuits_bound_may_be_reached_but_not_passed() -> None:
    """Trap: an off-by-one at the bound, or a bound above EZKL's own that lifts it."""
    assert quantise([4095, -4095], scale=0, dtype="int64", bound=4095) == (4095, -4095)
    assert code_of(values=[4096], scale=0, dtype="int64", bound=4095) == "V5-tensor-bound"
    assert code_of(values=[-4096], scale=0, dtype="int64", bound=4095) == "V5-tensor-bound"
    assert quantise([31.99], scale=7, dtype="float64", bound=4095) == (4095,)
    assert code_of(values=[31.999], scale=7, dtype="float64", bound=4095) == "V5-tensor-bound"
    assert code_of(values=[2.0**127], scale=0, dtype="float64", bound=2**200) == "V5-tensor-bound"
    assert EZKL_BOUND == 2**127 - 1


def test_nothing_is_quantised_to_nothing() -> None:
    assert quantise([], scale=13, dtype="float32") == ()
    assert to_words([]) == b""
    assert from_words(b"") == ()


def test_dequantise_is_for_people() -> None:
    largest = TensorInt(FIELD_MODULUS // 2)
    assert dequantise([TensorInt(819), TensorInt(-1), TensorInt(0)], 13) == (0.0999755859375, -(2.0**-13), 0.0)
    assert dequantise([largest], 0) == (float(FIELD_MODULUS // 2),)
    assert dequantise([TensorInt(1)], 1023) == (2.0**-1023,)
    for scale in (-1, 1024, True):
        with pytest.raises(VerifierError, match="V5-tensor-scale"):
            dequantise([largest], scale)


def test_words_are_big_endian_and_wrap_at_the_field() -> None:
    """Trap: EZKL's little-endian hex, two's complement, or -1 as 2^256 - 1."""
    words = to_words([TensorInt(1), TensorInt(-1), TensorInt(-(FIELD_MODULUS // 2))])
    assert words[:32] == bytes(31) + b"\x01"
    assert words[32:64] == (FIELD_MODULUS - 1).to_bytes(32)
    assert words[64:] == (FIELD_MODULUS // 2 + 1).to_bytes(32)


def test_the_sign_turns_in_the_middle_of_the_field() -> None:
    """Trap: p // 2 read as negative, where no tensor value is."""
    middle = FIELD_MODULUS // 2
    assert from_words(middle.to_bytes(32)) == (middle,)
    assert from_words((middle + 1).to_bytes(32)) == (-middle,)
    assert from_words((FIELD_MODULUS - 1).to_bytes(32)) == (-1,)


@settings(deadline=None)
@given(st.lists(TENSOR_INTS, max_size=20))
def test_words_and_back(ints: list[TensorInt]) -> None:
    words = to_words(ints)
    assert len(words) == 32 * len(ints)
    assert from_words(words) == tuple(ints)
    assert words_hash(ints) == keccak256(words)


@settings(deadline=None)
@given(st.lists(st.integers(0, FIELD_MODULUS - 1), max_size=20))
def test_every_word_below_p_has_one_value(numbers: list[int]) -> None:
    words = b"".join(number.to_bytes(32) for number in numbers)
    assert to_words(from_words(words)) == words
    assert to_words([FieldElement(number) for number in numbers]) == words


@pytest.mark.parametrize("word", [FIELD_MODULUS, FIELD_MODULUS + 1, 2 * FIELD_MODULUS - 1, 2**256 - 1])
def test_refuses_a_second_spelling_of_a_word(word: int) -> None:
    """Trap: reducing mod p, which gives one output five encodings and five hashes."""
    with pytest.raises(VerifierError, match=r"V5-word-range.*where word 1"):
        from_words(bytes(32) + word.to_bytes(32))


@pytest.mark.parametrize("size", [1, 31, 33, 63])
def test_refuses_a_torn_word(size: int) -> None:
    with pytest.raises(VerifierError, match="V5-word-length"):
        from_words(bytes(size))


@pytest.mark.parametrize("value", [FIELD_MODULUS // 2 + 1, -(FIELD_MODULUS // 2) - 1, FIELD_MODULUS, 1.0, True, None])
def test_refuses_an_instance_that_would_alias(value: object) -> None:
    with pytest.raises(VerifierError, match=r"V5-word-value.*where instance 1"):
        to_words([TensorInt(1), value])  # type: ignore[list-item]  # the point of the test


def test_job_limbs_are_24_bits_least_significant_first() -> None:
    """Trap: the byte order of the digest, the last limb's 16 bits, or a limb of 2^24."""
    job_id = Bytes32(bytes(range(1, 33)))
    limbs = job_limbs(job_id)
    assert limbs[0] == 0x1E1F20
    assert limbs[1] == 0x1B1C1D
    assert limbs[10] == 0x0102
    assert job_limbs(Bytes32(b"\xff" * 32)) == (2**24 - 1,) * 10 + (2**16 - 1,)
    assert job_limbs(Bytes32(bytes(32))) == (0,) * 11


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_job_limbs_add_up_to_the_job_id(job_id: bytes) -> None:
    limbs = job_limbs(Bytes32(job_id))
    assert len(limbs) == 11
    assert all(0 <= limb < 2**24 for limb in limbs)
    assert sum(limb << 24 * index for index, limb in enumerate(limbs)) == int.from_bytes(job_id)
    assert quantise([int(limb) for limb in limbs], scale=0, dtype="int64") == limbs


def test_a_negative_value_hashes_as_its_field_element() -> None:
    """Trap: hashing |v| or a two's complement word; the sign is p - |v| in the circuit."""
    minus_one = TensorInt(-1).to_field()
    assert minus_one == FIELD_MODULUS - 1
    assert poseidon_hash([minus_one]) == 18809417116717517002718989926063310724737491140360595992685378568436078198987


def test_keccak_is_the_evms_and_not_sha3() -> None:
    """keccak256("") is the code hash of an account without code (Yellow Paper, 4.1)."""
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
