"""Every error code of the sources with its sentence, as the table in docs/errors.md.

`python -m tests.docs.error_table` writes the table anew; what stands above it in the file is kept.
"""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "errors.md"
PACKAGES = ("circuits", "prover", "verifier", "workers")
BEGIN = "<!-- made by: python -m tests.docs.error_table -->"
CODE = re.compile(r"(V[0-8]|G[1-9]?|[ACEUW])(-[a-z0-9]+)+|V-internal")
ROW = re.compile(r"^\| `([A-Z][a-z0-9*<>-]*)` \|", re.MULTILINE)
CONTRACTS = ("escrow.vy", "job_terms.vy", "transfers.vy", "opg_test_token.vy")
FAMILIES = {
    "V": "Verification, by step; also what a payer's input file or archive bytes can be refused for",
    "G": "The payer's gate, by its steps G1-G8, and its ledger",
    "E": "Escrow, token, chain, keys and transactions; a reason of the contracts' reverts is E-reason",
    "C": "Circuits and the prover",
    "W": "The provider's service, jobs, the dev network and the demo",
    "A": "Archive and audit",
    "U": "Usage of a command",
}
PREFIXES = {"A-file"}
"""Words in the sources that only begin codes."""
SPOKEN = {
    "V-internal": "the verifier itself failed; nothing was decided",
    "E-already-known": "the node has the transaction already",
    "E-nonce-low": "the node refuses the transaction: its nonce is used up",
    "E-rpc-evidence": "the node's evidence of a transaction does not hold together",
    "E-underpriced": "the node refuses the transaction: it offers too little for its gas",
    "W-demo-late": "a job of the demo was not closed in time",
    "A-checkpoint": "the text of the note is no checkpoint",
    "A-cut-back": "entries that an earlier checkpoint covers are gone",
    "A-entry-added": "an entry was added that was never logged",
    "A-entry-form": "an entry is not the canonical JSON of a log entry",
    "A-entry-missing": "an entry was removed",
    "A-entry-order": "the entries of a bundle stand in another order",
    "A-note": "these bytes are no signed note",
    "A-proof-range": "the question lies outside the tree",
    "A-rewritten": "the log is not the one of an earlier checkpoint: its history was rewritten",
    "A-role-missing": "an entry lacks a digest that its kind must have",
    "A-verdict-differs": "the archived verdict is not the one that the archived bytes give",
    "U-circuit": "no circuit, or more than one, begins so",
    "U-internal": "internal error; nothing was decided",
    "U-job": "no job, or more than one, begins so",
    "C-scale": "the outputs are the model's only at a higher scale than builds try first",
    "C-too-large": "the circuit has more cells than any proof takes",
    "C-bits": "no number of bits meets the fidelity that was asked for",
    "E-gas-limit": "the node refuses the transaction: its gas",
    "E-funds": "the node refuses the transaction: the account cannot pay for it",
    "E-nonce-high": "the node refuses the transaction: its nonce leaves a gap",
    "W-attempt-internal": "an attempt at a job failed in a way that nobody foresaw",
    "W-declined": "the provider gave the job up",
    "W-worker-lost": "the worker that had claimed the job is gone",
    "W-job-late": "too little time is left for another attempt",
    "W-job-attempts": "the job failed as often as it may be tried",
    "W-sweep-internal": "a pass over a job failed in a way that nobody foresaw; the next pass tries again",
    "W-bundle-missing": "the job's bundle is not in the archive",
    "W-http-<status>": "the provider answers with this HTTP status and no code of its own",
    "W-terms-<field>": "the terms are not what this provider takes; the code names the field",
}
"""Sentences of codes that stand in the sources without one beside them."""


def collect() -> dict[str, str]:
    """Every code and its first sentence, by code."""
    found = dict(_reasons())
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for code, sentence in _of_source(path):
                if sentence or code not in found:
                    found[code] = found.get(code) or sentence
    return {code: found[code] or SPOKEN.get(code, "") for code in sorted(found.keys() - PREFIXES)}


def render() -> str:
    """The tables."""
    codes = collect()
    parts = [BEGIN]
    for letter, title in FAMILIES.items():
        rows = [f"| `{code}` | {sentence} |" for code, sentence in codes.items() if code[0] == letter]
        parts += ["", f"## {letter}", "", f"{title}.", "", "| Code | Meaning |", "|---|---|", *rows]
    return "\n".join(parts) + "\n"


def documented() -> set[str]:
    """The codes that the page lists."""
    return set(ROW.findall(PAGE.read_text(encoding="utf-8")))


def _of_source(path: Path) -> list[tuple[str, str]]:
    """Codes of one source: from calls with a sentence behind them, from f-strings, and from anywhere else."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    evidence = path.name == "chain_evidence.py"
    found: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            words = [_text(argument) for argument in node.args]
            found += [
                (word, sentence or "") for word, sentence in itertools.pairwise([*words, None]) if word and _is(word)
            ]
            if evidence and _name(node) in {"_no", "_decode"}:
                found += _evidence(node, words)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [(str(_text(key)), _text(value) or "") for key, value in pairs if key and _is(_text(key))]
        elif isinstance(node, ast.Constant) and _is(node.value):
            found.append((str(node.value), ""))
        elif isinstance(node, ast.JoinedStr) and (pattern := _pattern(node)):
            found.append((pattern, ""))
    return found


def _evidence(node: ast.Call, words: list[str | None]) -> list[tuple[str, str]]:
    """The codes of chain evidence are made of a word: `_no(word, sentence)`, `_decode(raw, word)`."""
    first = 0 if _name(node) == "_no" else 1
    word, sentence = words[first], words[first + 1] if len(words) > first + 1 else ""
    return [(f"V3-evidence-{word}", sentence or f"the {word} is no RLP")] if word else []


def _pattern(node: ast.JoinedStr) -> str | None:
    """A code with a hole, such as W-http-<status>; those of the contracts' reasons are listed one by one."""
    head = node.values[0] if node.values else None
    if len(node.values) < 2 or not isinstance(head, ast.Constant):
        return None
    holes = {"W-http-": "status", "W-terms-": "field"}
    return f"{head.value}<{holes[str(head.value)]}>" if head.value in holes else None


def _reasons() -> dict[str, str]:
    """E-reason for each reason of a revert; the escrow's own header says what each means."""
    found: dict[str, str] = {}
    for name in CONTRACTS:
        text = (ROOT / "verifier" / "payment" / name).read_text(encoding="utf-8")
        said = dict(re.findall(r"^    ([a-z0-9-]+) {2,}(\S.*)$", text, re.MULTILINE))
        for reason in re.findall(r'assert[^"]*"([a-z0-9-]+)"', text, re.DOTALL):
            found.setdefault(f"E-{reason}", said.get(reason, f"the test token refuses: {reason.replace('-', ' ')}"))
    return found


def _text(node: ast.expr) -> str | None:
    """A literal, or an f-string with its holes named by what fills them."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is(value: object) -> bool:
    return isinstance(value, str) and CODE.fullmatch(value) is not None


def _name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def main() -> None:
    """Write the tables into the page."""
    head = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(head + render(), encoding="utf-8")


if __name__ == "__main__":
    main()
