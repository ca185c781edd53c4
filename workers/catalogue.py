"""What this provider sells: circuits that it can prove, with a price, and with their code on the escrow's chain."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from verifier.circuit import Circuit, find_circuit
from verifier.errors import OpgateError, ServiceError, UndecidedError
from verifier.statement.certificates import FidelityCertificate
from verifier.statement.manifest import MAX_CODE_BYTES, MAX_INSTANCES, MAX_PROOF_BYTES
from verifier.statement.scalars import Bytes32
from verifier.statement.terms import ProofRule

if TYPE_CHECKING:
    from verifier.payer.inputs import Tensors
    from verifier.statement.scalars import Address, Uint256
    from workers.config import Settings
    from workers.ports import EscrowClient, StoredProof

MAX_GAS_CAP = 16_000_000
"""The escrow's bound on a rule's gas cap."""
MIN_GAS_CAP = 100_000


class Offer(NamedTuple):
    """A circuit that is for sale: at which price, and where its code stands."""

    circuit: Circuit
    amount: Uint256
    verifier: Address

    @property
    def rule(self) -> ProofRule:
        """The rule that terms for this circuit must carry."""
        return ProofRule.derive(self.circuit.manifest, self.verifier)


class Catalogue:
    """The circuits of the provider's folder. One that passed is not looked at again: its id is its content."""

    def __init__(self, settings: Settings, escrow: EscrowClient, stored_proof: StoredProof) -> None:
        """Look at nothing yet."""
        self._settings = settings
        self._escrow = escrow
        self._stored_proof = stored_proof
        self._checked: dict[Bytes32, tuple[Circuit, Address]] = {}
        self._lock = threading.Lock()

    def offer(self, circuit_id: Bytes32) -> Offer:
        """The offer for a circuit.

        Raises:
            ServiceError: W-circuit-unknown (not here), W-circuit-price (not sold), W-circuit-offchain,
                W-circuit-deployed (not on this chain), W-circuit-code (the folder holds other code),
                W-circuit-verifier (the deployed code refuses a good proof).
        """
        with self._lock:
            known = self._checked.get(circuit_id)
            if known is None:
                known = self._checked[circuit_id] = self._check(circuit_id)
        amount = self._settings.price_of(circuit_id)
        if amount is None:
            raise ServiceError(
                "W-circuit-price", "the circuit is not for sale here", where=str(circuit_id), do="Set OPGATE_PRICES"
            )
        return Offer(known[0], amount, known[1])

    def offers(self) -> tuple[list[Offer], list[OpgateError]]:
        """Every offer, and why the other folders are none."""
        good: list[Offer] = []
        refused: list[OpgateError] = []
        for folder in sorted(self._settings.circuits.glob("0x*")):
            try:
                good.append(self.offer(Bytes32.from_json(folder.name)))
            except OpgateError as error:
                refused.append(error)
            except ValueError:
                continue
        return good, refused

    def _check(self, circuit_id: Bytes32) -> tuple[Circuit, Address]:
        where = str(circuit_id)
        try:
            circuit = find_circuit(self._settings.circuits, circuit_id)
        except UndecidedError as error:
            raise ServiceError("W-circuit-unknown", "the provider does not have this circuit", where=where) from error
        manifest = circuit.manifest
        if circuit.circuit_id != circuit_id or circuit.code_hash != manifest.evm.code_hash:
            raise ServiceError(
                "W-circuit-code", "the circuit's folder holds other bytes than its name says", where=where
            )
        rule_cap = ProofRule.derive(manifest, self._escrow.domain.verifying_contract).gas_cap
        if (
            len(circuit.code) > MAX_CODE_BYTES
            or manifest.n_instances > MAX_INSTANCES
            or manifest.proof_len > MAX_PROOF_BYTES
            or not MIN_GAS_CAP <= rule_cap <= MAX_GAS_CAP
        ):
            raise ServiceError(
                "W-circuit-offchain",
                "no escrow can check this circuit, so nobody can be paid by proof",
                where=where,
                expected=f"code <= {MAX_CODE_BYTES}, instances <= {MAX_INSTANCES}, proof <= {MAX_PROOF_BYTES} bytes",
                found=f"{len(circuit.code)}, {manifest.n_instances}, {manifest.proof_len}",
                do="Build it with fewer columns, or hash its input",
            )
        verifier = self._escrow.verifier_address(circuit)
        if verifier is None:
            raise ServiceError(
                "W-circuit-deployed",
                "the circuit's verifier is not on the escrow's chain",
                where=where,
                do=f"Run: opgate provider deploy {circuit_id}",
            )
        self._try_verifier(circuit, verifier)
        return circuit, verifier

    def _try_verifier(self, circuit: Circuit, verifier: Address) -> None:
        """Once per circuit: a proof that is known to be good must pass at the address, under the cap of the rule."""
        call = self._stored_proof.calldata(circuit)
        cap = int(ProofRule.derive(circuit.manifest, verifier).gas_cap)
        if not self._escrow.verifier_accepts(verifier, call, gas_cap=cap):
            raise ServiceError(
                "W-circuit-verifier",
                "the deployed verifier refuses a proof that is good, so no job of this circuit could be paid",
                where=f"{circuit.circuit_id} at {verifier}",
                expected=f"accepted under {cap} gas",
                do="Rebuild the circuit, and deploy it again",
            )


def check_domain(circuit: Circuit, tensors: Tensors) -> None:
    """An input must lie in the range that some fidelity certificate of the circuit was made on, where there is one.

    Raises:
        ServiceError: W-input-domain, naming the first value outside.
    """
    certificates = [signed.record for signed in circuit.records if isinstance(signed.record, FidelityCertificate)]
    if not certificates:
        return
    for spec, values in zip(circuit.manifest.inputs, tensors, strict=True):
        ranges = [span for certificate in certificates for span in certificate.domain if span.name == spec.name]
        if not ranges or not values:
            continue
        least, greatest = min(span.least for span in ranges), max(span.greatest for span in ranges)
        shown = values[: spec.size]  # after them the blind of a hashed input, which has no domain
        outside = next((index for index, value in enumerate(shown) if not least <= value <= greatest), None)
        if outside is not None:
            raise ServiceError(
                "W-input-domain",
                "a value is outside what the circuit was shown to take",
                where=f"{spec.name}[{outside}]",
                expected=f"{least} to {greatest}",
                found=str(int(values[outside])),
            )
