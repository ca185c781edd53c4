"""One attempt at one job: claim, prove in another process, verify, keep. Whoever runs it twice changes nothing."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from verifier.bundles import parse_bundle
from verifier.circuit import find_circuit
from verifier.errors import OpgateError, ServiceError
from verifier.payer.inputs import decode_tensors
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.verify import verify
from workers import jobs
from workers.database import check_current, open_database
from workers.prover_process import PROVER, run_prover
from workers.records import ProviderArchive
from workers.store import Store, StoredBundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.statement.scalars import Bytes32
    from workers.config import Settings
    from workers.jobs import Job

log = structlog.get_logger("opgate.worker")


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What a worker's process needs; `clock` gives Unix seconds."""

    settings: Settings
    store: Store
    policy_for: Callable[[Job], Policy]
    archive: ProviderArchive
    clock: Callable[[], int]
    prover: tuple[str, ...] = PROVER

    def attempt(self, job_id: Bytes32, *, owner: str) -> str:
        """Try a job once.

        Returns:
            `proved`, or the code of the refusal: W-job-… where there is nothing to do or the job was taken away,
            anything else where the attempt failed and was counted.
        """
        limits = self.settings.limits
        try:
            job = self.store.change(job_id, lambda job: jobs.claim(job, owner, now=self.clock(), limits=limits))
        except ServiceError as refusal:
            log.info("job not taken", job_id=str(job_id), code=refusal.code)
            return refusal.code
        log.info("job taken", job_id=str(job_id), attempt=job.attempts, fence=job.fence)
        try:
            self._keep(job, self._prove(job))
        except BaseException as error:
            code = error.code if isinstance(error, OpgateError) else "W-attempt-internal"
            log.warning("attempt failed", job_id=str(job_id), fence=job.fence, code=code, error=str(error)[:500])
            self._fail(job, code)
            if isinstance(error, OpgateError):
                return code
            raise
        log.info("job proved", job_id=str(job_id), fence=job.fence)
        return "proved"

    def _prove(self, job: Job) -> bytes:
        limits = self.settings.limits
        raw = self.store.input(job.terms.input_commitment, job.circuit_id)
        if raw is None:
            raise ServiceError("W-input-missing", "the job's input is gone", where=f"job {job.job_id}")
        request = {
            "circuit_dir": str(self.settings.circuits.absolute() / str(job.circuit_id)),
            "private_dir": str(self.settings.private_folder(job.circuit_id).absolute()),
            "terms": canonical.to_builtins(job.terms),
            "domain": canonical.to_builtins(job.domain),
            "inputs": canonical.to_builtins(decode_tensors(raw, where="stored input")),
            "acceptance": canonical.to_builtins(job.acceptance),
            "keyfile": self.settings.key_source,
        }
        return run_prover(
            request,
            self.settings.provider_home.absolute() / "work" / f"{job.job_id}-{job.fence}",
            wall_seconds=limits.child,
            beat=lambda: self._beat(job),
            beat_seconds=limits.heartbeat,
            command=self.prover,
        )

    def _beat(self, job: Job) -> None:
        limits = self.settings.limits
        self.store.change(job.job_id, lambda row: jobs.renew(row, job.fence, now=self.clock(), limits=limits))

    def _keep(self, job: Job, raw: bytes) -> None:
        """The bundle is the job's once it was found VALID here, from its bytes, under the token of this attempt."""
        keep_valid(self, job, raw, rule=lambda row: jobs.prove(row, job.fence, now=self.clock()))

    def _fail(self, job: Job, code: str) -> None:
        limits = self.settings.limits
        with contextlib.suppress(ServiceError):  # fenced off: the job is somebody else's, and the attempt is counted
            self.store.change(
                job.job_id, lambda row: jobs.fail(row, job.fence, code[:64], now=self.clock(), limits=limits)
            )


def keep_valid(workshop: Workshop, job: Job, raw: bytes, *, rule: Callable[[Job], Job]) -> None:
    """Verify a bundle's bytes for a job and make it the job's one bundle; the archive has it before the job says so.

    Raises:
        VerifierError: V0-… or the code of the verdict, where the bundle is not VALID for this job. Nothing is kept.
        ServiceError: W-bundle-exists where another VALID bundle was first, and what the rule raises.
    """
    bundle = parse_bundle(raw)
    if bundle.job_id != job.job_id:
        raise ServiceError(
            "W-bundle-job", "the bundle is for another job", expected=str(job.job_id), found=str(bundle.job_id)
        )
    circuit = find_circuit(workshop.settings.circuits, job.circuit_id)
    policy = workshop.policy_for(job)
    verdict = verify(bundle, circuit, policy)
    if verdict.outcome != "VALID":
        raise ServiceError(
            verdict.code or "V-internal",
            "the bundle is not valid",
            where=f"job {job.job_id}",
            found=verdict.message or "",
        )
    rule(workshop.store.change(job.job_id, lambda row: row))  # whoever lost the job by now archives nothing
    workshop.archive.keep_intent(job, raw, circuit=circuit, policy=policy, verdict=verdict, now=workshop.clock())
    workshop.store.record_bundle(job.job_id, rule, StoredBundle(canonical.sha256(raw), raw))


def now() -> int:
    """The wall clock in whole Unix seconds."""
    return int(time.time())


def open_workshop(settings: Settings, *, prover: tuple[str, ...] = PROVER) -> Workshop:
    """What a worker needs: database, archive, policy. No chain: what is in the job table is funded.

    Raises:
        ServiceError: W-database-… where the tables are not up to date.
        VerifierError: V0-… where the policy file cannot be read.
    """
    engine = open_database(settings.database)
    check_current(engine)
    given = None if settings.policy is None else Policy.load(settings.policy)
    return Workshop(
        settings=settings,
        store=Store(engine),
        policy_for=lambda job: given or Policy.of_provider(job.domain, job.terms),
        archive=ProviderArchive(settings.archive_folder, settings.provider_home / "keys" / "archive"),
        clock=now,
        prover=prover,
    )
