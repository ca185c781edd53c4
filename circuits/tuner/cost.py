"""What a proof will cost, from settings and k alone, without proving: seconds, memory, key size, verifier size, gas.

Which columns a circuit gets follows ezkl 23's layout: inner columns overflow into blocks, tables longer than the rows
into columns. Sizes are counted from the columns, with constants fitted on 40 circuits of 14 models; seconds and memory
take a machine's own constants, which `opgate circuit bench` measures (`circuits.tuner.bench`).
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from circuits.run_arguments import RESERVED_ROWS
from circuits.settings import Settings
from verifier.errors import CircuitError
from verifier.files import read_regular, write_atomic

BLINDING_ROWS = 6
_MAX_BLOCKS = 12
_MAX_TABLE_COLUMNS = 6
_WORD = 32
_SCALAR_BITS = 254
_MAX_FILE = 1 << 16
_HASH_ADVICE, _HASH_FIXED, _HASH_PERMUTED, _HASH_ROTATIONS = 3, 6, 4, 4
"""Columns and further queries of ezkl's Poseidon chip: state and partial S-box; round constants and selectors."""
_HASH_CODE, _HASH_GAS = 2_200, 15_000


class Layout(NamedTuple):
    """The columns that settings give at some k; `extension` is the blow-up of the quotient's domain."""

    logrows: int
    advice: int
    lookups: int
    permuted: int
    fixed: int
    degree: int
    rotations: int
    instances: int
    hashed: bool

    @property
    def extension(self) -> int:
        """The extended domain's size over the domain's: the power of two that holds the quotient."""
        return 1 << math.ceil(math.log2(self.degree - 1))

    @property
    def columns(self) -> int:
        """Columns that are committed to for each proof: advice, and lookups as one each."""
        return self.advice + self.lookups

    @property
    def pk_columns(self) -> int:
        """Polynomials in the proving key, a fixed or permuted one in three forms of together 2 + extension columns."""
        return (self.fixed + self.permuted) * (2 + self.extension) + 3 * self.extension

    @property
    def pk_bytes(self) -> int:
        """Predicted size of the proving key."""
        return (_WORD << self.logrows) * self.pk_columns

    @property
    def chunks(self) -> int:
        """Products that the permutation argument is cut into, each of at most degree - 2 columns."""
        return -(-self.permuted // (self.degree - 2))

    @property
    def commitments(self) -> int:
        """Points of a proof, each a multiplication of 2^k points by scalars.

        Advice, two a lookup (logarithmic derivative), one a chunk of the permutation, the quotient's pieces, a random
        polynomial and two of the opening.
        """
        return self.advice + 2 * self.lookups + self.chunks + self.degree - 1 + 3

    @property
    def additions(self) -> int:
        """Additions of points for one commitment by Pippenger's method with windows of ln 2^k bits, as in halo2."""
        rows = 1 << self.logrows
        window = math.ceil(math.log(rows))
        return math.ceil(_SCALAR_BITS / window) * (rows + (2 << window))

    @property
    def proof_bytes(self) -> int:
        """Predicted size of the proof: 64 bytes a commitment, 32 an evaluation.

        Evaluations: advice with rotations, fixed, three a lookup, permuted, three a chunk but one.
        """
        evaluations = self.advice + self.rotations + self.fixed + 3 * self.lookups + self.permuted + 3 * self.chunks - 1
        return 64 * self.commitments + 32 * evaluations

    @property
    def code_bytes(self) -> int:
        """Predicted size of the verifier's runtime code."""
        return 5_018 + int(2.764 * self.proof_bytes) + (_HASH_CODE if self.hashed else 0)

    @property
    def gas(self) -> int:
        """Predicted gas of one verification; 757 an instance."""
        return 147_000 + 104 * self.proof_bytes + 757 * self.instances + (_HASH_GAS if self.hashed else 0)

    @property
    def terms(self) -> tuple[float, float]:
        """What the seconds are made of, in seconds of the machine of the first fit (79 circuits, k 8 to 15, one core).

        The polynomials of the key, which are read and evaluated on the extended domain; the commitments. Terms for
        look-ups, columns and the quotient's own domain were tried beside them and predicted nothing better.
        """
        return 2.38e-8 * self.pk_bytes, 2.95e-7 * self.additions * self.commitments

    @property
    def working_bytes(self) -> int:
        """The polynomials that proving holds at its peak: the key's, and those of columns on the extended domain."""
        extended = self.extension * (2.1 * (self.advice + 2 * self.lookups) + 8.8)
        return int((_WORD << self.logrows) * (self.pk_columns + extended))


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine's constants: seconds a unit of each of `Layout.terms`, memory of an empty child and a working byte.

    The defaults are those of the machine of the first fit: on another one the order of layouts holds, the seconds do
    not, until `opgate circuit bench` has run there.
    """

    name: str = "the machine of the first fit"
    seconds_a_term: tuple[float, float] = (1.0, 1.0)
    base_bytes: int = 42 << 20
    memory_a_byte: float = 1.1
    memory_bytes: int = 0

    @property
    def label(self) -> str:
        """What records call these constants: the first fit's, or a bench's by the beginning of their digest."""
        if self == Machine():
            return "the first fit"
        return f"bench {hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]}"

    @property
    def available_bytes(self) -> int:
        """What a proof may take here: all memory but an eighth, which the system and the service need."""
        return (self.memory_bytes or physical_memory()) * 7 // 8

    def seconds(self, shape: Layout) -> float:
        """Predicted seconds of one proof, the child's start and the key's loading included."""
        return sum(a * b for a, b in zip(self.seconds_a_term, shape.terms, strict=True))

    def memory_of(self, shape: Layout) -> int:
        """Predicted peak resident bytes of one proof."""
        return self.base_bytes + int(self.memory_a_byte * shape.working_bytes)


def physical_memory() -> int:
    """The bytes of memory of this machine, or of its cgroup where that has fewer."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        return total


def layout(settings: Settings, logrows: int, lookup_range: tuple[int, int] | None = None) -> Layout | None:
    """The columns at that k; None where the circuit does not fit or would be absurdly wide.

    `lookup_range` stands for the one of the settings, on which their rows do not depend.
    """
    inner = int(settings.run_args["num_inner_cols"])
    usable, table = 2**logrows - BLINDING_ROWS, 2**logrows - RESERVED_ROWS
    if max(settings.instances, settings.hash_rows) > usable:
        return None
    assigned = settings.total_assignments
    blocks = (assigned + assigned // (usable * inner) + 1) // (usable * inner) + 1
    checks = [(high - low) // table + 1 for low, high in settings.required_range_checks]
    low, high = lookup_range or settings.run_args["lookup_range"]
    kinds = len(settings.required_lookups)
    span = (high - low) // table + 1 if kinds else 0
    if blocks > _MAX_BLOCKS or max([*checks, span, 1]) > _MAX_TABLE_COLUMNS:
        return None
    dynamic = settings.total_dynamic_col_size + settings.total_shuffle_col_size
    extra = int(settings.num_dynamic_lookups > 0) + int(settings.num_shuffles > 0)
    dynamic_columns = 3 * ((dynamic + dynamic // usable + 1) // usable + 1) if dynamic else 0
    constants = math.ceil((settings.total_const_size + 1) / usable) if settings.total_const_size else 0
    widest = max([*checks, 1])
    hashed = settings.hashes > 0
    degree = max(
        5,
        inner + 2,
        6 if dynamic or hashed else 0,
        widest + 4 if widest > 1 else 0,
        span + 4 if span > 1 else 0,
    )
    advice = 3 * inner * blocks + dynamic_columns
    lookups = (sum(checks) + kinds * span + extra) * inner * blocks
    selectors = math.ceil(blocks * (1.5 * inner + 1.5) + (4.5 if dynamic else 0))
    tables = sum(checks) + (span + kinds * span if kinds else 0)
    return Layout(
        logrows=logrows,
        advice=advice + (_HASH_ADVICE if hashed else 0),
        lookups=lookups,
        permuted=3 * inner * blocks + constants + 1 + (_HASH_PERMUTED if hashed else 0),
        fixed=tables + constants + selectors + lookups + (_HASH_FIXED if hashed else 0),
        degree=degree,
        rotations=2 * blocks + (5 * (inner - 1) if dynamic else 0) + (_HASH_ROTATIONS if hashed else 0),
        instances=settings.instances,
        hashed=hashed,
    )


def write_machine(path: Path, machine: Machine) -> None:
    """Keep the constants."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(machine)))


def read_machine(path: Path) -> Machine:
    """The constants of this machine where they were measured, else the first fit's; C-machine-file."""
    if not path.exists():
        return Machine()
    try:
        return msgspec.json.decode(read_regular(path, limit=_MAX_FILE), type=Machine)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CircuitError(
            "C-machine-file",
            "the machine's constants cannot be read",
            where=str(path),
            found=str(error)[:200],
            do="Measure them again: opgate circuit bench",
        ) from error
