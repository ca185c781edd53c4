"""A bundle in words and in the model's own units: who promised what to whom, what went in and what came out.

Everything here is the bundle's claim. Nothing is verified, and numbers are rounded for people: compare the integers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from verifier.assurance import fidelity_certificates, stated_models
from verifier.tensors import dequantise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifier.circuit import Circuit
    from verifier.policy import Policy
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.manifest import TensorSpec
    from verifier.statement.scalars import TensorInt, Timestamp

UNVERIFIED = (
    "that any of this is so: it is what the bundle says",
    "who computed it, where, on what device and when: the receipt is the provider's word",
    "that the input is true, or that the model is any good",
    "that the payer agreed: that is the Funded event on the chain",
)
"""What is not shown where nothing was verified."""
TOKEN_DECIMALS = 18
"""Of OPG and of ether; a bundle does not carry its token's."""


class Tensor(NamedTuple):
    """One input or output. `values` are in the model's units where `scale` is known, else the integers as they are."""

    name: str
    kind: str
    shape: tuple[int, ...] | None
    scale: int | None
    values: tuple[str, ...]


class Explanation(NamedTuple):
    """`facts` are label and sentence in the order in which they are read."""

    facts: tuple[tuple[str, str], ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    hidden_input: str | None


def explain(bundle: ProofBundle, circuit: Circuit | None = None, policy: Policy | None = None) -> Explanation:
    """The bundle's claim. A circuit gives names, units and shapes; it must be the bundle's own, which is not checked.

    With a policy, what its owners and their certificates say of the circuit is told too, signatures checked.
    """
    manifest = circuit.manifest if circuit else None
    specs_in = manifest.inputs if manifest else ()
    specs_out = manifest.outputs if manifest else ()
    return Explanation(
        facts=(*_promises(bundle), *(_circuit(circuit, policy) if circuit else ()), *_receipt(bundle)),
        inputs=_tensors("input", bundle.inputs or (), specs_in),
        outputs=_tensors("output", bundle.outputs, specs_out),
        hidden_input=None if bundle.input_hash is None else str(int(bundle.input_hash)),
    )


def _promises(bundle: ProofBundle) -> tuple[tuple[str, str], ...]:
    terms, domain = bundle.terms, bundle.domain
    amount = f"{terms.amount} wei ({_units(int(terms.amount))} at {TOKEN_DECIMALS} decimals) of token {terms.token}"
    return (
        ("job", str(bundle.job_id)),
        ("escrow", f"{domain.verifying_contract} on chain {domain.chain_id} holds the money"),
        ("payer", f"{terms.payer} promises {amount}"),
        ("provider", f"{terms.provider} promises a proved output of circuit {bundle.circuit_id}"),
        ("payee", f"{terms.payee} is paid when the proof is accepted in time; else the money goes back to the payer"),
        ("times", f"funded before {_time(terms.fund_by)}, paid before {_time(terms.deadline)}"),
        (
            "origin",
            "delivered by the provider, with its signature over these bytes"
            if bundle.origin == "delivered"
            else f"read from the transaction that closed the job; its block on the word of {_source(bundle)}",
        ),
        ("proof", f"{len(bundle.proof)} bytes"),
    )


def _circuit(circuit: Circuit, policy: Policy | None) -> tuple[tuple[str, str], ...]:
    manifest = circuit.manifest
    shape = f"{manifest.visibility} inputs, {manifest.n_instances} instances"
    facts = [("circuit", f"ezkl {manifest.ezkl_version}, {shape}, code {manifest.evm.code_hash}")]
    if policy is not None:
        facts += [("model", f"{owner} says that this is: {model}") for owner, model in stated_models(circuit, policy)]
        facts += [
            (
                "fidelity",
                f"certified on {each.samples} samples: error at most {each.max_error}, agreement {each.agreement}",
            )
            for each in fidelity_certificates(circuit, policy)
        ]
    return tuple(facts)


def _receipt(bundle: ProofBundle) -> tuple[tuple[str, str], ...]:
    receipt = bundle.receipt
    if receipt is None:
        return ()
    memory = int(receipt.peak_memory_bytes) / 2**20
    said = f"{receipt.engine} on {receipt.device}, {receipt.prove_seconds} s, {memory:.0f} MiB"
    return (("receipt", f"the provider says, and nobody checked: {said}"),)


def _tensors(kind: str, tensors: Sequence[Sequence[TensorInt]], specs: Sequence[TensorSpec]) -> tuple[Tensor, ...]:
    named = len(specs) == len(tensors)
    return tuple(_tensor(kind, index, values, specs[index] if named else None) for index, values in enumerate(tensors))


def _tensor(kind: str, index: int, values: Sequence[TensorInt], spec: TensorSpec | None) -> Tensor:
    if spec is None or spec.scale > MAX_SHOWN_SCALE:
        return Tensor(f"{kind} {index}", "integers as in the circuit", None, None, tuple(str(int(v)) for v in values))
    digits = min(int(spec.scale) * 301 // 1000 + 1, 9)
    shown = tuple(
        f"{value:.{digits}f}" if spec.scale else f"{value:.0f}" for value in dequantise(values, int(spec.scale))
    )
    return Tensor(str(spec.name), str(spec.dtype), tuple(map(int, spec.shape)), int(spec.scale), shown)


MAX_SHOWN_SCALE = 1023
"""Above it no double holds one unit (`tensors.dequantise`)."""


def _units(wei: int) -> str:
    whole, part = divmod(wei, 10**TOKEN_DECIMALS)
    return f"{whole}.{part:0{TOKEN_DECIMALS}d}".rstrip("0").rstrip(".")


def _time(at: Timestamp) -> str:
    """UTC, whatever the reader's zone, so that two people read the same; a time beyond every calendar as it is."""
    try:
        return f"{datetime.fromtimestamp(int(at), UTC):%Y-%m-%d %H:%M:%S} UTC ({int(at)})"
    except (ValueError, OverflowError, OSError):
        return f"second {int(at)}"


def _source(bundle: ProofBundle) -> str:
    return str(bundle.evidence.source) if bundle.evidence else "nobody"
