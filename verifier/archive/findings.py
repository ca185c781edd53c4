"""What an audit finds: damage, named by code, entry, kind and digest. Findings are collected, never raised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from verifier.errors import OpgateError
    from verifier.statement.scalars import Bytes32


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of damage.

    Attributes:
        code: stable, ``A-blob-damaged``.
        entry: index of the entry that it touches first, None where it touches the log as a whole.
        kind: what is damaged: a blob's role in its entry (bundle, verdict, policy …), entry, tile, checkpoint or key.
        digest: the blob's name, or the hash that an entry should have; None where there is none.
        message: one sentence for people.
    """

    code: str
    entry: int | None
    kind: str
    digest: Bytes32 | None
    message: str

    @classmethod
    def of(cls, error: OpgateError, *, kind: str, entry: int | None = None, digest: Bytes32 | None = None) -> Finding:
        """The finding that an error stands for."""
        message = str(error).removeprefix(f"{error.code}: ")
        return cls(code=error.code, entry=entry, kind=kind, digest=digest, message=message)

    def to_json(self) -> dict[str, str | int | None]:
        """The five fields; the digest as 0x hex."""
        digest = None if self.digest is None else self.digest.to_json()
        return {"code": self.code, "entry": self.entry, "kind": self.kind, "digest": digest, "message": self.message}
