"""What is read of a file: all of it, whatever size the system tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier.errors import VerifierError
from verifier.files import read_regular

OF_NO_TOLD_SIZE = Path("/proc/self/limits")


def test_a_file_whose_size_is_told_as_zero_is_read_whole_and_capped() -> None:
    """A file that grows while it is read looks just so: the size is a hint and never the end."""
    assert OF_NO_TOLD_SIZE.stat().st_size == 0
    assert read_regular(OF_NO_TOLD_SIZE, limit=1 << 16) == OF_NO_TOLD_SIZE.read_bytes()
    with pytest.raises(VerifierError) as refused:
        read_regular(OF_NO_TOLD_SIZE, limit=100)
    assert refused.value.code == "V0-size"


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_file_up_to_the_limit_is_read_whole(tmp_path: Path, size: int) -> None:
    """And a byte more is refused."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert read_regular(path, limit=100) == b"x" * size
    path.write_bytes(b"x" * (101 + size))
    with pytest.raises(VerifierError) as refused:
        read_regular(path, limit=100)
    assert refused.value.code == "V0-size"
