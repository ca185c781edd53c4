"""Where the reader's circuits are: a folder of circuit folders, or a web server of such, fetched once each."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from verifier.circuit import Circuit, find_circuit

if TYPE_CHECKING:
    from types import TracebackType

    from verifier.statement.scalars import Bytes32


def is_url(circuits: str) -> bool:
    """True where the reader names a web server and no folder."""
    return circuits.startswith(("http://", "https://"))


class CircuitStore:
    """The circuits of a folder or URL. What is fetched goes to a private folder that ends with the `with` block."""

    def __init__(self, circuits: str | Path, *, for_opinions: bool = False) -> None:
        """Fetch and read nothing yet; `for_opinions` fetches what other verifiers need as well."""
        self._for_opinions = for_opinions
        self._url = str(circuits) if is_url(str(circuits)) else None
        self._fetched = tempfile.TemporaryDirectory(prefix="opgate-circuits-") if self._url else None
        self._folder = Path(self._fetched.name if self._fetched else circuits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fetched is not None:
            self._fetched.cleanup()

    def folder(self, circuit_id: Bytes32) -> Path:
        """Where the circuit's files are after it was found."""
        return self._folder / str(circuit_id)

    def find(self, circuit_id: Bytes32) -> Circuit:
        """The circuit of that id, not checked.

        Raises:
            UndecidedError: V1-circuit-missing, V1-circuit-unreachable.
            UsageError: U-circuits for a URL that is none.
            VerifierError: V0-… where its files cannot be parsed.
        """
        if self._url is not None and not self.folder(circuit_id).is_dir():
            from verifier.remote_circuits import fetch_circuit  # noqa: PLC0415 - HTTP only where a server is named

            fetch_circuit(self._url, circuit_id, self._folder, for_opinions=self._for_opinions)
        return find_circuit(self._folder, circuit_id)
