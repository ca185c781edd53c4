"""Signatures and proofs that must move nothing, each wrong in one way, as the machine sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.contracts.conftest import digest, limbs, word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eth_account.messages import SignableMessage

    from tests.contracts.conftest import World

    Terms = dict[str, Any]

OTHER_CHAIN = 1
OTHER_ESCROW = "0x" + "e5" * 20
OTHER_HASH = b"\x1b" * 32
ACCEPTANCES = ("other-signer", "other-job", "other-chain", "other-escrow", "as-consent", "nothing")
CONSENTS = ("other-signer", "other-job", "other-chain", "other-escrow", "acceptance", "nothing")
RELEASES = ("other-signer", "other-job", "other-chain", "other-escrow", "other-hash", "as-consent", "nothing")
PERMITS2 = ("payee", "amount", "other-spender", "other-chain", "other-deadline", "used-nonce")


def _other_domain(forgery: str) -> dict[str, Any]:
    domains: dict[str, dict[str, Any]] = {
        "other-chain": {"chainId": OTHER_CHAIN},
        "other-escrow": {"verifyingContract": OTHER_ESCROW},
    }
    return domains.get(forgery, {})


def _other_job(terms: Terms) -> Terms:
    return terms | {"salt": b"\xee" * 32}


def acceptance(w: World, terms: Terms, forgery: str) -> bytes:
    """The provider's word on a job; the right one where no forgery is named."""
    if forgery == "nothing":
        return b""
    if forgery == "as-consent":  # the provider's key, on the terms themselves
        return w.consent(terms, by="provider")
    if forgery == "other-job":
        return w.acceptance(_other_job(terms))
    by = "stranger" if forgery == "other-signer" else "provider"
    return w.sign(by, "Acceptance", {"job_id": w.job_id(terms, **_other_domain(forgery))}, **_other_domain(forgery))


def consent(w: World, terms: Terms, forgery: str) -> bytes:
    """The payer's word on the terms, by its key."""
    if forgery == "nothing":
        return b""
    if forgery == "acceptance":  # the payer's key, on what the provider signs
        return w.acceptance(terms, by="payer")
    if forgery == "other-job":
        return w.consent(_other_job(terms))
    return w.consent(terms, by="provider" if forgery == "other-signer" else "payer", **_other_domain(forgery))


def release(w: World, terms: Terms, shown: bytes, forgery: str) -> bytes:
    """The payer's word on a release, by its key."""
    if forgery == "nothing":
        return b""
    if forgery == "as-consent":  # what the payer signed when it funded
        return w.consent(terms)
    about = _other_job(terms) if forgery == "other-job" else terms
    hashed = OTHER_HASH if forgery == "other-hash" else shown
    by = "provider" if forgery == "other-signer" else "payer"
    return w.release_sig(about, hashed, by=by, **_other_domain(forgery))


def permit2(w: World, terms: Terms, nonce: int, forgery: str) -> SignableMessage:
    """What the payer signs for Permit2, whose witness are the terms."""
    changed: dict[str, Any] = {"payee": w.stranger, "amount": 7}
    signed = terms | {forgery: changed[forgery]} if forgery in changed else terms
    others: dict[str, dict[str, Any]] = {
        "other-spender": {"spender": w.stranger},
        "other-chain": {"domain": {"chainId": OTHER_CHAIN}},
        "other-deadline": {"deadline": terms["fund_by"] + 1},
    }
    return w.typed_permit2(signed, nonce, **others.get(forgery, {}))


def proofs(w: World, terms: Terms, others: list[Terms]) -> Iterator[tuple[str, bytes]]:
    """Calls of the verifier that are all right but in one thing; `others` are jobs whose proofs are known."""
    rule, good = terms["rule"], w.instances(terms)
    start = rule["job_offset"]

    def with_limbs(job_id: bytes) -> bytes:
        return w.call(terms, good[:start] + limbs(job_id) + good[start + 11 :])

    def with_word(at: int, value: int) -> bytes:
        return w.call(terms, [*good[:at], value, *good[at + 1 :]])

    for limb in range(11):
        yield f"limb {limb}", with_word(start + limb, good[start + limb] ^ 1)
        yield f"limb {limb} + 2**24", with_word(start + limb, good[start + limb] + 2**24)
    for other in others:
        yield "another job's proof", w.call(terms, w.instances(other))
        yield "another job's limbs", with_limbs(w.job_id(other))
    for name in ("other-chain", "other-escrow"):
        yield name, with_limbs(digest(w.typed("JobTerms", terms, **_other_domain(name))))
    for at in range(rule["input_offset"], rule["input_offset"] + rule["input_len"]):
        yield f"input {at}", with_word(at, good[at] + 1)
    yield "an instance more", w.call(terms, [*good, 5])
    yield "an instance less", w.call(terms, good[:-1])
    yield "a longer proof", w.call(terms, good, bytes(rule["proof_len"] + 32))
    yield "a shorter proof", w.call(terms, good, bytes(rule["proof_len"] - 32))
    call = w.call(terms, good)
    yield "another selector", b"\x1e\x8e\x1e\x14" + call[4:]
    count_at = 100 + rule["proof_len"]
    for name, at in (("proof's place", 4), ("instances' place", 36), ("proof's length", 68), ("count", count_at)):
        yield name, call[:at] + word(int.from_bytes(call[at : at + 32]) + 32) + call[at + 32 :]
    yield "a byte more", call + b"\0"
    yield "a byte less", call[:-1]
