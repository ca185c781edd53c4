"""The contract's EIP-712 digests equal eth-account's and this package's own, which everything else is signed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boa
import pytest
from Crypto.Hash import keccak
from eth_account.messages import encode_typed_data

from verifier.statement.eip712 import escrow_domain
from verifier.statement.scalars import Address, Bytes32, Count, Timestamp, Uint256
from verifier.statement.terms import JobTerms, ProofRule

if TYPE_CHECKING:
    from tests.contracts.conftest import World

BIG = 2**256 - 1


def keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()


def contract_form(terms: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(tuple(value.values()) if isinstance(value, dict) else value for value in terms.values())


def own_form(terms: dict[str, Any]) -> JobTerms:
    def address(text: str) -> Address:
        return Address(bytes.fromhex(text[2:]))

    rule = terms["rule"]
    counts = ("n_instances", "proof_len", "input_offset", "input_len", "job_offset", "gas_cap")
    return JobTerms(
        **{name: address(terms[name]) for name in ("payer", "provider", "payee", "token")},
        **{name: Bytes32(terms[name]) for name in ("circuit_id", "input_commitment", "salt")},
        amount=Uint256(terms["amount"]),
        fund_by=Timestamp(terms["fund_by"]),
        deadline=Timestamp(terms["deadline"]),
        rule=ProofRule(
            verifier=address(rule["verifier"]),
            code_hash=Bytes32(rule["code_hash"]),
            **{name: Count(rule[name]) for name in counts},
        ),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"amount": BIG, "salt": b"\xff" * 32},
        {"amount": 0, "salt": bytes(32), "payee": "0x" + "00" * 20},
        {"rule": {"n_instances": 1024, "proof_len": 4096, "job_offset": 1013, "input_offset": 1, "gas_cap": 1}},
    ],
    ids=str,
)
def test_job_id_is_the_same_in_three_implementations(world: World, changes: dict[str, Any]) -> None:
    """The rule is hashed as a struct inside the terms, the place where encoders differ."""
    terms = world.terms(**changes)
    expected = world.job_id(terms)
    assert world.escrow.job_id(contract_form(terms)) == expected
    domain = escrow_domain(boa.env.evm.patch.chain_id, Address(bytes.fromhex(world.escrow.address[2:])))
    own = own_form(terms)
    assert own.job_id(domain) == expected
    assert world.escrow.DOMAIN_SEPARATOR() == domain.separator()
    assert world.escrow.rule_hash(tuple(terms["rule"].values())) == own.rule_hash()


def test_every_field_is_under_the_job_id(world: World) -> None:
    terms = world.terms()
    variants = [terms]
    for part, wrap in ((terms, lambda new: new), (terms["rule"], lambda new: terms | {"rule": new})):
        for name, value in part.items():
            if isinstance(value, dict):
                continue
            other = {int: 5, bytes: b"\x77" * 32, str: "0x" + "77" * 20}[type(value)]
            variants.append(wrap(part | {name: other}))
    ids = [world.escrow.job_id(contract_form(variant)) for variant in variants]
    assert len(ids) == 1 + 10 + 8
    assert len(set(ids)) == len(ids)


def test_the_domain_follows_the_chain(world: World) -> None:
    """On the other side of a fork nothing that was signed before holds."""
    terms = world.terms()
    before = world.escrow.job_id(contract_form(terms))
    boa.env.evm.patch.chain_id = 777
    assert world.escrow.job_id(contract_form(terms)) == world.job_id(terms) != before


def test_the_tokens_domain_is_opgs(world: World) -> None:
    message = encode_typed_data(
        domain_data={
            "name": "OpenGradient",
            "version": "1",
            "chainId": boa.env.evm.patch.chain_id,
            "verifyingContract": world.token.address,
        },
        message_types={"Any": [{"name": "x", "type": "uint256"}]},
        message_data={"x": 1},
    )
    assert world.token.DOMAIN_SEPARATOR() == message.header
