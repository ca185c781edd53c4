"""The one family of errors of opgate: every refusal has a stable code and says what, where, expected, found, to do.

No exception of another library crosses the surface of a package of ours: it is mapped to one of these.
Codes begin with the part that refuses: ``V<step>-`` verification, ``G-`` gate, ``E-`` escrow and chain,
``C-`` circuits, ``W-`` the provider's service, ``A-`` archive and audit. Exit codes of the commands: `exit_code`.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNDECIDED = 3
EXIT_INTERRUPTED = 130


class OpgateError(Exception):
    """A refusal with a stable code.

    Attributes:
        code: stable, for machines: ``V5-instance-count``.
        message: one sentence for people: what is wrong.
        where: the file, field, step or URL.
        expected: what would have been accepted.
        found: what was there instead.
        do: what the reader can do about it.
    """

    exit_code = EXIT_REFUSED

    def __init__(  # noqa: PLR0913 - an error says five different things, each by keyword
        self,
        code: str,
        message: str,
        *,
        where: str = "",
        expected: str = "",
        found: str = "",
        do: str = "",
    ) -> None:
        """Keep the parts; `str()` gives them as one readable line."""
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.where = where
        self.expected = expected
        self.found = found
        self.do = do

    def __str__(self) -> str:
        """``CODE: message (where …; expected …; found …). What to do.``."""
        named = (("where", self.where), ("expected", self.expected), ("found", self.found))
        parts = "; ".join(f"{name} {value}" for name, value in named if value)
        tail = f" ({parts})" if parts else ""
        return f"{self.code}: {self.message}{tail}" + (f". {self.do}" if self.do else "")

    def to_json(self) -> dict[str, str]:
        """The error as an object with the keys code, message, where, expected, found, do."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "expected": self.expected,
            "found": self.found,
            "do": self.do,
        }


class VerifierError(OpgateError):
    """Bytes, a circuit or a policy cannot be read or do not hold (``V…``)."""


class GateError(OpgateError):
    """The payment gate does not sign (``G-…``)."""


class EscrowError(OpgateError):
    """The escrow, token or chain refuses, or is not the one that was named (``E-…``)."""


class CircuitError(OpgateError):
    """A circuit cannot be built, run or rebuilt (``C-…``)."""


class ServiceError(OpgateError):
    """The provider's service or a job refuses (``W-…``)."""


class AuditError(OpgateError):
    """An archive is damaged, incomplete or cannot be written (``A-…``)."""


class UsageError(OpgateError):
    """A command was called with words that make no sense (``U-…``)."""

    exit_code = EXIT_USAGE


class UndecidedError(OpgateError):
    """Something on our side kept us from deciding; it never means that a bundle is bad (``V…``, ``E-…``, ``C-…``)."""

    exit_code = EXIT_UNDECIDED
