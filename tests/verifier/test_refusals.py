"""What the vectors do not reach: words for a payer's own inputs, a provider's own policy, structs that cannot be."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.vectors.cases import read_base
from verifier.basis import Basis
from verifier.errors import VerifierError
from verifier.instances import claimed_words, committed_words
from verifier.policy import ANY, Amounts, Chains, CircuitRule, Depth, Escrow, Policy
from verifier.poseidon import poseidon_hash
from verifier.statement import canonical
from verifier.statement.eip712 import Domain, escrow_domain, hash_struct
from verifier.statement.manifest import BLIND_WORDS, JOB_LIMB_BITS, CircuitManifest
from verifier.statement.scalars import Address, Bytes32, Count, HexBytes, Signature, TensorInt, Text, Uint256
from verifier.statement.terms import input_commitment

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
HASHED = BASE.circuit_of(BASE.bundles["hashed"]).manifest
MANIFEST = BASE.circuit.manifest
VALUES = tuple(TensorInt(value) for value in (1, -2, 3, 4))
BLIND = tuple(TensorInt(value) for value in (1, 0, 2, (1 << JOB_LIMB_BITS) - 1, 0, 5))


def test_the_words_of_public_inputs_are_their_values() -> None:
    inputs = BASE.job.inputs
    assert inputs is not None
    assert committed_words(inputs, MANIFEST) == claimed_words(BASE.job)[: 32 * MANIFEST.input_len]


def test_the_word_of_a_hashed_input_is_the_hash_of_values_and_blind() -> None:
    assert (HASHED.wire_sizes, MANIFEST.wire_sizes) == ((4 + BLIND_WORDS,), (MANIFEST.inputs[0].size,))
    expected = int(poseidon_hash([value.to_field() for value in VALUES + BLIND])).to_bytes(32)
    assert committed_words((VALUES + BLIND,), HASHED) == expected


@pytest.mark.parametrize("tensors", [(), (VALUES,), (VALUES + BLIND, ()), (VALUES + BLIND[:-1],)])
def test_inputs_of_other_sizes_have_no_words(tensors: tuple[tuple[TensorInt, ...], ...]) -> None:
    with pytest.raises(VerifierError) as refused:
        committed_words(tensors, HASHED)
    found = [len(tensor) for tensor in tensors]
    assert str(refused.value) == (
        f"V5-instance-count: the claim has another size than the circuit (where inputs; expected [10] values; "
        f"found {found} values)"
    )


@pytest.mark.parametrize(
    "blind",
    [(0,) * 6, (1, 0, 0, 0, 0, -1), (-1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1 << JOB_LIMB_BITS)],
)
def test_a_hashed_input_without_a_blind_has_no_word(blind: tuple[int, ...]) -> None:
    with pytest.raises(VerifierError) as refused:
        committed_words((VALUES + tuple(TensorInt(each) for each in blind),), HASHED)
    assert str(refused.value) == (
        "V5-blind: a hashed input without a blind could be guessed from its hash "
        f"(where inputs.{HASHED.inputs[0].name}; expected 6 random integers in [0, 2^24) after the values)"
    )


@pytest.mark.parametrize("words", [b"", bytes(32), claimed_words(BASE.job) + bytes(32)])
def test_words_of_another_number_are_refused_whatever_the_claim_says(words: bytes) -> None:
    steps = importlib.import_module("verifier.verify")  # the package shows the function under this name
    deal = steps._Deal(BASE.job.terms, BASE.job.domain, BASE.job.circuit_id, Basis(BASE.circuit, BASE.policy))
    expected = int(MANIFEST.n_instances)
    steps.check_instances(
        case := steps._Case(deal, BASE.job, Bytes32(bytes(32)), BASE.job.job_id, (), claimed_words(BASE.job))
    )
    with pytest.raises(VerifierError) as refused:
        steps.check_instances(case._replace(words=words))
    assert str(refused.value) == (
        "V5-instance-count: the claim has another size than the circuit "
        f"(where step 5; expected {expected}; found {len(words) // 32})"
    )


def test_a_provider_judges_by_the_escrow_and_token_that_it_accepted() -> None:
    terms, domain = BASE.job.terms, BASE.job.domain
    assert Policy.of_provider(domain, terms) == Policy(
        chains=Chains(
            escrows=(Escrow(chain_id=domain.chain_id, escrow=domain.verifying_contract, token=terms.token),),
            dev_chains=(domain.chain_id,),
        ),
        circuits={ANY: CircuitRule(assurance="unattested")},
    )


def test_the_deepest_depth_that_an_amount_reaches_counts() -> None:
    depths = tuple(
        Depth(amount=Uint256(amount), blocks=Count(blocks)) for amount, blocks in ((5, 2), (10, 30), (20, 3))
    )
    asked = Amounts(depths=depths)
    assert [asked.blocks_for(amount) for amount in (4, 5, 9, 10, 20, 10**30)] == [0, 2, 2, 30, 30, 30]
    assert Amounts().blocks_for(10**30) == 0


def test_a_policy_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(b"# \xff")
    with pytest.raises(VerifierError) as refused:
        Policy.load(path)
    assert str(refused.value).startswith(f"V0-policy: the policy is no UTF-8 (where {path}; found 'utf-8' codec")
    assert isinstance(refused.value.__cause__, UnicodeDecodeError)


def test_a_bundle_from_the_chain_has_no_delivery_to_sign() -> None:
    bundle = replace(BASE.bundles["chain"])
    with pytest.raises(ValueError, match=r"^a bundle from the chain carries no receipt to sign$"):
        bundle.delivery_message(Bytes32(bytes(32)))


@pytest.mark.parametrize(
    ("base", "changes", "why"),
    [
        (HASHED, {"inputs": (*HASHED.inputs, HASHED.outputs[0])}, "tensor y stands at 2+3, expected 1+1"),
        (
            HASHED,
            {"inputs": (HASHED.inputs[0], replace(HASHED.inputs[0], offset=Count(1)))},
            "a circuit with hashed inputs has one input tensor",
        ),
        (
            MANIFEST,
            {"n_instances": Count(MANIFEST.n_instances + 1)},
            f"n_instances is {MANIFEST.n_instances + 1}, the tensors give {MANIFEST.n_instances}",
        ),
    ],
)
def test_tensors_that_do_not_tile_the_instances(base: Any, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        replace(base, **changes)


def test_hex_bytes_are_bytes_of_their_size() -> None:
    for kind, value, why in (
        (Bytes32, "0x00", "Bytes32 wants bytes, not str"),
        (Bytes32, bytes(31), "Bytes32 wants 32 bytes, not 31"),
        (Signature, bytes(66), "Signature wants 65 bytes, not 66"),
        (HexBytes, bytes((1 << 21) + 1), "HexBytes takes at most 2097152 bytes, not 2097153"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
            kind(value)  # type: ignore[arg-type] # the wrong type is the point
    assert len(HexBytes(bytes(1 << 21))) == 1 << 21


def test_a_field_of_a_type_without_a_json_form_is_a_fault_of_ours() -> None:
    class Strange(msgspec.Struct):
        field: complex

    with pytest.raises((TypeError, VerifierError), match="no JSON form for complex"):
        canonical.decode(Strange, b'{"field":1}', where="here")


def test_the_domain_of_an_escrow_and_the_hash_of_a_rule() -> None:
    address = Address(b"\x07" * 20)
    assert escrow_domain(8453, address) == Domain(
        name=Text("opgate"), version=Text("1"), chain_id=Count(8453), verifying_contract=address
    )
    assert BASE.job.terms.rule_hash() == hash_struct(BASE.job.terms.rule)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": ()}, "a circuit has at least one input and one output"),
        ({"outputs": ()}, "a circuit has at least one input and one output"),
        ({"proof_len": 0}, "proof_len is a positive multiple of 32"),
        ({"proof_len": 33}, "proof_len is a positive multiple of 32"),
        ({"value_bound": 2**24 - 1}, "value_bound is too small for the job limbs"),
    ],
)
def test_what_is_said_of_a_circuit_that_cannot_be(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        replace(MANIFEST, **changes)


def test_the_least_bound_that_holds_the_limbs_of_a_job_is_taken() -> None:
    changed = canonical.to_builtins(MANIFEST) | {"value_bound": str(2**24)}
    assert canonical.from_builtins(CircuitManifest, changed, where="here").value_bound == 2**24


@pytest.mark.parametrize("words", [b"", bytes(31), bytes(33)])
def test_an_input_of_half_a_word_has_no_commitment(words: bytes) -> None:
    with pytest.raises(VerifierError) as refused:
        input_commitment(words)
    assert str(refused.value) == (f"V6-words: an input is a whole number of 32-byte words (found {len(words)} bytes)")
