"""The structured reference string of a circuit: kept development ceremonies, digests, and the k = 1 part of a file.

Nothing is downloaded. A development SRS is made once per size and kept, since each call of `gen_srs` makes another one;
whoever made it could forge, so policies accept it only on development chains. Which files are the public ceremony's is
said by `verifier.srs`.

File layout of halo2's ParamsKZG in raw bytes: k (u32, little-endian), 2^k points of the monomial basis, 2^k points of
the Lagrange basis, G2, s·G2; a coordinate is 32 bytes, little-endian, in Montgomery form.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from circuits import ezkl_runner
from verifier.errors import CircuitError
from verifier.evm import default_engine
from verifier.files import sync_folder
from verifier.statement.manifest import SrsDigest
from verifier.statement.scalars import FIELD_MODULUS, Address, Bytes32, Count

MAX_LOGROWS = 20
LARGEST_CEREMONY = 26
BASE_MODULUS = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""Order of BN254's base field (EIP-196)."""

_FROM_MONTGOMERY = pow(2, -256, BASE_MODULUS)
_TO_MONTGOMERY = pow(2, 256, BASE_MODULUS)
_HALF = pow(2, -1, FIELD_MODULUS)
_ADD, _MUL, _PAIRING = (Address(bytes(19) + bytes([number])) for number in (6, 7, 8))
_POINT, _G2_POINT = 64, 128


def development_srs(store: Path, logrows: int) -> Path:
    """The store's development SRS of that size, made once and kept: ``kzg<k>.srs``.

    Two processes that make it at once end with the same file: the first one's.

    Raises:
        CircuitError: C-srs-size for a size outside 1 to 20, C-srs where the file there is damaged.
    """
    if not 1 <= logrows <= MAX_LOGROWS:
        raise CircuitError("C-srs-size", "no SRS of this size", expected=f"1 to {MAX_LOGROWS}", found=str(logrows))
    path = store.absolute() / f"kzg{logrows}.srs"  # the child that makes it works in a folder of its own
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
            made = Path(folder) / path.name
            ezkl_runner.gen_srs(made, logrows)
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
    if _logrows(path) != logrows:
        raise CircuitError("C-srs", "the SRS has another size than its name says", where=str(path))
    return path


def srs_for(store: Path, logrows: int) -> Path:
    """The file to build with: the smallest imported file of the ceremony that is large enough, else a development SRS.

    A larger file serves too: its first points are those of every smaller one, and ezkl cuts it down itself, which each
    proof pays for. So import the size that the circuits have.
    """
    for size in range(logrows, LARGEST_CEREMONY + 1):
        imported = store.absolute() / f"ceremony{size}.srs"
        if imported.is_file():
            return imported
    return development_srs(store, logrows)


def import_srs(path: Path, store: Path, table: dict[int, str], *, development: bool = False) -> tuple[Path, SrsDigest]:
    """Copy an SRS file into the store after its whole digest was found in the published table.

    Args:
        path: the file, of any size up to k = 26.
        store: the folder of SRS.
        table: sha256 by k (`srs_table.published`).
        development: take a file that is not the ceremony's, for development chains only.

    Raises:
        CircuitError: C-srs where it is no SRS, or its points are not those of the ceremony's files that are here;
            C-srs-unknown where its digest is not published; C-srs-exists for another development SRS of that size.
    """
    digest = srs_digest(path)
    logrows, raw = int(digest.logrows), digest.sha256.hex()
    ceremony = table.get(logrows) == raw
    if not ceremony and not development:
        raise CircuitError(
            "C-srs-unknown",
            "this file is not the public ceremony's: whoever made it could forge proofs",
            where=str(path),
            expected=f"sha256 {table.get(logrows, 'of a published size')} for k = {logrows}",
            found=raw,
            do="Get the ceremony's file again; only for a development chain, add --development.",
        )
    if ceremony and digest.sha256_k1.hex() != table[1]:
        raise CircuitError(
            "C-srs", "the file's first points are not the ceremony's", where=str(path), expected=table[1]
        )
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in sorted(store.glob("ceremony*.srs")) if ceremony else ():
        if not agree(path, other):
            raise CircuitError("C-srs", "two files of the ceremony have different points", where=f"{path}, {other}")
    target = store.absolute() / (f"ceremony{logrows}.srs" if ceremony else f"kzg{logrows}.srs")
    if target.exists():
        if file_sha256(target) == digest.sha256:
            return target, digest
        raise CircuitError(
            "C-srs-exists",
            "there is another SRS of this size, and circuits may hang on it",
            where=str(target),
            do="Name another store, or move that file away.",
        )
    with tempfile.TemporaryDirectory(dir=store, prefix=".importing-") as folder:
        made = Path(folder) / target.name
        shutil.copyfile(path, made)
        if file_sha256(made) != digest.sha256:
            raise CircuitError("C-srs", "the file changed while it was copied", where=str(path))
        with contextlib.suppress(FileExistsError):
            os.link(made, target)
    sync_folder(store)
    return target, digest


