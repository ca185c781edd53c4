"""Importing an SRS: pinned by the published table, never downloaded, development files marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuits import ezkl_runner, srs, srs_table
from circuits.build import Built
from circuits.compile import EZKL_VERSION
from circuits.graph import raw_input
from verifier.errors import CircuitError
from verifier.srs import CEREMONY, CEREMONY_K1, srs_kind
from verifier.statement.manifest import SrsDigest
from verifier.statement.scalars import Bytes32, Count, FieldElement

PUBLISHED = {
    10: "9705d450e5dfd06adb673705f7bc34418ec86339203198beceb2ae7f1ffefedb",
    17: "41509f380362a8d14401c5ae92073154922fe23e45459ce6f696f58607655db7",
    20: "54ef75911da76d7a6b7ea341998aaf66cb06c679c53e0a88a4fe070dd3add963",
}
"""Digests from another place than the wheel: what the ceremony's mirror lists."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Development files of k = 4 and 5, which are two ceremonies."""
    folder = tmp_path_factory.mktemp("made")
    srs.development_srs(folder, 4)
    srs.development_srs(folder, 5)
    return folder


def pinned(*files: Path) -> dict[int, str]:
    """A table in which these files are the published ones."""
    table = {int(srs.srs_digest(path).logrows): srs.file_sha256(path).hex() for path in files}
    return {1: srs.srs_digest(files[0]).sha256_k1.hex(), **table}


def test_the_table_of_the_wheel_is_ours_and_the_mirrors() -> None:
    """Trap: a table with one other digest would let a forger's file pass as the ceremony's."""
    table = srs_table.published()
    assert table == CEREMONY
    assert sorted(table) == list(range(1, 27))
    assert table[1] == CEREMONY_K1
    assert {size: table[size] for size in PUBLISHED} == PUBLISHED
    assert EZKL_VERSION == "23.0.5"


def test_another_table_in_the_wheel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CEREMONY, 12, "00" * 32)
    with pytest.raises(CircuitError) as caught:
        srs_table.published()
    assert caught.value.code == "C-srs-table"


def test_a_published_file_is_imported_and_used_first(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "srs"
    path, digest = srs.import_srs(made / "kzg4.srs", store, pinned(made / "kzg4.srs"))
    assert path.name == "ceremony4.srs"
    assert path.read_bytes() == (made / "kzg4.srs").read_bytes()
    assert srs.srs_for(store, 4) == srs.srs_for(store, 3) == path
    assert srs.find_srs((store,), digest) == path
    assert srs.import_srs(made / "kzg4.srs", store, pinned(made / "kzg4.srs"))[0] == path
    assert srs.srs_for(store, 5).name == "kzg5.srs"


def test_a_file_that_is_not_published_is_refused_unless_it_is_for_development(made: Path, tmp_path: Path) -> None:
    """Trap: whoever made an SRS can forge proofs under it, and nothing in ezkl looks at it."""
    with pytest.raises(CircuitError) as caught:
        srs.import_srs(made / "kzg5.srs", tmp_path, CEREMONY)
    assert caught.value.code == "C-srs-unknown"
    assert CEREMONY[5] in caught.value.expected
    assert list(tmp_path.iterdir()) == []
    path, digest = srs.import_srs(made / "kzg5.srs", tmp_path, CEREMONY, development=True)
    assert path.name == "kzg5.srs"
    assert srs_kind(digest) == "development"
    other = srs.development_srs(tmp_path / "other", 5)
    with pytest.raises(CircuitError) as caught:
        srs.import_srs(other, tmp_path, CEREMONY, development=True)
    assert caught.value.code == "C-srs-exists"


def test_two_files_of_different_ceremonies_never_stand_side_by_side(made: Path, tmp_path: Path) -> None:
    """Trap: a larger file serves smaller circuits only where its points are the same ones."""
    table = pinned(made / "kzg4.srs", made / "kzg5.srs")
    srs.import_srs(made / "kzg4.srs", tmp_path, table)
    assert not srs.agree(made / "kzg4.srs", made / "kzg5.srs")
    assert srs.agree(made / "kzg5.srs", made / "kzg5.srs")
    with pytest.raises(CircuitError) as caught:
        srs.import_srs(made / "kzg5.srs", tmp_path, table)
    assert caught.value.code == "C-srs"


def test_a_larger_file_serves_a_smaller_circuit(tiny: Built, tmp_path: Path) -> None:
    """Keys, proof and verification under a file that is one size larger than the circuit needs."""
    folder = tiny.folder
    large = srs.development_srs(tmp_path, tiny.run_args.logrows + 1)
    vk, pk, witness, proof, k1 = (tmp_path / name for name in ("vk", "pk", "witness", "proof", "k1"))
    ezkl_runner.setup(folder.compiled, large, vk=vk, pk=pk)
    manifest = folder.manifest()
    zeros = [[FieldElement(0)] * size for size in (*manifest.wire_sizes, 11)]
    ezkl_runner.require([ezkl_runner.gen_witness(raw_input(zeros), folder.compiled, witness)])
    ezkl_runner.prove(witness=witness, compiled=folder.compiled, pk=pk, srs=large, proof=proof)
    k1.write_bytes(srs.derive_k1(large))
    assert ezkl_runner.verify(proof=proof, settings=folder.settings, vk=vk, srs=k1).value is True
    with pytest.raises(CircuitError):
        ezkl_runner.verify(proof=proof, settings=folder.settings, vk=vk, srs=folder.srs_k1)


def test_only_both_digests_make_a_ceremony() -> None:
    """Trap: the k = 1 part holds what a verifier embeds, the whole file what a prover uses."""

    def digest(whole: str, first: str, logrows: int = 11) -> SrsDigest:
        return SrsDigest(
            logrows=Count(logrows),
            sha256=Bytes32(bytes.fromhex(whole)),
            sha256_k1=Bytes32(bytes.fromhex(first)),
        )

    assert srs_kind(digest(CEREMONY[11], CEREMONY_K1)) == "ceremony"
    assert srs_kind(digest(CEREMONY[11], "00" * 32)) == "development"
    assert srs_kind(digest(CEREMONY[11], CEREMONY_K1, 12)) == "development"
