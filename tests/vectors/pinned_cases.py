"""Steps 1, 2, 5 and 7: circuits that are whole and signed for, around code that is no verifier or another SRS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.vectors.base import Case, only, pinned, resign
from tests.vectors.changes import flipped
from tests.vectors.circuit_cases import DELEGATION, ONE, PROXY
from verifier.srs import CEREMONY, CEREMONY_K1
from verifier.statement import canonical
from verifier.statement.eip712 import escrow_domain
from verifier.statement.manifest import SrsDigest
from verifier.statement.scalars import Bytes32, Count, TensorInt, Text

if TYPE_CHECKING:
    from tests.vectors.base import Base
    from verifier.circuit import Circuit
    from verifier.policy import Policy

_MAX_CALLDATA = 1 << 18
"""As docs/spec/verification.md says."""
CODES: dict[str, tuple[str, str | None]] = {
    "answers_1": (ONE, None),
    "answers_1_by_push0": ("60015f5260205ff3", None),
    "answers_0": ("600060005260206000f3", "V7-proof"),
    "answers_2": ("600260005260206000f3", "V7-proof"),
    "answers_1_shifted": ("600160f81b60005260206000f3", "V7-proof"),
    "answers_31_bytes": ("6001600052601f6001f3", "V7-proof"),
    "answers_33_bytes": ("600160005260216000f3", "V7-proof"),
    "answers_64_bytes": ("600160005260406000f3", "V7-proof"),
    "answers_nothing": ("00", "V7-proof"),
    "reverts_with_1": ("600160005260206000fd", "V7-proof"),
    "invalid": ("fe", "V7-proof"),
    "writes_storage": ("6001600055" + ONE, "V7-proof"),
    "writes_transient_storage": ("600160005d" + ONE, "V7-proof"),
    "logs": ("60006000a0" + ONE, "V7-proof"),
    "creates": ("600060006000f0" + ONE, "V7-proof"),
    "destroys_itself": ("6000ff", "V7-proof"),
    "loops_for_ever": ("5b600056", "V7-proof"),
    "takes_huge_memory": ("6001630fffffff52" + ONE, "V7-proof"),
    "jumps_nowhere": ("600056" + ONE, "V7-proof"),
    "underflows": ("01" + ONE, "V7-proof"),
    "proxy": (PROXY.hex(), "V7-proof"),
    "delegation": (DELEGATION.hex(), "V1-code-kind"),
    "eof_container": ("ef0001010004020001000104000000008000" + "00fe", "V1-code-kind"),
    "only_ef": ("ef", "V1-code-kind"),
    "empty": ("", "V7-proof"),
}
"""Code that is pinned, certified and signed for, and what calling it must come to."""


def pinned_cases(base: Base) -> dict[str, Case]:
    """Every case that is made by `pinned`: nothing but the code or the manifest's own fields can be at fault."""
    return {**_codes(base), **_sizes(base), **_srs(base)}


def _codes(base: Base) -> dict[str, Case]:
    """Pinned code that is no verifier: whatever the records say, calling it decides. The circuit is small."""
    small, circuit = base.small, base.circuit_of(base.small)
    cases: dict[str, Case] = {}
    code: str | None
    for name, (source, verdict) in CODES.items():
        bundle, made = pinned(small, circuit, bytes.fromhex(source))
        title = f"{(verdict or 'V')[1] if verdict else 'valid'}_pinned_code_{name}"
        cases[title] = Case(canonical.encode(bundle), verdict, circuits=only(bundle, made))
    for name, gas, refused in (
        ("gas_above_the_escrows", 12_800_001, "V2-gas"),
        ("gas_at_the_escrows", 12_800_000, "V7-proof"),
        ("gas_zero", 0, "V7-proof"),
    ):
        bundle, made = pinned(small, circuit, circuit.code, evm=_with_gas(circuit, gas))
        cases[f"{refused[1]}_pinned_{name}"] = Case(canonical.encode(bundle), refused, circuits=only(bundle, made))
    transient = "600160005d" + ONE  # TSTORE is a write: refused in a static call on every revision
    loads = "60005c50" + ONE  # TLOAD, which CANCUN brought
    for revision, source, code in (
        ("CANCUN", loads, None),
        ("PRAGUE", loads, None),
        ("PRAGUE", transient, "V7-proof"),
        ("LONDON", ONE, "V7-revision"),
        ("shanghai", ONE, "V7-revision"),
        ("constructor", ONE, "V7-revision"),  # names that an object of JavaScript has by itself
        ("__proto__", ONE, "V7-revision"),
        ("", ONE, "V7-revision"),
    ):
        evm = replace(circuit.manifest.evm, revision=Text(revision))
        bundle, made = pinned(small, circuit, bytes.fromhex(source), evm=evm)
        what = "load" if source == loads else "store" if source == transient else "answer"
        title = f"{code[1] if code else 'valid'}_pinned_revision_{revision or 'empty'}_{what}"
        cases[title] = Case(canonical.encode(bundle), code, circuits=only(bundle, made))
    for limit, cap_at in (("at", 0), ("below", 1)):
        # burns all but what 21 instructions need, then answers: the cap of 10,000 is met to the gas, or missed by one
        bundle, made = pinned(small, circuit, _burning(10_000 + cap_at), evm=_with_gas(circuit, 8_000))
        code = "V7-proof" if cap_at else None
        cases[f"{'7' if code else 'valid'}_pinned_gas_{limit}_cap"] = Case(
            canonical.encode(bundle), code, circuits=only(bundle, made)
        )
    return cases


