"""The attacks, on the running system: a provider that signs anything, strangers, and releases that come too late.

A hostile bundle goes to the payer, which judges it in a process of its own; the same claim goes to the escrow as a
stranger's `release_by_proof`. After each the escrow is asked: the money must still be locked for the job.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from circuits.ezkl_runner import Limits
from circuits.registry import CircuitFolder
from prover.prove import ProvingFiles, prove
from prover.witness import make_witness
from verifier.bundles import parse_bundle, read_bundle
from verifier.errors import OpgateError
from verifier.instances import calldata, claimed_words
from verifier.keccak import keccak256
from verifier.payer.provider import Provider
from verifier.payment.chain import Chain
from verifier.payment.escrow import Escrow
from verifier.payment.keys import load_key
from verifier.payment.outbox import Outbox
from verifier.payment.states import JobState
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, ProofBytes
from verifier.statement.manifest import CircuitManifest
from verifier.statement.scalars import Bytes32, Count, TensorInt
from verifier.statement.terms import JobTerms, Release, SignedRelease
from workers.demo.actors import Refused
from workers.demo.report import AttackResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.demo.setting import Stage


class Attacks:
    """The attacks on one funded, proved and unpaid job."""

    def __init__(self, stage: Stage, bundle: Path, escrow: Escrow) -> None:
        """Take the honest bundle that is varied; `escrow` sends as the stranger."""
        self._stage, self._escrow = stage, escrow
        self._honest = read_bundle(bundle)
        self._manifest = CircuitFolder(stage.payer_circuits / stage.circuit_id).manifest()

    def output_changed(self) -> None:
        """The provider claims another output, signs it, and shows the honest proof."""
        outputs = self._honest.outputs
        changed = ((TensorInt(outputs[0][0] + 1), *outputs[0][1:]), *outputs[1:])
        self._offer("output changed", replace(self._honest, outputs=changed))

    def one_more(self) -> None:
        """One instance more than the circuit has."""
        outputs = self._honest.outputs
        self._offer("one instance more", replace(self._honest, outputs=((*outputs[0], TensorInt(0)), *outputs[1:])))

    def proof_of_another_job(self, other_job: str) -> None:
        """The proof of another job of the same circuit, payer and input: paid once, it would be paid again."""
        with Provider(self._stage.urls["provider"]) as provider:
            other = parse_bundle(provider.bundle(Bytes32.from_json(other_job)))
        self._offer("the proof of another job", replace(self._honest, proof=other.proof), words=claimed_words(other))

    def proof_of_another_circuit(self) -> None:
        """A circuit of the same shape, with other weights, proves this very job."""
        built = self._stage.actors.finish(self._stage.other_build) if self._stage.other_build else {}
        folder = CircuitFolder(Path(built["folder"]))
        files, limits = ProvingFiles.of(folder.private), Limits(wall_seconds=120)
        inputs = self._honest.inputs or ()
        with tempfile.TemporaryDirectory(dir=self._stage.home) as name:
            witness_file = Path(name) / "witness.json"
            witness = make_witness(folder, files.compiled, inputs, self._honest.job_id, witness_file, limits)
            proved = prove(folder, files, witness_file, Path(name), limits)
        bound = int(self._manifest.value_bound)
        fits = all(abs(value) <= bound for tensor in witness.outputs for value in tensor)
        # a search may give the other circuit a finer scale: outputs beyond our bound are refused before any proof
        foreign = replace(self._honest, proof=proved.proof, outputs=witness.outputs if fits else self._honest.outputs)
        self._offer("the proof of another circuit with the same shape", foreign)

    def manifest_swapped(self) -> None:
        """After funding the manifest is swapped for one with another output scale: same code, half the value."""
        rescaled = tuple(replace(spec, scale=Count(spec.scale + 1)) for spec in self._manifest.outputs)
        swapped: CircuitManifest = replace(self._manifest, outputs=rescaled)
        self._offer("manifest swapped for another output scale", replace(self._honest, circuit_id=swapped.circuit_id))

    def trailing_bytes(self) -> None:
        """A proof with 32 bytes behind its end."""
        self._offer("trailing bytes", replace(self._honest, proof=ProofBytes(self._honest.proof + bytes(32))))

    def junk(self) -> None:
        """A stranger fills the job's inbox; the provider keeps nothing of it."""
        job_id = self._honest.job_id
        with self._watched("junk from a stranger", job_id) as refused, Provider(self._stage.urls["provider"]) as inbox:
            for raw in (b"\x00" * 1000, b"[" * 10_000, canonical.encode({"proof": "0x"})):
                refused(partial(inbox.send_bundle, job_id, raw))

    def release_after_deadline(self, job_id: str) -> None:
        """The payer's signature comes to the chain too late: the money is the payer's again."""
        terms = _terms_of(self._stage, job_id)
        release = Release(job_id=Bytes32.from_json(job_id), instances_hash=keccak256(b"any"))
        signature = load_key(self._stage.key("payer")).sign_digest(release.digest(self._escrow.domain))
        while time.time() <= terms.deadline:
            time.sleep(0.2)
        with self._watched("release after the deadline", release.job_id, on_chain=True) as refused:
            refused(lambda: self._escrow.release(terms, SignedRelease(release=release, signature=signature)))

    def _offer(self, name: str, hostile: ProofBundle, *, words: bytes | None = None) -> None:
        """Sign a hostile bundle as the provider, give it to the payer, and its claim to the escrow."""
        key = load_key(self._stage.key("provider"))
        claimed = claimed_words(hostile)
        signed = replace(
            hostile, delivery=key.sign_digest(hostile.delivery_message(keccak256(claimed)).digest(hostile.domain))
        )
        call = calldata(hostile.proof, claimed if words is None else words)
        with self._watched(name, self._honest.job_id) as refused, tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "bundle.json"
            bundle.write_bytes(canonical.encode(signed))
            words_ = ("pay", "verify", str(self._honest.job_id), "--bundle", str(bundle))
            refused(lambda: self._stage.actors.call(*words_, environment=self._stage.as_payer()))
            if name != "manifest swapped for another output scale":
                refused(lambda: self._escrow.release_by_proof(self._honest.terms, call))

    @contextmanager
    def _watched(
        self, name: str, job_id: Bytes32, *, on_chain: bool = False
    ) -> Iterator[Callable[[Callable[[], Any]], None]]:
        """Run tries that must be refused, then look whether anything was paid."""
        codes: list[str] = []

        def refused(attempt: Callable[[], Any]) -> None:
            try:
                attempt()
            except (Refused, OpgateError) as error:
                codes.append(error.code)
            else:
                codes.append("ACCEPTED")

        yield refused
        moved = self._escrow.state(job_id) is not JobState.FUNDED
        code = codes[0] if codes else ""
        second = codes[0] if on_chain else next((code for code in codes[1:] if code.startswith("E-")), None)
        self._stage.tell.attack(AttackResult(name=name, paid=moved or "ACCEPTED" in codes, code=code, on_chain=second))


@contextmanager
def open_attacks(stage: Stage, bundle: Path) -> Iterator[Attacks]:
    """The attacks on an honest bundle's job, sent to the chain by the stranger."""
    with Chain(stage.network.rpc) as chain:
        outbox = Outbox(stage.party("stranger") / "outbox.sqlite", chain, load_key(stage.key("stranger")))
        try:
            yield Attacks(stage, bundle, Escrow(chain, stage.network.escrow, stage.network.token, outbox))
        finally:
            outbox.close()


def _terms_of(stage: Stage, job_id: str) -> JobTerms:
    """The terms of a job from the payer's archive of its funding, by way of the Funded event."""
    with Chain(stage.network.rpc) as chain:
        escrow = Escrow(chain, stage.network.escrow, stage.network.token)
        terms = escrow.events(("Funded",), job_id=Bytes32.from_json(job_id))[-1].terms
    if terms is None:
        raise ValueError("a Funded event carries its terms")
    return terms
