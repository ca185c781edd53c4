"""Names and bytes of tiles and entry bundles: the examples of the tlog-tiles specification, and bent bytes."""

from __future__ import annotations

import pytest

from verifier.archive import tiles
from verifier.errors import AuditError


def test_paths_of_the_specification() -> None:
    assert tiles.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tiles.tile_path(0, 1234067, 8) == "tile/0/x001/x234/067.p/8"
    assert tiles.tile_path(2, 0, 1) == "tile/2/000.p/1"
    assert tiles.entries_path(999) == "tile/entries/999"
    assert tiles.entries_path(1000, 255) == "tile/entries/x001/000.p/255"
    assert tiles.partial_folder(tiles.tile_path(0, 273)) == "tile/0/273.p"


def test_tree_of_70000_as_the_specification_counts_it() -> None:
    """273 full and one partial tile of 112 at level 0, one full and one of 17 at level 1, one of 1 at level 2."""
    found = list(tiles.tiles_of(70_000))
    assert len(found) == 274 + 2 + 1
    assert [tile for tile in found if tile[2] < 256] == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]


def test_tree_of_256_has_a_full_tile_and_a_partial_one_above() -> None:
    assert list(tiles.tiles_of(256)) == [(0, 0, 256), (1, 0, 1)]
    assert list(tiles.tiles_of(0)) == []


@pytest.mark.parametrize("index", [0, 7, 999, 1000, 1234067, 10**9, 10**18 - 1])
@pytest.mark.parametrize("width", [1, 255, 256])
def test_parse_path_undoes_the_name(index: int, width: int) -> None:
    assert tiles.parse_path(tiles.entries_path(index, width).removeprefix("tile/entries/")) == (index, width)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "00",
        "0000",
        "x000/001",
        "x001/x002",
        "001.p/0",
        "001.p/256",
        "001.p/01",
        "001.p",
        "../000",
        "000\n",
        "\u0660" * 3,
    ],
)
def test_any_other_name_is_no_tile(name: str) -> None:
    assert tiles.parse_path(name) is None


def test_entries_round_trip() -> None:
    entries = [b"", b"a", b"\x00" * tiles.MAX_ENTRY]
    raw = tiles.join_entries(entries)
    assert raw[:5] == b"\x00\x00\x00\x01a"
    assert tiles.split_entries(raw, where="x") == entries


def test_an_entry_beyond_its_length_field_is_refused() -> None:
    with pytest.raises(AuditError, match="A-entry-size"):
        tiles.join_entries([b"\x00" * (tiles.MAX_ENTRY + 1)])


@pytest.mark.parametrize("raw", [b"\x00", b"\x00\x01", b"\x00\x01ab", b"\xff\xffabc", b"\x00\x00" * 257])
def test_a_bundle_that_does_not_end_where_its_lengths_say_is_refused(raw: bytes) -> None:
    with pytest.raises(AuditError, match="A-bundle"):
        tiles.split_entries(raw, where="x")


@pytest.mark.parametrize("raw", [b"", b"\x00" * 31, b"\x00" * 33, b"\x00" * 96])
def test_a_tile_of_another_length_is_refused(raw: bytes) -> None:
    with pytest.raises(AuditError, match="A-tile"):
        tiles.split_hashes(raw, width=2, where="x")
