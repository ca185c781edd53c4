"""Circuits that no chain can check may be proved and verified, and are never for sale."""

from __future__ import annotations

import msgspec
import pytest

from tests.workers.shop import ALWAYS_TRUE, Shop, ToyProof, toy_manifest
from verifier.errors import ServiceError
from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.manifest import MAX_CODE_BYTES, MAX_PROOF_BYTES, CircuitManifest
from verifier.statement.scalars import Bytes32, Count
from workers.catalogue import Catalogue


def put(shop: Shop, manifest: CircuitManifest, code: bytes) -> Bytes32:
    """A circuit of that code in the provider's folder, as `build --target offchain` would give it."""
    evm = msgspec.structs.replace(manifest.evm, code_hash=keccak256(code))
    changed = msgspec.structs.replace(manifest, evm=evm)
    folder = shop.settings.circuits / str(changed.circuit_id)
    (folder / "records").mkdir(parents=True)
    (folder / "manifest.json").write_bytes(canonical.encode(changed))
    (folder / "verifier.bin").write_bytes(code)
    return changed.circuit_id


def test_no_off_chain_circuit_is_quoted(shop: Shop) -> None:
    """Trap: money locked for a job that can never be closed by proof."""
    catalogue = Catalogue(shop.settings, shop.escrow, ToyProof())
    large = put(shop, toy_manifest(), ALWAYS_TRUE + bytes(MAX_CODE_BYTES))
    longer = msgspec.structs.replace(toy_manifest(), proof_len=Count(MAX_PROOF_BYTES + 32))
    for circuit_id in (large, put(shop, longer, ALWAYS_TRUE)):
        with pytest.raises(ServiceError) as caught:
            catalogue.offer(circuit_id)
        assert caught.value.code == "W-circuit-offchain"
    good, refused = catalogue.offers()
    assert [offer.circuit.circuit_id for offer in good] == [toy_manifest().circuit_id]
    assert {error.code for error in refused} == {"W-circuit-offchain"}
