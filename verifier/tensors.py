"""Tensors between the three forms that they take: a person's numbers, EZKL's integers, and the words of the instances.

Quantisation happens at the payer, once; from there on a tensor is its integers. No circuit, no file and no hash chain
lives here, and no numpy: the base install has none. Tensors are flat, in row-major order.

The arithmetic is that of ezkl 23: `InputType::roundtrip`, `quantize_float` and `Source` (which gives every input that
is not a float the scale 0) in its sources, and it is tested against the released wheel.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

from verifier.errors import VerifierError
from verifier.keccak import keccak256
from verifier.statement.manifest import JOB_LIMB_BITS, JOB_LIMBS, Dtype
from verifier.statement.scalars import FIELD_MODULUS, Bytes32, FieldElement, TensorInt

WORD_BYTES = 32
EZKL_BOUND = 2**127 - 1
"""Largest |v| that EZKL quantises to: its integers are i128, and it saturates 2^127 to this value without a word."""
MAX_SCALE = 127
"""Above it even 1.0 is beyond `EZKL_BOUND`."""

_FLOATS: Final = {"float16": "<e", "float32": "<f", "float64": "<d"}
"""The struct codes of IEEE 754 binary16, binary32 and binary64; packing rounds to nearest, ties to even."""
_INTEGERS: Final = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**63 - 1),  # EZKL reads every integer as an i64 and panics beyond it
    "bool": (0, 1),
}


def quantise(
    values: Sequence[float | bool], *, scale: int, dtype: Dtype, bound: int = EZKL_BOUND
) -> tuple[TensorInt, ...]:
    """The integers that stand for the values in a circuit: cast to the dtype, times 2^scale, half away from zero.

    Equal to what EZKL computes from the same numbers wherever EZKL computes what it was asked. Where it quietly does
    not, this refuses: EZKL takes NaN for 0, cuts fractions off integers and bools, loses integers that a double cannot
    hold, and saturates at 2^127. For float16 EZKL rounds to float32 only; here the value is rounded to float16, as the
    model's own runtime does, which is the same wherever the value is a float16 to begin with.

    Args:
        values: flat, row-major; floats and ints, for the dtype bool also True and False. Shape and count are not
            checked.
        scale: log2 of the multiplier, of the tensor in the manifest; 0 for everything but floats.
        dtype: the ONNX element type.
        bound: the circuit's value bound; |v| may reach it.

    Raises:
        VerifierError: ``V5-tensor-scale`` a scale that no input of the dtype has; ``V5-tensor-dtype`` an unknown dtype;
            ``V5-tensor-type`` something that is not a number of the dtype's kind; ``V5-tensor-finite`` NaN or infinite,
            before or after the cast; ``V5-tensor-integer`` a fraction for an integer dtype; ``V5-tensor-range`` outside
            the dtype; ``V5-tensor-precision`` an integer that EZKL's double cannot hold; ``V5-tensor-bound`` |v| above
            the bound.
    """
    if dtype not in _FLOATS and dtype not in _INTEGERS:
        raise VerifierError("V5-tensor-dtype", "the dtype is not one that a circuit takes", found=_brief(dtype))
    highest = MAX_SCALE if dtype in _FLOATS else 0
    if type(scale) is not int or not 0 <= scale <= highest:
        raise VerifierError(
            "V5-tensor-scale",
            f"no {dtype} input of a circuit has this scale",
            expected=f"an integer in [0, {highest}]",
            found=_brief(scale),
        )
    return tuple(_quantise_one(value, f"value {index}", scale, dtype, bound) for index, value in enumerate(values))


def dequantise(ints: Sequence[TensorInt], scale: int) -> tuple[float, ...]:
    """The doubles nearest to v / 2^scale: for people to read, never to compare, sign or hash.

    Raises:
        VerifierError: ``V5-tensor-scale`` a scale outside [0, 1023], which no circuit has.
    """
    if type(scale) is not int or not 0 <= scale < 1024:
        raise VerifierError("V5-tensor-scale", "no tensor has this scale", expected="0 to 1023", found=_brief(scale))
    divisor = 1 << scale
    return tuple(int(value) / divisor for value in ints)


def to_words(ints: Sequence[TensorInt | FieldElement]) -> bytes:
    """The words of the instances, concatenated: for each value the big-endian uint256 of v mod p.

    A `FieldElement`, such as a Poseidon hash, is its own word.

    Raises:
        VerifierError: ``V5-word-value`` for an integer that is neither, which would alias another one.
    """
    return b"".join([_word(value, index) for index, value in enumerate(ints)])


def from_words(words: bytes) -> tuple[TensorInt, ...]:
    """The tensor values that the words stand for, the inverse of `to_words` on `TensorInt`: v in (-p/2, p/2).

    It does not know which words are hashes; the caller takes out the slice that is a tensor.

    Raises:
        VerifierError: ``V5-word-length`` for a length that is no multiple of 32; ``V5-word-range`` for a word that is
            not below p, a second spelling of a smaller one.
    """
    if len(words) % WORD_BYTES:
        raise VerifierError(
            "V5-word-length",
            "the words end in the middle of one",
            expected="32 bytes each",
            found=f"{len(words)} bytes",
        )
    return tuple(
        _value(int.from_bytes(words[start : start + WORD_BYTES]), start // WORD_BYTES)
        for start in range(0, len(words), WORD_BYTES)
    )


def words_hash(ints: Sequence[TensorInt | FieldElement]) -> Bytes32:
    """Keccak-256 over `to_words`: the instances_hash of all of them, the input_commitment of those of the input."""
    return keccak256(to_words(ints))


def job_limbs(job_id: Bytes32) -> tuple[TensorInt, ...]:
    """The job id as the circuit's last input takes it: 11 limbs of 24 bits, least significant first."""
    number = int.from_bytes(job_id)
    mask = (1 << JOB_LIMB_BITS) - 1
    return tuple(TensorInt(number >> JOB_LIMB_BITS * index & mask) for index in range(JOB_LIMBS))