def _with_gas(circuit: Circuit, gas: int) -> Any:
    return replace(circuit.manifest.evm, gas=Count(gas))


def _burning(gas: int) -> bytes:
    """Code that answers 1 and uses exactly this much gas: JUMPDESTs at one gas each, in front of 18 gas of answer."""
    return b"\x5b" * (gas - 18) + bytes.fromhex(ONE)


def _sizes(base: Base) -> dict[str, Case]:
    """Outputs so many that the calldata is as large as it may be, or one word larger."""
    small, circuit = base.small, base.circuit_of(base.small)
    first, second = circuit.manifest.outputs
    fixed = 4 + 4 * 32 + circuit.manifest.proof_len  # selector, two offsets and two lengths, proof
    most = (_MAX_CALLDATA - fixed) // 32
    cases = {}
    for count, code in ((most, None), (most + 1, "V7-size")):
        more = count - circuit.manifest.n_instances
        length = Count(first.length + more)
        wide, moved = replace(first, shape=(length,), length=length), replace(second, offset=second.offset + more)
        bundle, made = pinned(small, circuit, bytes.fromhex(ONE), outputs=(wide, moved), n_instances=Count(count))
        bundle = resign(replace(bundle, outputs=((TensorInt(0),) * length, bundle.outputs[1])))
        title = "7_calldata_too_large" if code else "valid_calldata_at_its_limit"
        cases[title] = Case(canonical.encode(bundle), code, circuits=only(bundle, made))
    return cases


def _srs(base: Base) -> dict[str, Case]:
    """Whose structured reference string: the ceremony's by its published digests, or somebody's who can forge."""
    small, circuit, policy = base.small, base.circuit_of(base.small), base.policy
    real = replace(policy.chains.escrows[0], chain_id=Count(8453))
    abroad = replace(policy, chains=replace(policy.chains, escrows=(real,)))
    domain = escrow_domain(8453, small.domain.verifying_contract)
    published = SrsDigest(
        logrows=Count(12),
        sha256=Bytes32(bytes.fromhex(CEREMONY[12])),
        sha256_k1=Bytes32(bytes.fromhex(CEREMONY_K1)),
    )

    def ceremony(code: str | None, under: Policy = abroad, **changes: Any) -> Case:
        bundle, made = pinned(small, circuit, bytes.fromhex(ONE), srs=replace(published, **changes))
        moved = resign(replace(bundle, domain=domain)) if under is abroad else bundle
        return Case(canonical.encode(moved), code, policy=under, circuits=only(moved, made))

    def of_size(logrows: int) -> Case:
        return ceremony(None, logrows=Count(logrows), sha256=Bytes32(bytes.fromhex(CEREMONY[logrows])))

    return {
        **{f"valid_srs_ceremony_{logrows}": of_size(logrows) for logrows in CEREMONY if logrows != 12},
        "1_development_srs": Case(canonical.encode(resign(replace(base.job, domain=domain))), "V1-srs", policy=abroad),
        "1_srs_no_dev_chain": Case(
            canonical.encode(small), "V1-srs", policy=replace(policy, chains=replace(policy.chains, dev_chains=()))
        ),
        "1_srs_kind_not_taken": Case(canonical.encode(small), "V1-srs", policy=base.rule(srs=("ceremony",))),
        "1_srs_kinds_none": Case(canonical.encode(small), "V1-srs", policy=base.rule(srs=())),
        "1_srs_ceremony_not_taken": ceremony("V1-srs", base.rule(srs=("development",))),
        "1_srs_ceremony_file_bit": ceremony("V1-srs", sha256=flipped(published.sha256)),
        "1_srs_ceremony_k1_bit": ceremony("V1-srs", sha256_k1=flipped(published.sha256_k1)),
        "1_srs_ceremony_other_size": ceremony("V1-srs", logrows=Count(15)),
        "1_srs_ceremony_unpublished_size": ceremony("V1-srs", logrows=Count(13)),
        "valid_srs_ceremony": of_size(12),
        "valid_srs_development_taken": Case(canonical.encode(small), None, policy=base.rule(srs=("development",))),
    }
