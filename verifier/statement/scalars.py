"""The scalar types of everything that is signed, hashed or sent: each has one range and one JSON form.

A value of one of these types is always valid: the constructor checks it, and so does every decoder, which goes through
the constructor. JSON forms: wei, field elements and tensor integers are decimal strings (the type decides, never the
value); counts and times are numbers; bytes and addresses are 0x lower-case hex; measures and texts are strings.
Nothing here knows a struct.
"""

from __future__ import annotations

import re
from typing import Self

FIELD_MODULUS = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""Order p of the BN254 scalar field (EIP-196); EZKL's circuits compute in it."""

_DECIMAL = re.compile(r"(0|-?[1-9][0-9]{0,77})\Z")
_HEX = re.compile(r"0x[0-9a-f]*\Z")
_MEASURE = re.compile(r"(0|[1-9][0-9]{0,17})(\.[0-9]{0,17}[1-9])?\Z")
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u3000\ud800-\uf8ff\ufeff\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
"""Controls, formats, separators, surrogates, private use: as of Unicode 17, written out, since `str.isprintable` knows
another Unicode in each Python and a verdict must not depend on that. Characters not yet assigned are taken."""


class _Integer(int):
    """An integer in [MIN, MAX]."""

    MIN = 0
    MAX = 0

    def __new__(cls, value: int) -> Self:
        if type(value) is bool or not isinstance(value, int):
            raise ValueError(f"{cls.__name__} wants an integer, not {type(value).__name__}")
        if not cls.MIN <= value <= cls.MAX:
            raise ValueError(f"{cls.__name__} is out of its range [{cls.MIN}, {cls.MAX}]")
        return int.__new__(cls, value)


class _Number(_Integer):
    """An integer whose JSON form is a number, since every JSON reader keeps its range exact."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The value of a JSON number; ValueError otherwise."""
        if type(value) is not int:
            raise ValueError(f"{cls.__name__} wants a whole number")
        return cls(value)

    def to_json(self) -> int:
        """The JSON number."""
        return int(self)


class Count(_Number):
    """A count, a size, an offset, a gas figure, a chain id."""

    MAX = 2**53 - 1


class Timestamp(_Number):
    """A time in Unix seconds."""

    MAX = 2**40


class _DecimalString(_Integer):
    """An integer whose JSON form is a decimal string."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The value of a decimal string; ValueError otherwise."""
        if not isinstance(value, str) or not _DECIMAL.match(value):
            raise ValueError(f"{cls.__name__} wants a decimal string without leading zeros")
        return cls(int(value))

    def to_json(self) -> str:
        """The decimal string."""
        return str(int(self))


class Uint256(_DecimalString):
    """An unsigned 256-bit word: an amount in wei."""

    MAX = 2**256 - 1


class FieldElement(_DecimalString):
    """An element of the BN254 scalar field, in [0, p)."""

    MAX = FIELD_MODULUS - 1


