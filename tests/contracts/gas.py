"""What each verb costs as a transaction on anvil: ``python -m tests.contracts.gas`` writes ``gas_snapshot.json``.

Every figure is a receipt's gasUsed: intrinsic gas, calldata, cold accounts and refunds included. Keys, times and salts
are fixed, so it is the same on every machine. The escrow holds other money and the payee holds OPG, unless said.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eth_account import Account

from tests.contracts.anvil import AnvilWorld, anvil
from tests.contracts.conftest import AMOUNT, PARTIES, keccak256
from tests.contracts.zoo import permit2

if TYPE_CHECKING:
    from tests.contracts.conftest import Sent

SNAPSHOT = Path(__file__).parent / "gas_snapshot.json"
SHOWN = b"\x1a" * 32
SIZES = {18: (4, 548_000), 85: (64, 414_297), 800: (784, 1_390_000)}
"""By count of instances: how many are inputs, and the gas that such a circuit's real verifier was measured to use."""
BATCHES = (8, 64)


def burning(gas: int) -> bytes:
    """A verifier that accepts after it has used about this much gas, as a real one does in its pairing."""
    return bytes.fromhex(f"63{gas // 26:08x}5b600190038060055760015f5260205ff3")


def measure(world: AnvilWorld) -> dict[str, int]:
    """The gas of each verb, by its name; nothing is left changed."""
    assert world.fund(world.terms(salt=b"\xba" * 32)).reason is None, "the other money that the escrow holds"
    found: dict[str, int] = {}
    for scene in (_token, _funding, _closing, _unilateral, _batches):
        with world.anchor():
            found |= scene(world)
    return dict(sorted(found.items()))


def _good(sent: Sent) -> int:
    assert sent.reason is None, sent.reason
    assert not sent.skipped
    return sent.gas


def _token(world: AnvilWorld) -> dict[str, int]:
    approve = world.send("approve", world.escrow.address, AMOUNT, to=world.token, by=world.owner)
    transfer = world.send("transfer", world.payee, AMOUNT, to=world.token, by=world.payer)
    return {"token approve, first": _good(approve), "token transfer": _good(transfer)}


def _funding(world: AnvilWorld) -> dict[str, int]:
    terms, consent = world.terms(), world.consent(world.terms())
    accepted = world.acceptance(terms)
    found: dict[str, int] = {}
    with world.anchor():
        found["fund"] = _good(world.send("fund", terms, accepted, b"", by=world.payer))
    with world.anchor():
        found["fund, relayed"] = _good(world.send("fund", terms, accepted, consent))
    with world.anchor():
        assert world.send("approve", world.escrow.address, 0, to=world.token, by=world.payer).reason is None
        permit = world.permit()
        found["fund_with_permit"] = _good(world.send("fund_with_permit", terms, accepted, b"", *permit, by=world.payer))
    with world.anchor():
        for spender, amount in ((world.escrow.address, 0), (permit2.ADDRESS, 2**256 - 1)):
            assert world.send("approve", spender, amount, to=world.token, by=world.payer).reason is None
        signature = world.permit2(terms, nonce=1)
        first = world.terms(salt=b"\x01" * 32)
        call = (first, world.acceptance(first), 0, world.permit2(first, nonce=0))
        found["fund_with_permit2, first nonce of a word"] = _good(world.send("fund_with_permit2", *call))
        found["fund_with_permit2"] = _good(world.send("fund_with_permit2", terms, accepted, 1, signature))
    with world.anchor():
        found["cancel"] = _good(world.send("cancel", terms, by=world.payer))
    return found


def _closing(world: AnvilWorld) -> dict[str, int]:
    terms, new = world.funded(), world.funded(salt=b"\x01" * 32, payee="0x" + "9e" * 20)
    found = {}
    with world.anchor():
        found["release"] = _good(world.send("release", terms, SHOWN, world.release_sig(terms, SHOWN)))
    with world.anchor():
        found["release, payee new to the token"] = _good(
            world.send("release", new, SHOWN, world.release_sig(new, SHOWN))
        )
    with world.anchor():
        found["decline"] = _good(world.send("decline", terms, by=world.provider))
    with world.anchor():
        world.at(terms["deadline"])
        found["reclaim"] = _good(world.send("reclaim", terms))
    return found


def _unilateral(world: AnvilWorld) -> dict[str, int]:
    found = {}
    for count, (inputs, gas) in SIZES.items():
        rule: dict[str, Any] = {"n_instances": count, "input_len": inputs, "job_offset": inputs, "proof_len": 1952}
        terms = world.terms(rule=rule | {"verifier": world.code(burning(gas)), "gas_cap": gas * 5 // 4})
        assert world.fund(terms).reason is None
        call = world.call(terms)
        found[f"verifier alone, {count} instances"] = _good(world.send_raw(terms["rule"]["verifier"], call))
        found[f"release_by_proof, {count} instances"] = _good(world.send("release_by_proof", terms, call))
    return found


def _batches(world: AnvilWorld) -> dict[str, int]:
    found = {}
    for size in BATCHES:
        with world.anchor():
            jobs = [world.terms(salt=keccak256(bytes([size, at]))) for at in range(size)]
            to_fund = [(terms, world.acceptance(terms), world.consent(terms)) for terms in jobs]
            found[f"fund_many, {size} jobs"] = _good(world.fund_many(to_fund))
            to_release = [(terms, SHOWN, world.release_sig(terms, SHOWN)) for terms in jobs]
            found[f"release_many, {size} jobs"] = _good(world.release_many(to_release))
    return found


def main() -> None:
    """Write the snapshot anew and print it."""
    parties = {name: Account.from_key(keccak256(name.encode())) for name in PARTIES}
    with anvil() as port:
        found = measure(AnvilWorld(port, parties))
    SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n")
    sys.stdout.write("".join(f"{name:<45}{gas:>10,}\n" for name, gas in found.items()))


if __name__ == "__main__":
    main()
