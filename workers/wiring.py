"""Builds the parts of the service from its settings: the only place where the ports meet the real things."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from verifier.policy import ANY, Chains, CircuitRule, Escrow, Policy
from workers.database import check_current, open_database
from workers.records import ProviderArchive
from workers.store import Store
from workers.workshop import Workshop

if TYPE_CHECKING:
    from workers.config import Settings
    from workers.jobs import Job


def now() -> int:
    """The wall clock in whole Unix seconds."""
    return int(time.time())


def open_workshop(settings: Settings) -> Workshop:
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
        policy_for=lambda job: given or own_policy(job),
        archive=ProviderArchive(settings.archive_folder, settings.provider_home / "keys" / "archive"),
        clock=now,
    )


def own_policy(job: Job) -> Policy:
    """By which a provider judges its own work: the escrow and token that it accepted the job for, any assurance.

    What a circuit computes is the payer's question; the provider's is whether the escrow would take this proof.
    """
    chain_id = job.domain.chain_id
    escrow = Escrow(chain_id=chain_id, escrow=job.domain.verifying_contract, token=job.terms.token)
    return Policy(
        chains=Chains(escrows=(escrow,), dev_chains=(chain_id,)), circuits={ANY: CircuitRule(assurance="unattested")}
    )
