"""Where on a chain a circuit's verifier stands: deployed once by the provider, noted, compared at each use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from verifier.errors import OpgateError, ServiceError
from verifier.files import read_regular, write_atomic
from verifier.payment.escrow import Escrow, deploy_code
from verifier.payment.evidence import fetch_evidence
from verifier.statement import canonical
from verifier.statement.scalars import Address

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.circuit import Circuit
    from verifier.payment.chain import Chain
    from verifier.payment.outbox import Outbox
    from verifier.statement.evidence import ChainEvidence
    from verifier.statement.scalars import Bytes32

_MAX_BYTES = 1 << 20


class ProviderEscrow(Escrow):
    """The escrow as the provider uses it (`ports.EscrowClient`), and the verifiers that it deployed beside it."""

    def __init__(self, chain: Chain, address: Address, token: Address, outbox: Outbox, *, noted: Path) -> None:
        """`noted` is the file of deployments; it may be missing, and nothing in it is believed."""
        super().__init__(chain, address, token, outbox)
        self._chain_of = chain
        self._own_outbox = outbox
        self._noted = noted

    def evidence(self, job_id: Bytes32) -> dict[str, ChainEvidence]:
        """The evidence of the closing and of the funding, as far as this node's logs show them.

        Raises:
            UndecidedError: E-rpc-…, E-not-mined where the node cannot show what it told of.
        """
        closing, funded = self.closing(job_id), self.events(("Funded",), job_id=job_id)
        events = {"evidence": closing, "evidence.funded": funded[-1] if funded else None}
        return {
            role: fetch_evidence(self._chain_of, event.transaction_hash)
            for role, event in events.items()
            if event is not None
        }

    def verifier_address(self, circuit: Circuit) -> Address | None:
        """The noted address of the circuit's code on this chain, if it holds exactly that code; else None."""
        noted = self._read().get(self._name(circuit))
        address = None if noted is None else Address.from_json(noted)
        return address if address is not None and self.holds_code(address, circuit.code) else None

    def deploy_verifier(self, circuit: Circuit) -> Address:
        """Deploy the circuit's code, once for each chain, and note where.

        Raises:
            EscrowError: E-code-size, E-funds and what the chain refuses.
            ServiceError: W-deployed-code where another code came to stand there.
        """
        known = self.verifier_address(circuit)
        if known is not None:
            return known
        mined = deploy_code(self._own_outbox, circuit.code, name=f"verifier:{circuit.code_hash}")
        if mined.contract is None or not self.holds_code(mined.contract, circuit.code):
            raise ServiceError(
                "W-deployed-code", "the deployed contract holds another code", where=str(mined.contract or "nowhere")
            )
        noted = self._read() | {self._name(circuit): str(mined.contract)}
        write_atomic(self._noted, canonical.encode(noted), mode=0o600)
        return mined.contract

    def _name(self, circuit: Circuit) -> str:
        return f"{self._chain_of.chain_id}/{circuit.code_hash}"

    def _read(self) -> dict[str, str]:
        if not self._noted.exists():
            return {}
        try:
            noted = json.loads(read_regular(self._noted, limit=_MAX_BYTES))
            return {str(name): str(Address.from_json(address)) for name, address in noted.items()}
        except (OpgateError, ValueError, AttributeError) as error:
            raise ServiceError(
                "W-deployments",
                "the file of deployments cannot be read",
                where=str(self._noted),
                do="Remove it, and deploy again: a verifier that stands already is found by its transaction",
            ) from error
