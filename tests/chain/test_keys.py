"""Key files: private, whole, never overwritten, never shown."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from verifier.errors import EscrowError
from verifier.payment.keys import Key, create_key, load_key
from verifier.statement.scalars import Bytes32


def test_a_key_file_round_trips_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "payer.key"
    key = create_key(path)
    assert load_key(path).address == key.address
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["payer.key"]
    with pytest.raises(EscrowError, match=r"^E-key-exists"):
        create_key(path)
    assert load_key(path).address == key.address
    with pytest.raises(EscrowError, match=r"^E-key-missing"):
        load_key(tmp_path / "none.key")


def test_files_that_others_may_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    create_key(path)
    link = tmp_path / "link.key"
    link.symlink_to(path)
    with pytest.raises(EscrowError, match=r"^E-key-permissions"):
        load_key(link)
    for mode in (0o640, 0o604, 0o660, 0o700 | 0o001):
        path.chmod(mode)
        with pytest.raises(EscrowError, match=r"^E-key-permissions"):
            load_key(path)
    with pytest.raises(EscrowError, match=r"^E-key-permissions"):
        load_key(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "0x",
        "0x" + "0" * 64,
        "0x" + "f" * 64,
        "ab" * 32,
        "0x" + "AB" * 32,
        "0x" + "ab" * 33,
        "0x" + "ab" * 32 + "\n\n",
    ],
)
def test_other_contents_are_no_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(EscrowError, match=r"^E-key-format"):
        load_key(path)


def test_the_secret_is_never_shown(tmp_path: Path) -> None:
    """The trap: a repr or a pickle in a log, a traceback or a task message."""
    path = tmp_path / "a.key"
    key = create_key(path)
    secret = path.read_text().strip()[2:]
    assert secret not in repr(key)
    assert secret not in str(key)
    assert repr(key) == f"Key(address={key.address})"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_signatures_have_one_encoding_and_one_length() -> None:
    key = Key((1).to_bytes(32))
    assert str(key.address) == "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    signature = key.sign_digest(Bytes32(b"\x05" * 32))
    assert len(signature) == 65
    assert signature[64] in (27, 28)
    with pytest.raises(EscrowError, match=r"^E-key-digest"):
        key.sign_digest(b"short")  # type: ignore[arg-type]  # what untyped code could pass
