"""Builds the parts of the service from its settings: the only place where the ports meet the real things."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.errors import ServiceError
from verifier.payment.chain import Chain
from verifier.payment.keys import load_key
from verifier.payment.outbox import Limits as Patience
from verifier.payment.outbox import Outbox
from workers.app import CeleryBroker, make_app
from workers.catalogue import Catalogue
from workers.circuit_child import CircuitChild
from workers.deployments import ProviderEscrow
from workers.service import Service
from workers.sweeper import Sweeper
from workers.workshop import Workshop, now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.config import Settings
    from workers.ports import EscrowClient


NEEDED = ("rpc_url", "broker_url", "escrow", "token", "payee")
"""What `serve` and `sweep` cannot do without."""


@contextmanager
def open_escrow(settings: Settings) -> Iterator[ProviderEscrow]:
    """The escrow of the settings, with the provider's key and its outbox of transactions; nothing is asked yet."""
    if settings.rpc_url is None or settings.escrow is None or settings.token is None:
        raise ServiceError("W-config-missing", "chain, escrow and token must be set", where="OPGATE_RPC_URL, …")
    key = load_key(settings.key_source)
    # a provider that waits for a dead second node loses a payment: one that answers is enough, two must agree
    with Chain(settings.rpc_url, second_url=settings.second_rpc_url, quorum=1) as chain:
        # one transaction that nobody mines must not hold up a proof beyond the margin before its deadline
        patience = Patience(patience_s=max(1.0, settings.limits.margin / 8))
        if settings.max_fee is not None:
            patience = replace(patience, max_fee=int(settings.max_fee))
        outbox = Outbox(settings.provider_home / "outbox.sqlite", chain, key, limits=patience)
        try:
            yield ProviderEscrow(
                chain,
                settings.escrow,
                settings.token,
                outbox,
                noted=settings.provider_home / "deployments.json",
            )
        finally:
            outbox.close()


def make_sweeper(settings: Settings, workshop: Workshop, escrow: EscrowClient) -> Sweeper:
    """The sweeper of the settings."""
    return Sweeper(
        store=workshop.store,
        escrow=escrow,
        broker=CeleryBroker(make_app(settings)),
        archive=workshop.archive,
        limits=settings.limits,
        clock=now,
        at_once=Patience().in_flight // 2,
    )


def make_service(settings: Settings, workshop: Workshop, escrow: EscrowClient) -> Service:
    """The service of the settings.

    Raises:
        EscrowError: E-key-…, E-escrow-code where the escrow is not the known one for the token.
        ServiceError: W-config-payee where the money would go to the hot key itself.
    """
    key = load_key(settings.key_source)
    if settings.payee is None or settings.payee == key.address:
        raise ServiceError(
            "W-config-payee",
            "the payee must be another account than the hot key's",
            where="OPGATE_PAYEE",
            do="Name an account whose key is not on this machine",
        )
    escrow.check()
    child = CircuitChild(settings.circuits, wall_seconds=settings.limits.child)
    return Service(
        workshop=workshop,
        escrow=escrow,
        broker=CeleryBroker(make_app(settings)),
        witness=child,
        catalogue=Catalogue(settings, escrow, child),
        signer=key,
        payee=settings.payee,
    )
