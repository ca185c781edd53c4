"""What became of a job, told from the chain: each event as one line with block, transaction, gas and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from verifier.payment.states import JobState
from verifier.tensors import dequantise

if TYPE_CHECKING:
    from verifier.payer.purchase import Payer
    from verifier.payment.ledger import PayerJob

_WORDS = {
    "Funded": "funded",
    "Released": "released",
    "Reclaimed": "reclaimed",
    "Declined": "declined",
    "Cancelled": "cancelled",
}
_DECIMALS = 18


class Step(NamedTuple):
    """One event of a job. `fee_wei` is what its transaction cost whoever sent it; `opg_wei` what it moved."""

    what: str
    block: int
    transaction: str
    gas: int | None
    fee_wei: int | None
    opg_wei: int

    def line(self) -> str:
        """The step for people: amounts in whole ETH and OPG."""
        gas = "? gas" if self.gas is None else f"{self.gas:,} gas"
        fee = "? ETH" if self.fee_wei is None else f"{whole(self.fee_wei)} ETH"
        return f"{self.what:<22} block {self.block}  {self.transaction}  {gas}  {fee}  {whole(self.opg_wei)} OPG"

    def to_json(self) -> dict[str, Any]:
        """The step for machines: wei as decimal strings, and the same in ETH and OPG."""
        return {
            "what": self.what,
            "block": self.block,
            "transaction": self.transaction,
            "gas": self.gas,
            "fee_wei": None if self.fee_wei is None else str(self.fee_wei),
            "fee_eth": None if self.fee_wei is None else whole(self.fee_wei),
            "opg_wei": str(self.opg_wei),
            "opg": whole(self.opg_wei),
        }


def whole(wei: int) -> str:
    """An amount of 18 decimals, exactly: no digit is rounded away."""
    digits = f"{wei:0{_DECIMALS + 1}d}"
    return f"{digits[:-_DECIMALS]}.{digits[-_DECIMALS:]}".rstrip("0").rstrip(".")


def history(payer: Payer, job: PayerJob) -> list[Step]:
    """Every event of the job that the chain has, in its order; a close says whether a proof or a signature did it."""
    events = payer.escrow.events(job_id=job.job_id)
    proved = {event.transaction_hash for event in events if event.name == "InstancesShown"}
    steps = []
    for event in events:
        if event.name == "InstancesShown":
            continue
        what = _WORDS[event.name]
        if event.name == "Released":
            what += " by proof" if event.transaction_hash in proved else " by signature"
        mined = payer.chain.mined(event.transaction_hash)
        steps.append(
            Step(
                what=what,
                block=event.block_number,
                transaction=str(event.transaction_hash),
                gas=mined.gas_used if mined else None,
                fee_wei=mined.fee if mined else None,
                opg_wei=0 if event.name == "Cancelled" else int(job.terms.terms.amount),
            )
        )
    return steps


def describe(payer: Payer, job: PayerJob) -> dict[str, Any]:
    """What is known of a job now, for people and machines: state, who closed it, how, at what price."""
    state, steps = payer.state(job), history(payer, job)
    closing = steps[-1] if steps and steps[-1].what != "funded" else None
    paid = int(job.terms.terms.amount) if state is JobState.RELEASED else 0
    bundle = payer.kept_bundle(job)
    specs = payer.circuit_of(job).manifest.outputs
    outputs = zip(specs, bundle.outputs, strict=True) if bundle else ()
    return {
        "job_id": str(job.job_id),
        "state": state.name,
        "closed_by": job.closed_by,
        "paid_wei": str(paid),
        "gas": closing.gas if closing else None,
        "block": closing.block if closing else None,
        "transaction": closing.transaction if closing else None,
        "deadline": int(job.terms.terms.deadline),
        "history": [step.to_json() for step in steps],
        "outputs": [[str(spec.name), list(dequantise(values, int(spec.scale)))] for spec, values in outputs],
    }
