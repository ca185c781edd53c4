"""The inclusion and consistency vectors of transparency-dev/merkle: each is accepted or refused as they say."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from verifier.archive import merkle
from verifier.errors import AuditError

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "merkle" / "merkle_vectors.json"


def vectors(kind: str) -> list[Any]:
    if not VECTORS.exists():
        return [
            pytest.param(None, marks=pytest.mark.skip(reason="the folder with transparency-dev's vectors is absent"))
        ]
    return [pytest.param(vector, id=vector["name"]) for vector in json.loads(VECTORS.read_text())[kind]]


def hashes(values: list[str] | None) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


@pytest.mark.parametrize("vector", vectors("inclusion"))
def test_inclusion(vector: dict[str, Any]) -> None:
    leaf, root = hashes([vector["leafHash"] or "", vector["root"] or ""])

    def check() -> None:
        merkle.verify_inclusion(
            leaf=leaf,
            index=vector["leafIdx"],
            size=vector["treeSize"],
            proof=hashes(vector["proof"]),
            expected_root=root,
        )

    if vector["wantErr"]:
        with pytest.raises(AuditError, match="A-inclusion"):
            check()
    else:
        check()


@pytest.mark.parametrize("vector", vectors("consistency"))
def test_consistency(vector: dict[str, Any]) -> None:
    first_root, second_root = hashes([vector["root1"] or "", vector["root2"] or ""])

    def check() -> None:
        merkle.verify_consistency(
            first=vector["size1"],
            second=vector["size2"],
            first_root=first_root,
            second_root=second_root,
            proof=hashes(vector["proof"]),
        )

    if vector["wantErr"]:
        with pytest.raises(AuditError, match="A-consistency"):
            check()
    else:
        check()
