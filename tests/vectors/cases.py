"""All vectors in folders: which there are, and how one is written. What they change stands in the modules by step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.vectors.base import Base, Case, read_base, resign, with_terms
from tests.vectors.bytes_cases import bytes_cases, file_cases, text_cases
from tests.vectors.circuit_cases import circuit_cases
from tests.vectors.claim_cases import claim_cases
from tests.vectors.evidence import chain_cases
from tests.vectors.models import KINDS
from tests.vectors.pinned_cases import pinned_cases
from tests.vectors.terms_cases import terms_cases
from verifier.statement import canonical

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.circuit import Circuit

__all__ = ["Base", "Case", "read_base", "resign", "with_terms", "write_cases"]


def write_cases(base: Base, out: Path) -> int:
    """Write every case below `out`; gives their number."""
    cases = all_cases(base)
    for name, case in cases.items():
        folder = out / (f"{name}_fail" if case.code else name)
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_bytes(case.bundle)
        (folder / "expected.json").write_text(json.dumps(case.expected) + "\n")
        if case.policy is not None:
            (folder / "policy.json").write_bytes(canonical.encode(case.policy))
        for circuit_id, circuit in (case.circuits or {}).items():
            _write_circuit(folder / "circuits" / circuit_id, circuit)
    return len(cases)


def all_cases(base: Base) -> dict[str, Case]:
    """Every case by its name, which begins with the step that finds it or with ``valid``."""
    parts = (
        *(passing, bytes_cases, text_cases, file_cases),
        *(circuit_cases, pinned_cases, terms_cases, claim_cases, chain_cases),
    )
    cases: dict[str, Case] = {}
    for part in parts:
        made = part(base)
        assert not cases.keys() & made.keys(), cases.keys() & made.keys()
        cases |= made
    return cases


def passing(base: Base) -> dict[str, Case]:
    """The real bundles as they are: a verifier cannot pass by refusing."""
    names = ("other_job", "other_circuit", *KINDS, *(f"{title}_other_job" for title in KINDS))
    cases = {f"valid_{name}": Case(canonical.encode(base.bundles[name]), None) for name in names}
    return {"valid": Case(canonical.encode(base.job), None), **cases}


def _write_circuit(folder: Path, circuit: Circuit) -> None:
    folder.mkdir(parents=True)
    if circuit.records:  # git keeps no empty folder, so none may be part of a vector
        (folder / "records").mkdir()
    (folder / "manifest.json").write_bytes(canonical.encode(circuit.manifest))
    (folder / "verifier.bin").write_bytes(circuit.code)
    for index, record in enumerate(circuit.records):
        (folder / "records" / f"{index}.json").write_bytes(canonical.encode(record))
