"""What the verifier says of each vector, in words; `python -m tests.verifier.messages` writes messages.json anew.

Codes belong to the specification and stand in the vectors. The words are ours; who changes one reads them all there.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.conformance.vectors import ROOT, Vector, vectors
from verifier.errors import OpgateError
from verifier.judge import Judge
from verifier.policy import Policy

MESSAGES = Path(__file__).with_name("messages.json")
_COMPARED = 160
"""Characters of a message that are kept: it names paths, and its end is cut off where they are long."""


def said(
    vector: Vector, scratch: Path, judges: dict[tuple[Path, Path], Judge] | None = None
) -> tuple[str, str | None, str]:
    """Outcome, code and words: a policy that cannot be read is the reader's own fault, and no verdict.

    `judges` keeps those that were made, by circuits and policy, for whoever asks about all vectors many times.
    """
    kept = judges if judges is not None else {}
    try:
        judge = kept.get((vector.circuits, vector.policy)) or Judge(vector.circuits, Policy.load(vector.policy))
    except OpgateError as error:
        return "USAGE", error.code, _anywhere(str(error), scratch)
    kept[vector.circuits, vector.policy] = judge
    verdict = judge.judge(vector.bundle).verdict
    words = verdict.message or "; ".join(verdict.shown + verdict.not_shown)
    return verdict.outcome, verdict.code, _anywhere(words, scratch)


def _anywhere(words: str, scratch: Path) -> str:
    return words.replace(str(ROOT), "vectors").replace(str(scratch), "scratch")[:_COMPARED]


def main() -> None:
    """Write the words for all folders; for the lines of the sweeps their codes are enough."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        words = {vector.name: said(vector, scratch)[2] for vector in vectors(scratch) if "." not in vector.name}
    MESSAGES.write_text(json.dumps(words, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
