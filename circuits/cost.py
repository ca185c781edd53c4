"""What a proof will cost, from settings and k alone, without proving: seconds, memory, key size, verifier size.

The formula for seconds and its constants were fitted on 25 models on one two-core machine (leave-one-model-out: median
error 10 %, 90th percentile 22 %); on another machine the order of candidates holds, the seconds do not. Which columns
a circuit gets follows ezkl 23's layout: inner columns overflow into blocks, tables longer than the rows into columns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from circuits.run_arguments import RESERVED_ROWS
from circuits.settings import Settings

BLINDING_ROWS = 6
_MAX_BLOCKS = 12
_MAX_TABLE_COLUMNS = 6


class Layout(NamedTuple):
    """The columns that settings give at some k; `extension` is the blow-up of the quotient's domain."""

    logrows: int
    advice: int
    lookups: int
    permutation: int
    tables: int
    constants: int
    extension: int
    instances: int
    hashed: bool

    @property
    def prove_seconds(self) -> float:
        """Predicted seconds of one proof on the machine of the fit."""
        columns = self.advice + self.lookups
        a_row = 3.2e-6 * self.advice + 2.1e-5 * self.lookups
        a_row += 1.13e-6 * self.extension * (columns + self.permutation / 3) + 1.2e-6 * self.extension
        return 0.063 + 0.0053 * columns + (1 << self.logrows) * a_row

    @property
    def pk_bytes(self) -> int:
        """Predicted size of the proving key."""
        fixed = self.tables + self.constants + self.lookups + self.advice + (10 if self.hashed else 0)
        return (32 << self.logrows) * ((fixed + self.permutation) * (2 + self.extension) + 3 * self.extension)

    @property
    def memory_bytes(self) -> int:
        """Predicted peak resident memory of proving."""
        return (55 << 20) + int(2.5 * self.pk_bytes)

    @property
    def proof_bytes(self) -> int:
        """Predicted size of the proof: 64 bytes a commitment, 32 an evaluation; fitted on one model."""
        chunks = -(-self.permutation // 3)
        commitments = self.advice + 2 * self.lookups + chunks + self.extension + 3
        evaluations = 3 * self.advice + 3 * self.lookups + self.permutation + 3 * chunks + self.tables + self.constants
        return 64 * commitments + 32 * evaluations + (960 if self.hashed else 0)

    @property
    def code_bytes(self) -> int:
        """Predicted size of the verifier's runtime code."""
        return 3400 + int(3.6 * self.proof_bytes)

    @property
    def gas(self) -> int:
        """Predicted gas of one verification; 757 an instance."""
        return 147_000 + 104 * self.proof_bytes + 757 * self.instances


def layout(settings: Settings, logrows: int) -> Layout | None:
    """The columns at that k; None where the circuit does not fit or would be absurdly wide."""
    inner = int(settings.run_args["num_inner_cols"])
    usable, table = 2**logrows - BLINDING_ROWS, 2**logrows - RESERVED_ROWS
    if max(settings.instances, settings.hash_rows) > usable:
        return None
    assigned = settings.total_assignments
    blocks = (assigned + assigned // (usable * inner) + 1) // (usable * inner) + 1
    checks = [(high - low) // table + 1 for low, high in settings.required_range_checks]
    low, high = settings.run_args["lookup_range"]
    kinds = len(settings.required_lookups)
    span = (high - low) // table + 1 if kinds else 0
    if blocks > _MAX_BLOCKS or max([*checks, span, 1]) > _MAX_TABLE_COLUMNS:
        return None
    dynamic = settings.total_dynamic_col_size + settings.total_shuffle_col_size
    extra = int(settings.num_dynamic_lookups > 0) + int(settings.num_shuffles > 0)
    dynamic_blocks = 3 * ((dynamic + dynamic // usable + 1) // usable + 1) if dynamic else 0
    constants = math.ceil((settings.total_const_size + 1) / usable) if settings.total_const_size else 0
    widest = max([*checks, 1])
    degree = max(
        5,
        inner + 2,
        6 if dynamic or settings.hashes else 0,
        widest + 4 if widest > 1 else 0,
        span + 4 if span > 1 else 0,
    )
    return Layout(
        logrows=logrows,
        advice=3 * inner * blocks + dynamic_blocks,
        lookups=(sum(checks) + kinds * span + extra) * inner * blocks,
        permutation=3 * inner * blocks + constants + 1,
        tables=sum(checks) + (span + kinds * span if kinds else 0),
        constants=constants,
        extension=1 << math.ceil(math.log2(degree - 1)),
        instances=settings.instances,
        hashed=settings.hashes > 0,
    )