class TensorInt(_DecimalString):
    """A quantised tensor value: a signed integer strictly between -p/2 and p/2."""

    MIN = -(FIELD_MODULUS // 2)
    MAX = FIELD_MODULUS // 2

    def to_field(self) -> FieldElement:
        """The element v mod p, which stands for v in the circuit."""
        return FieldElement(int(self) % FIELD_MODULUS)


class HexBytes(bytes):
    """Bytes whose JSON form is 0x and lower-case hex; SIZE fixes the length, MAX_SIZE bounds it."""

    SIZE: int | None = None
    MAX_SIZE = 1 << 21

    def __new__(cls, value: bytes) -> Self:
        """Check type and length."""
        if not isinstance(value, bytes):
            raise ValueError(f"{cls.__name__} wants bytes, not {type(value).__name__}")
        if cls.SIZE is not None and len(value) != cls.SIZE:
            raise ValueError(f"{cls.__name__} wants {cls.SIZE} bytes, not {len(value)}")
        if len(value) > cls.MAX_SIZE:
            raise ValueError(f"{cls.__name__} takes at most {cls.MAX_SIZE} bytes, not {len(value)}")
        return super().__new__(cls, value)

    @classmethod
    def from_json(cls, text: object) -> Self:
        """The bytes of a hex string; ValueError otherwise."""
        if not isinstance(text, str) or len(text) > 2 + 2 * cls.MAX_SIZE or len(text) % 2 or not _HEX.match(text):
            raise ValueError(f"{cls.__name__} wants 0x and lower-case hex")
        return cls(bytes.fromhex(text[2:]))

    def to_json(self) -> str:
        """0x and lower-case hex."""
        return "0x" + self.hex()

    def __str__(self) -> str:
        return self.to_json()


class Bytes32(HexBytes):
    """A digest, an id or a salt: 32 bytes."""

    SIZE = 32


class Address(HexBytes):
    """An account or contract on an EVM chain: 20 bytes, without the checksum of EIP-55."""

    SIZE = 20


class WalletSignature(HexBytes):
    """What a payer signs with: a key's signature, or whatever a wallet contract takes (ERC-1271), up to 2,048 bytes.

    Which of them it is, and whether it is good, only the chain can say.
    """

    MAX_SIZE = 2048


class Signature(WalletSignature):
    """An ECDSA signature r || s || v in its one encoding: 65 bytes, s in the lower half (EIP-2), v 27 or 28."""

    SIZE = 65

    def __new__(cls, value: bytes) -> Self:
        """Check that this is the one encoding."""
        self = super().__new__(cls, value)
        r, s, v = int.from_bytes(self[:32]), int.from_bytes(self[32:64]), self[64]
        if not 0 < r < SECP256K1_ORDER:
            raise ValueError("Signature has an r outside the curve's order")
        if not 0 < s <= SECP256K1_ORDER // 2:
            raise ValueError("Signature has an s outside the lower half of the order")
        if v not in (27, 28):
            raise ValueError("Signature has a v other than 27 or 28")
        return self


SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of secp256k1 (SEC 2, section 2.4.1)."""


class Measure(str):
    """A measured quantity as a decimal string (seconds, an error, a share), up to 18 digits each side of the point."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check the decimal form."""
        if not isinstance(value, str) or not _MEASURE.match(value):
            raise ValueError("Measure wants a decimal string such as 0, 1.25 or 0.001")
        return super().__new__(cls, value)

    @classmethod
    def of(cls, value: float, digits: int = 6) -> Self:
        """The measure nearest to a non-negative finite number, with so many digits after the point."""
        text = f"{value:.{digits}f}"
        return cls(text.rstrip("0").rstrip(".") if "." in text else text)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The measure of a JSON string; ValueError otherwise."""
        if not isinstance(value, str):
            raise ValueError("Measure wants a decimal string")
        return cls(value)

    def to_json(self) -> str:
        """The decimal string."""
        return str.__str__(self)


class Text(str):
    """A short text for people and labels: at most 256 code points, none of them a control, a format or a separator."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check length and characters."""
        if not isinstance(value, str) or len(value) > MAX_TEXT or _UNPRINTABLE.search(value):
            raise ValueError(f"Text takes at most {MAX_TEXT} printable characters")
        return super().__new__(cls, value)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The text of a JSON string; ValueError otherwise."""
        if not isinstance(value, str):
            raise ValueError("Text wants a string")
        return cls(value)

    @classmethod
    def shown(cls, value: str) -> Self:
        """Anybody's text as one for people: what has no form becomes "?", and what is too long ends in "…"."""
        text = printable(value)
        return cls(text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…")

    def to_json(self) -> str:
        """The JSON string."""
        return str.__str__(self)


MAX_TEXT = 256


def printable(value: str) -> str:
    """Anybody's text in one line that moves no cursor: "?" in place of what Text does not take."""
    return _UNPRINTABLE.sub("?", value)


Scalar = _Number | _DecimalString | HexBytes | Measure | Text
"""Every scalar class with a JSON form of its own."""
