"""What a VALID verdict shows and what it does not, in words. Nothing is checked here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.assurance import ORDER
from verifier.srs import srs_kind
from verifier.statement.scalars import Text

if TYPE_CHECKING:
    from verifier.basis import Basis
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.verdict import Assurance

BY_ASSURANCE: dict[Assurance, str] = {
    "rebuilt": "the code is what the ONNX model compiles to, rebuilt byte for byte by a key that the policy trusts",
    "compiled": "the code embeds this verifying key and SRS; which model stands behind the key is not shown",
    "attested": "the owner says that the code is the model; the owner could produce any output",
    "unattested": "nobody that the policy trusts says what the code computes",
}


def shown_and_not(bundle: ProofBundle, basis: Basis) -> tuple[tuple[Text, ...], tuple[Text, ...]]:
    """What a VALID verdict shows, and what it does not, in sentences that do not depend on any clock."""
    circuit, assurance = basis.circuit, basis.assurance
    provider = bundle.terms.provider
    delivered = (
        f"{provider} accepted the job and signed this delivery"
        if bundle.evidence is None
        else f"{provider} accepted the job, and the transaction shown closed it"
    )
    shown = (
        "the circuit's pinned code accepts the proof: these outputs belong to this input, this job and this circuit",
        BY_ASSURANCE[assurance],
        delivered,
    )
    rule = basis.policy.rule_for(basis.circuit_id)
    asked = rule is not None and (rule.max_error is not None or rule.min_agreement is not None)
    not_shown = [
        "who computed it, where, on what device and when: the receipt is the provider's word",
        "that the input is true, or that the model is any good",
        "how close the circuit is to the model beyond the samples of its fidelity certificate"
        if asked
        else "how close the circuit is to the model: the policy asks for no fidelity certificate",
        "that the payer agreed: that is the Funded event on the chain",
    ]
    if ORDER.index(assurance) < ORDER.index("compiled"):
        not_shown.append("that the code embeds the SRS of the manifest: that counts as checked from compiled up")
    if srs_kind(circuit.manifest.srs) != "ceremony":
        not_shown.append("that nobody forged it: the SRS is a development one, whoever made it can")
    if bundle.evidence is not None:
        not_shown.append(f"that the block is the chain's: its hash was given by {bundle.evidence.source}"[:256])
    return tuple(Text(line) for line in shown), tuple(Text(line) for line in not_shown)