def _quantise_one(value: object, where: str, scale: int, dtype: str, bound: int) -> TensorInt:
    """One value; the integer is exact from the cast on, since a double times a power of two loses nothing but size."""
    number = _as_float(value, where, dtype) if dtype in _FLOATS else _as_integer(value, where, dtype)
    quantised = number if isinstance(number, int) else _scale_and_round(number, scale)
    if abs(quantised) > min(bound, EZKL_BOUND):
        raise VerifierError(
            "V5-tensor-bound",
            "a value is larger than the circuit can hold",
            where=where,
            expected=f"at most {min(bound, EZKL_BOUND)} after scaling by 2^{scale}",
            found=_brief(value),
        )
    return TensorInt(quantised)


def _as_float(value: object, where: str, dtype: str) -> float:
    """The value as the float dtype holds it, widened to a double: through the double first, as EZKL does."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(value, where, dtype)
    try:
        double = float(value)
        (cast,) = struct.unpack(_FLOATS[dtype], struct.pack(_FLOATS[dtype], double))
    except OverflowError:
        cast = math.inf
    if not math.isfinite(cast):
        raise VerifierError(
            "V5-tensor-finite",
            f"a value is not a finite {dtype}; EZKL would take NaN for 0",
            where=where,
            expected="a finite number",
            found=_brief(value),
        )
    return float(cast)


def _as_integer(value: object, where: str, dtype: str) -> int:
    """The value of an integer or bool dtype, unchanged, or a refusal."""
    if not isinstance(value, int | float) or (isinstance(value, bool) and dtype != "bool"):
        raise _wrong_type(value, where, dtype)
    if isinstance(value, float) and not math.isfinite(value):
        raise VerifierError(
            "V5-tensor-finite", "a value is not a finite number", where=where, expected=dtype, found=_brief(value)
        )
    number = int(value)
    if number != value:
        raise VerifierError(
            "V5-tensor-integer",
            f"a value of an {dtype} tensor has a fraction, which EZKL would cut off",
            where=where,
            expected="an integer",
            found=_brief(value),
            do="Round it yourself: only you know how",
        )
    low, high = _INTEGERS[dtype]
    if not low <= number <= high:
        raise VerifierError(
            "V5-tensor-range",
            f"a value does not fit {dtype} in EZKL",
            where=where,
            expected=f"{low} to {high}",
            found=_brief(value),
        )
    if int(float(number)) != number:
        raise VerifierError(
            "V5-tensor-precision",
            "EZKL reads integers through a double, which does not hold this one",
            where=where,
            expected="at most 53 significant bits",
            found=_brief(value),
        )
    return number


def _scale_and_round(number: float, scale: int) -> int:
    """Round half away from zero of number * 2^scale, as Rust's `f64::round`.

    Not floor(|x| + 0.5): that sum rounds up 0.49999999999999994 and odd integers above 2^52.
    """
    try:
        scaled = math.ldexp(abs(number), scale)
    except OverflowError:
        return EZKL_BOUND + 1  # refused by the caller, whatever the bound
    whole = int(scaled)
    whole += scaled - whole >= 0.5
    return -whole if number < 0 else whole


def _word(value: TensorInt | FieldElement, index: int) -> bytes:
    if type(value) is TensorInt or type(value) is FieldElement:
        return (value % FIELD_MODULUS).to_bytes(WORD_BYTES)  # in range since it was made
    kind = FieldElement if isinstance(value, FieldElement) else TensorInt
    try:
        number = int(kind(value))
    except ValueError as error:
        raise VerifierError(
            "V5-word-value",
            "an instance is neither a tensor value nor a field element",
            where=f"instance {index}",
            expected="-p/2 < v < p/2",
            found=str(error),
        ) from error
    return (number % FIELD_MODULUS).to_bytes(WORD_BYTES)


def _value(word: int, index: int) -> TensorInt:
    if word >= FIELD_MODULUS:
        raise VerifierError(
            "V5-word-range",
            "a word is not below p",
            where=f"word {index}",
            expected="0 <= word < p",
            found=f"{word:#x}",
        )
    return TensorInt(word - FIELD_MODULUS if word > FIELD_MODULUS // 2 else word)


def _wrong_type(value: object, where: str, dtype: str) -> VerifierError:
    return VerifierError(
        "V5-tensor-type",
        "a value is not a number of the tensor's kind",
        where=where,
        expected="True, False, 0 or 1" if dtype == "bool" else "a number",
        found=type(value).__name__,
    )


def _brief(value: object) -> str:
    """The value for people; of a huge integer only the size, since printing its digits can be refused by Python."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)[:80]
