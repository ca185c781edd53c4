"""The knobs of a circuit: the few that a build chooses, each bounded, and the many that are fixed and always set.

gen_settings accepts a base of 1, too few legs or a base of 2^40, and setup then never returns: no value outside these
bounds reaches ezkl. The canonical bytes of the knobs are hashed into the manifest.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from verifier.errors import CircuitError, OpgateError
from verifier.statement import canonical
from verifier.statement.manifest import JOB_LIMB_BITS, Visibility
from verifier.statement.scalars import Bytes32, Uint256

RESERVED_ROWS = 8
"""Rows of a table column that ezkl keeps for itself; a base above 2^k - 8 needs a second column at twice the price."""
MAX_LOOKUP = 1 << 30
_LEAST_MARGIN = 4

Scale = Annotated[int, msgspec.Meta(ge=0, le=24)]
Bound = Annotated[int, msgspec.Meta(ge=-MAX_LOOKUP, le=MAX_LOOKUP)]


class RunArguments(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/run-args/1"
):
    """The knobs. A value v is written in base `decomp_base` with `decomp_legs` digits, so |v| < base^legs."""

    visibility: Visibility = "public"
    input_scale: Scale
    param_scale: Scale
    scale_rebase_multiplier: Annotated[int, msgspec.Meta(ge=1, le=20)]
    lookup_min: Bound
    lookup_max: Bound
    logrows: Annotated[int, msgspec.Meta(ge=6, le=20)]
    num_inner_cols: Annotated[int, msgspec.Meta(ge=1, le=4)]
    decomp_base: Annotated[int, msgspec.Meta(ge=2, le=1 << 20)]
    decomp_legs: Annotated[int, msgspec.Meta(ge=1, le=8)]

    def __post_init__(self) -> None:
        """What must hold between knobs."""
        if self.lookup_min >= self.lookup_max:
            raise ValueError("the lookup range is empty")
        if self.decomp_base**self.decomp_legs <= 1 << JOB_LIMB_BITS:
            raise ValueError("base^legs is too small for the job limbs")

    @property
    def value_bound(self) -> Uint256:
        """The largest magnitude of a value in the circuit."""
        return Uint256(self.decomp_base**self.decomp_legs - 1)

    @property
    def sha256(self) -> Bytes32:
        """The digest that the manifest carries."""
        return canonical.digest(self)

    def to_ezkl(self) -> dict[str, Any]:
        """Every argument that decides a circuit, as ezkl names it: its defaults change between versions."""
        return ezkl_arguments(
            input_visibility=self.visibility,
            input_scale=self.input_scale,
            param_scale=self.param_scale,
            scale_rebase_multiplier=self.scale_rebase_multiplier,
            lookup_range=[self.lookup_min, self.lookup_max],
            logrows=self.logrows,
            num_inner_cols=self.num_inner_cols,
            decomp_base=self.decomp_base,
            decomp_legs=self.decomp_legs,
        )


def table_range(seen: tuple[int, int], part: int = 2) -> tuple[int, int]:
    """The range of a look-up's table: what was seen to be asked, and on both sides that part of it more, 4 at least."""
    low, high = seen
    margin = max(_LEAST_MARGIN, (high - low) // part)
    return low - margin, high + margin


def ezkl_arguments(**knobs: Any) -> dict[str, Any]:
    """The fixed arguments and the given ones.

    Weights are bound by the key (`fixed`), inputs are public unless they are to be hashed, outputs public, Freivalds'
    check is newer than the audit, and range checks of inputs and outputs are never left out.
    """
    return {
        "input_visibility": "public",
        "output_visibility": "public",
        "param_visibility": "fixed",
        "rebase_frac_zero_constants": False,
        "check_mode": "unsafe",
        "bounded_log_lookup": False,
        "ignore_range_check_inputs_outputs": False,
        "epsilon": 2.220446049250313e-16,
        "disable_freivalds": True,
        "variables": [["batch_size", 1]],
        **knobs,
    }


def read_run_arguments(raw: bytes) -> RunArguments:
    """The knobs of stored bytes; CircuitError C-run-args where they are not canonical or out of bounds."""
    try:
        return canonical.decode(RunArguments, raw, where="run_args.json", limit=4096)
    except OpgateError as error:
        raise CircuitError(
            "C-run-args", "these are no run arguments", where="run_args.json", found=str(error)
        ) from error
