"""The Poseidon hash of EZKL's hashed inputs, in plain Python, so that a verifier recomputes a hash word without ezkl.

Only the hash of field elements lives here: no tensor, no quantisation, no blinding.

Sources: Grassi and others, "Poseidon: A New Hash Function for Zero-Knowledge Proof Systems" (ePrint 2019/458), called
the paper below; and halo2_gadgets `poseidon::primitives`, which EZKL instantiates with `PoseidonSpec` over the scalar
field of BN254 and the domain `VariableLength`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from verifier.errors import VerifierError
from verifier.statement.scalars import FIELD_MODULUS, FieldElement

WIDTH = 2
"""Field elements in the state: one that absorbs (the rate) and one that never meets the input (the capacity)."""
FULL_ROUNDS = 8
PARTIAL_ROUNDS = 56
"""Rounds for 128 bits of security with the S-box x^5 (the paper, table 2; EZKL's `PoseidonSpec`)."""

_P = FIELD_MODULUS
_FIELD_BITS = 254
_VARIABLE_LENGTH = 1 << 64
"""First value of the capacity for inputs of any length and one output: 2^64 + (o - 1) with o = 1 (the paper, 4.2)."""


class _Parameters(NamedTuple):
    """What the Grain LFSR yields: (c0, c1) for each round, and the 2 x 2 matrix row by row."""

    rounds: tuple[tuple[int, int], ...]
    mds: tuple[int, int, int, int]


def poseidon_hash(elements: Sequence[FieldElement]) -> FieldElement:
    """The Poseidon hash of at least one field element, equal to `ezkl.poseidon_hash` and to that of EZKL's circuits.

    The sponge has rate 1: each element is added to the first word of the state and followed by one permutation, and
    the first word is the digest. The length is bound by the count of permutations, so a trailing zero changes the hash;
    with rate 1 halo2's padding is empty. Nothing is blinded here: the caller appends the blind. It takes about 200
    microseconds an element.

    Raises:
        VerifierError: ``V5-poseidon-empty`` for no element, for which EZKL has no hash at all;
            ``V5-poseidon-element`` for anything but an integer in [0, p).
    """
    if not elements:
        raise VerifierError("V5-poseidon-empty", "an empty tensor has no hash", expected="at least one field element")
    parameters = _parameters()
    first, second = 0, _VARIABLE_LENGTH
    for index, element in enumerate(elements):
        try:
            word = int(FieldElement(element))  # int: arithmetic on a subclass is slower
        except ValueError as error:
            raise VerifierError(
                "V5-poseidon-element",
                "what is to be hashed is not a field element",
                where=f"element {index}",
                expected="an integer in [0, p)",
                found=str(error),
            ) from error
        first, second = _permute(first + word, second, parameters)
    return FieldElement(first)


def _permute(first: int, second: int, parameters: _Parameters) -> tuple[int, int]:
    """One permutation: half the full rounds, the partial rounds, the other half (the paper, 2.3; halo2 `permute`).

    Each round adds its constants, applies x^5 to both words (full) or to the first (partial), and multiplies by the
    matrix. Sums stay unreduced until the next multiplication reduces them: Python's integers do not overflow.
    """
    m00, m01, m10, m11 = parameters.mds
    last_partial = FULL_ROUNDS // 2 + PARTIAL_ROUNDS
    for number, (c0, c1) in enumerate(parameters.rounds):
        a = first + c0
        b = second + c1
        square = a * a % _P
        a = square * square % _P * a % _P
        if number < FULL_ROUNDS // 2 or number >= last_partial:
            square = b * b % _P
            b = square * square % _P * b % _P
        first = (m00 * a + m01 * b) % _P
        second = (m10 * a + m11 * b) % _P
    return first, second


@functools.cache
def _parameters() -> _Parameters:
    """Round constants and matrix from one Grain LFSR, made once in a process (the paper, appendices E and F).

    Constants are drawn by rejection: 254 bits, most significant first, until the value is below p. The matrix continues
    the same stream with 2 * WIDTH draws x0, x1, y0, y1 that are reduced mod p and not rejected; it is the Cauchy matrix
    1 / (x_i + y_j) (the paper, 2.3; halo2 `mds::generate_mds` with `secure_mds` 0: the first candidate is the one).
    """
    bits = _grain_bits()
    rounds = tuple((_draw_below_p(bits), _draw_below_p(bits)) for _ in range(FULL_ROUNDS + PARTIAL_ROUNDS))
    x0, x1, y0, y1 = (_draw(bits) % _P for _ in range(2 * WIDTH))
    mds = (pow(x0 + y0, -1, _P), pow(x0 + y1, -1, _P), pow(x1 + y0, -1, _P), pow(x1 + y1, -1, _P))
    return _Parameters(rounds, mds)


def _draw(bits: Iterator[int]) -> int:
    """The next 254 bits as an integer, most significant bit first."""
    return functools.reduce(lambda value, bit: value << 1 | bit, itertools.islice(bits, _FIELD_BITS), 0)


def _draw_below_p(bits: Iterator[int]) -> int:
    """The first of the coming draws that is below p."""
    while (value := _draw(bits)) >= _P:
        pass
    return value


def _grain_bits() -> Iterator[int]:
    """The Grain LFSR in self-shrinking mode, without end (the paper, appendix E; halo2 `grain::Grain`).

    The 80 bits of the first state, b0 to b79, are the fields below, each most significant bit first. The next bit is
    b62 + b51 + b38 + b23 + b13 + b0 mod 2. The first 160 are thrown away; of each following pair the second is given
    out where the first is 1.
    """
    fields = (
        (1, 2),  # a prime field
        (0, 4),  # the S-box x^alpha
        (_FIELD_BITS, 12),
        (WIDTH, 12),
        (FULL_ROUNDS, 10),
        (PARTIAL_ROUNDS, 10),
        (2**30 - 1, 30),  # ones to the end
    )
    seed = "".join(f"{value:0{length}b}" for value, length in fields)
    state = int(seed[::-1], 2)  # b0 is the least significant bit: shifting right drops the oldest

    def step() -> int:
        nonlocal state
        bit = (state >> 62 ^ state >> 51 ^ state >> 38 ^ state >> 23 ^ state >> 13 ^ state) & 1
        state = state >> 1 | bit << 79
        return bit

    for _ in range(160):
        step()
    while True:
        chosen, bit = step(), step()
        if chosen:
            yield bit
