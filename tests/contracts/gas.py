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

from tests.contracts.anvil import BASE, GAS, AnvilWorld, anvil
from tests.contracts.conftest import AMOUNT, NOW, PARTIES, keccak256
from tests.contracts.zoo import permit2
from workers.dev.rpc import ask

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


def release_by_parts(world: AnvilWorld) -> dict[str, int]:
    """Where the gas of `release` goes, by the trace of its transaction; the sum is the snapshot's figure.

    Needs an anvil with ``--steps-tracing``. What a call costs is all that is gone when its caller's next step begins.
    """
    assert world.fund(world.terms(salt=b"\xba" * 32)).reason is None, "the other money that the escrow holds"
    terms, _ = world.funded(), world.funded(salt=b"\x01" * 32, payee="0x" + "9e" * 20)
    used = _good(world.send("release", terms, SHOWN, world.release_sig(terms, SHOWN)))
    trace = ask(world.port, "debug_traceTransaction", world.last["transactionHash"], {"disableStorage": True})
    steps = [step for step in trace["structLogs"] if step["depth"] == 1]
    parts = {"transaction and calldata": GAS - steps[0]["gas"], **dict.fromkeys(_PARTS.values(), 0)}
    after = [step["gas"] for step in steps[1:]] + [GAS - used]
    for step, left in zip(steps, after, strict=True):
        parts[_PARTS.get(_part(step), _PARTS[""])] += step["gas"] - left
    return parts


_PARTS = {
    "CALL": "the token's transfer",
    "STATICCALL": "four reads of balances, the first of which finds the token and both balances cold",
    "SLOAD": "the job's state, cold",
    "SSTORE": "the job's state, cold",
    "STATICCALL 0x1": "ecrecover",
    "LOG3": "`Released`",
    "TLOAD": "the lock, in transient storage",
    "TSTORE": "the lock, in transient storage",
    "": "the rest: decoding, digests, checks, memory",
}


def _part(step: dict[str, Any]) -> str:
    op = str(step["op"])
    return f"{op} 0x1" if op == "STATICCALL" and int(step["stack"][-2], 16) == 1 else op


def main() -> None:
    """Write the snapshot anew and print it, and where the gas of a release goes."""
    parties = {name: Account.from_key(keccak256(name.encode())) for name in PARTIES}
    with anvil() as port:
        found = measure(AnvilWorld(port, parties))
    SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n")
    with anvil(BASE, NOW, "--steps-tracing") as port:
        parts = release_by_parts(AnvilWorld(port, parties))
    sys.stdout.write("".join(f"{name:<90}{gas:>10,}\n" for name, gas in (found | parts).items()))


if __name__ == "__main__":
    main()