def agree(first: Path, second: Path) -> bool:
    """Whether the smaller of two files holds the larger one's first powers: the same secret, the same G2 points."""
    small, large = sorted((first, second), key=_logrows)
    count = 2 ** _logrows(small)
    with small.open("rb") as one, large.open("rb") as other:
        one.seek(4)
        other.seek(4)
        left = count * _POINT
        while left:
            size = min(left, 1 << 20)
            if one.read(size) != other.read(size):
                return False
            left -= size
        one.seek(-2 * _G2_POINT, os.SEEK_END)
        other.seek(-2 * _G2_POINT, os.SEEK_END)
        return one.read() == other.read()


def find_srs(stores: tuple[Path, ...], digest: SrsDigest) -> Path:
    """The file of a manifest's SRS among some folders or files, by its sha256; CircuitError C-srs-missing."""
    names = [
        store / name
        for store in stores
        for name in ("kzg.srs", f"ceremony{digest.logrows}.srs", f"kzg{digest.logrows}.srs")
    ]
    for path in (*stores, *names):
        if path.is_file() and file_sha256(path) == digest.sha256:
            return path
    raise CircuitError(
        "C-srs-missing",
        "the circuit's SRS is not here",
        where=", ".join(str(store) for store in stores)[:200],
        expected=f"a file with sha256 {digest.sha256}",
        do="Get it from the owner (a development SRS exists nowhere else), or name it with --srs.",
    )


def srs_digest(path: Path) -> SrsDigest:
    """Size and digests of an SRS file and of its k = 1 part; CircuitError C-srs where it is none."""
    return SrsDigest(
        logrows=Count(_logrows(path)),
        sha256=file_sha256(path),
        sha256_k1=Bytes32(hashlib.sha256(derive_k1(path)).digest()),
    )


def derive_k1(path: Path) -> bytes:
    """The k = 1 file of the same ceremony, 516 bytes: G and s·G, their Lagrange basis over {1, -1}, G2 and s·G2.

    The Lagrange points are (G + s·G)/2 and (G - s·G)/2. It checks that the points lie on the curve and that the pairing
    holds, e(s·G, G2) = e(G, s·G2); not the powers above the first.

    Raises:
        CircuitError: C-srs.
    """
    logrows = _logrows(path)
    with path.open("rb") as stream:
        stream.seek(4)
        first, second = stream.read(_POINT), stream.read(_POINT)
        stream.seek(4 + 2 * _POINT * 2**logrows)
        g2, s_g2 = stream.read(_G2_POINT), stream.read(_G2_POINT)
    g, s_g = _to_evm(first), _to_evm(second)
    if not any(s_g) or not _pairing_holds(g, s_g, g2, s_g2):
        raise _bad(path, "points that do not belong to one ceremony")
    half_g, half_s = _call(_MUL, g + _HALF.to_bytes(32)), _call(_MUL, s_g + _HALF.to_bytes(32))
    negative = _call(_MUL, half_s + (FIELD_MODULUS - 1).to_bytes(32))
    lagrange = _from_evm(_call(_ADD, half_g + half_s)) + _from_evm(_call(_ADD, half_g + negative))
    return (1).to_bytes(4, "little") + first + second + lagrange + g2 + s_g2


def file_sha256(path: Path) -> Bytes32:
    """The sha256 of a file of any size."""
    with path.open("rb") as stream:
        return Bytes32(hashlib.file_digest(stream, "sha256").digest())


def _logrows(path: Path) -> int:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            logrows = int.from_bytes(stream.read(4), "little")
    except OSError as error:
        raise _bad(path, str(error)) from error
    if not 1 <= logrows <= 26 or size != 2**logrows * 2 * _POINT + 4 + 2 * _G2_POINT:
        raise _bad(path, f"{size} bytes for k = {logrows}")
    return logrows


def _bad(path: Path, found: str) -> CircuitError:
    return CircuitError(
        "C-srs", "this is no SRS", where=str(path), expected="2^k * 128 + 260 bytes of points", found=found
    )


def _to_evm(raw: bytes) -> bytes:
    """Coordinates as the EVM's precompiles take them: big-endian, not in Montgomery form."""
    words = [int.from_bytes(raw[i : i + 32], "little") for i in range(0, len(raw), 32)]
    return b"".join((word * _FROM_MONTGOMERY % BASE_MODULUS).to_bytes(32) for word in words)


def _from_evm(point: bytes) -> bytes:
    words = [int.from_bytes(point[i : i + 32]) * _TO_MONTGOMERY % BASE_MODULUS for i in (0, 32)]
    return b"".join(word.to_bytes(32, "little") for word in words)


def _pairing_holds(g: bytes, s_g: bytes, g2: bytes, s_g2: bytes) -> bool:
    """True where e(s·G, G2) = e(G, s·G2): both G2 points stand for the same secret as s·G."""
    try:
        minus = _call(_MUL, g + (FIELD_MODULUS - 1).to_bytes(32))
        answer = _call(_PAIRING, s_g + _g2_to_evm(g2) + minus + _g2_to_evm(s_g2))
    except Exception:  # noqa: BLE001 - the engine refuses points that are not on the curve in its own way
        return False
    return int.from_bytes(answer) == 1


def _g2_to_evm(raw: bytes) -> bytes:
    """Each coordinate of G2 has its imaginary part first (EIP-197), in the file last."""
    flat = _to_evm(raw)
    return flat[32:64] + flat[:32] + flat[96:128] + flat[64:96]


def _call(precompile: Address, message: bytes) -> bytes:
    return default_engine().call({}, precompile, message, 1_000_000, "CANCUN")
