"""Poseidon: equal to EZKL's on literal vectors, and on many lengths where ezkl is installed."""

import random
from collections.abc import Callable

import pytest

from verifier.errors import VerifierError
from verifier.poseidon import FULL_ROUNDS, PARTIAL_ROUNDS, poseidon_hash
from verifier.poseidon import _parameters as parameters
from verifier.statement.scalars import FIELD_MODULUS, FieldElement

VECTORS = [
    ([0], 8065231320233546845889504658050882987663732304574489295982393739117377810121),
    ([5], 15005036347333085607548224028708913628522744581191515899049102699835181870944),
    ([5, 0], 18792226605598262493287158769671953090166985067744673056461370951119121832536),
    ([5, 1], 5582613319103143206705028210784933802649958602771855443638848540032638202932),
    ([1, 2], 18783980534412029683592398799810320778266741323333107426284907535722853837708),
    ([FIELD_MODULUS - 1], 18809417116717517002718989926063310724737491140360595992685378568436078198987),
    (list(range(11)), 17241528989045364139552884989809024719603157002619935221693049814809785074588),
    (list(range(100)), 4992344044514553873732054418246682148759150534448122026769135313835621550291),
]
"""`ezkl.poseidon_hash` of ezkl 23.0.5, read little-endian."""


def elements(numbers: list[int]) -> list[FieldElement]:
    return [FieldElement(number) for number in numbers]


@pytest.mark.parametrize(("message", "digest"), VECTORS, ids=lambda value: str(value)[:12])
def test_literal_vectors(message: list[int], digest: int) -> None:
    assert poseidon_hash(elements(message)) == digest


def test_equals_ezkl_on_many_lengths(ezkl_oracle: Callable[..., list[object]]) -> None:
    """Trap: a padding or a capacity value that agrees at short lengths only, and values at both ends of the field."""
    draw = random.Random(5)  # noqa: S311 - reproducible cases, not a secret
    lengths = [*range(1, 34), 63, 64, 65, 100, 127, 128, 129, 500, 1024]
    messages = [[draw.randrange(FIELD_MODULUS) for _ in range(length)] for length in lengths]
    messages += [[edge] * length for length in (1, 2, 11) for edge in (0, 1, FIELD_MODULUS // 2, FIELD_MODULUS - 1)]
    answers = ezkl_oracle("poseidon", [[[str(number) for number in message]] for message in messages])
    assert answers == [[str(poseidon_hash(elements(message)))] for message in messages]


def test_ezkl_has_no_hash_of_nothing(ezkl_oracle: Callable[..., list[object]]) -> None:
    """Trap: giving nothing a digest of our own, which no circuit could ever show."""
    assert ezkl_oracle("poseidon", [[[]]]) == [[]]
    with pytest.raises(VerifierError, match="V5-poseidon-empty"):
        poseidon_hash([])


def test_a_trailing_zero_changes_the_hash() -> None:
    """Trap: zero padding to a block, under which [5] and [5, 0] are one input."""
    hashes = {poseidon_hash(elements([5] + [0] * count)) for count in range(12)}
    assert len(hashes) == 12


def test_order_matters() -> None:
    assert poseidon_hash(elements([1, 2])) != poseidon_hash(elements([2, 1]))


@pytest.mark.parametrize(
    "alias",
    [FIELD_MODULUS, FIELD_MODULUS + 5, -1, 2**100_000, True, 5.0, "5", None],
    ids=lambda alias: repr(alias)[:9] if type(alias) is not int else f"{alias.bit_length()}-bit",
)
def test_refuses_what_is_no_field_element(alias: object) -> None:
    """Trap: reducing mod p, so that 5 and p + 5 have one hash; and a foreign exception for a foreign type."""
    with pytest.raises(VerifierError, match="V5-poseidon-element") as refusal:
        poseidon_hash([FieldElement(1), alias])  # type: ignore[list-item]  # the point of the test
    assert refusal.value.where == "element 1"
    assert len(str(refusal.value)) < 400


def test_constants_are_those_of_the_reference() -> None:
    """The count of rounds, each constant in the field, and an invertible matrix without a zero (an MDS matrix)."""
    rounds, (m00, m01, m10, m11) = parameters()
    assert len(rounds) == FULL_ROUNDS + PARTIAL_ROUNDS == 64
    assert len({constant for pair in rounds for constant in pair}) == 128
    assert all(0 < constant < FIELD_MODULUS for pair in rounds for constant in pair)
    assert 0 not in {m00, m01, m10, m11}
    assert (m00 * m11 - m01 * m10) % FIELD_MODULUS
