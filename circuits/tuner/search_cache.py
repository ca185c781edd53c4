"""The answers of a search in a file, one JSON line each: a search that was stopped goes on where it was.

Nothing that is sold depends on it: a circuit is compiled, compared and proved anew. A damaged line is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MAX_BYTES = 256 << 20


class SearchCache:
    """Answers by their question, in memory and appended to a file; without a file in memory alone."""

    def __init__(self, path: Path | None = None) -> None:
        """Read what is there."""
        self._path = path
        self._kept: dict[str, Any] = {}
        self.hits = 0
        if path is None:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            path.write_bytes(b"")
        text = path.read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n"):
            path.write_text(text + "\n", encoding="utf-8")  # or the next answer would be lost with the half one
        for line in text.split("\n"):
            try:
                question, answer = json.loads(line)
            except (ValueError, RecursionError):
                continue  # the line that was being written when the search was stopped
            self._kept[json.dumps(question)] = answer

    def get(self, question: Sequence[object]) -> Any:
        """The answer, or None where it is not known."""
        answer = self._kept.get(json.dumps(list(question)))
        self.hits += answer is not None
        return answer

    def put(self, question: Sequence[object], answer: Any) -> Any:
        """Keep an answer that JSON can hold, and give it back as a later run would read it."""
        line = json.dumps([list(question), answer])
        self._kept[json.dumps(list(question))] = json.loads(line)[1]
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        return self._kept[json.dumps(list(question))]
