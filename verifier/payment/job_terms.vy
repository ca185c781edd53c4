# pragma version 0.4.3
# SPDX-License-Identifier: Apache-2.0
"""
@title The terms of a job: their digests, who signed what, and whether a proof could ever meet their rule
@license Apache-2.0
@notice
    job_id is the EIP-712 digest of the terms under the domain {name "opgate", version "1", chainId, this contract}.
    This module stores nothing, moves nothing and calls nothing but a payer's wallet contract, in a static call.
@dev
    Reasons of reverts, one for each cause:
    no-code             the verifier has no code (or fewer than 3 bytes, which can verify nothing)
    delegated           the verifier is an account that delegates by EIP-7702 (its code hash pins nothing)
    code-hash           the verifier's code is not the one that the rule pins
    proof-len           the rule's proof_len is zero, above 4096 or no multiple of 32
    n-instances         the rule's n_instances is zero or above 1024
    input-range         the rule's input words are none, or reach beyond the instances
    job-range           the rule's 11 job limbs reach beyond the instances
    overlap             the rule's input words and job limbs share a word
    gas-cap             the rule's gas_cap is below 100,000 or above 16,000,000
    gas                 too little gas to give a verifier or a wallet contract its full cap; send more
"""


struct ProofRule:
    verifier: address
    code_hash: bytes32
    n_instances: uint256
    proof_len: uint256
    input_offset: uint256
    input_len: uint256
    job_offset: uint256
    gas_cap: uint256


struct JobTerms:
    payer: address
    provider: address
    payee: address
    token: address
    amount: uint256
    circuit_id: bytes32
    rule: ProofRule
    input_commitment: bytes32
    fund_by: uint256
    deadline: uint256
    salt: bytes32


# Declared maxima cost gas in every call, since memory is quadratic in them; a larger input is hashed in the circuit.
MAX_PROOF: constant(uint256) = 4096
MAX_INSTANCES: constant(uint256) = 1024
MAX_SIGNATURE: constant(uint256) = 2048
JOB_LIMBS: constant(uint256) = 11
# Below: one pairing check alone costs 113,000. Above: EIP-7825 lets no transaction have more than 16,777,216.
MIN_GAS_CAP: constant(uint256) = 100_000
MAX_GAS_CAP: constant(uint256) = 16_000_000
# What a Safe with many owners or a passkey checked in bytecode needs, with room.
WALLET_GAS: constant(uint256) = 500_000
# What this contract itself spends between the check of the gas and the call, in the worst case.
CALL_OVERHEAD: constant(uint256) = 20_000
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
RULE_TYPE: constant(bytes32) = keccak256(
    "ProofRule(address verifier,bytes32 code_hash,uint256 n_instances,uint256 proof_len,uint256 input_offset,uint256 input_len,uint256 job_offset,uint256 gas_cap)"
)
TERMS_TYPE: constant(bytes32) = keccak256(
    "JobTerms(address payer,address provider,address payee,address token,uint256 amount,bytes32 circuit_id,ProofRule rule,bytes32 input_commitment,uint256 fund_by,uint256 deadline,bytes32 salt)ProofRule(address verifier,bytes32 code_hash,uint256 n_instances,uint256 proof_len,uint256 input_offset,uint256 input_len,uint256 job_offset,uint256 gas_cap)"
)
ACCEPTANCE_TYPE: constant(bytes32) = keccak256("Acceptance(bytes32 job_id)")
RELEASE_TYPE: constant(bytes32) = keccak256("Release(bytes32 job_id,bytes32 instances_hash)")
NAME_HASH: constant(bytes32) = keccak256("opgate")
VERSION_HASH: constant(bytes32) = keccak256("1")

DELEGATION: constant(Bytes[3]) = x"ef0100"
VALID_SIGNATURE: constant(bytes32) = 0x1626ba7e00000000000000000000000000000000000000000000000000000000


# --- digests


@internal
@view
def _domain() -> bytes32:
    # Computed in each call: a fork with another chain id cannot replay, and the deployed code depends on the token
    # alone, so that anyone can tell its hash beforehand.
    return keccak256(abi_encode(DOMAIN_TYPE, NAME_HASH, VERSION_HASH, chain.id, self))


@internal
@pure
def _digest(domain: bytes32, struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", domain, struct_hash))


@internal
@pure
def _rule_hash(rule: ProofRule) -> bytes32:
    return keccak256(abi_encode(RULE_TYPE, rule))


@internal
@pure
def _terms_hash(terms: JobTerms) -> bytes32:
    return keccak256(
        abi_encode(
            TERMS_TYPE,
            terms.payer,
            terms.provider,
            terms.payee,
            terms.token,
            terms.amount,
            terms.circuit_id,
            keccak256(abi_encode(RULE_TYPE, terms.rule)),
            terms.input_commitment,
            terms.fund_by,
            terms.deadline,
            terms.salt,
        )
    )


@internal
@pure
def _acceptance(domain: bytes32, job: bytes32) -> bytes32:
    return self._digest(domain, keccak256(abi_encode(ACCEPTANCE_TYPE, job)))


@internal
@pure
def _release(domain: bytes32, job: bytes32, instances_hash: bytes32) -> bytes32:
    return self._digest(domain, keccak256(abi_encode(RELEASE_TYPE, job, instances_hash)))


# --- signatures


@internal
@pure
def _recover(digest: bytes32, r: uint256, s: uint256, v: uint256) -> address:
    """The signer, or the zero address. One encoding only: low s, v 27 or 28."""
    if s > HALF_ORDER or (v != 27 and v != 28):
        return empty(address)
    return ecrecover(digest, v, r, s)


@internal
@pure
def _accepted(provider: address, digest: bytes32, signature: Bytes[65]) -> bool:
    """Whether the provider's key signed. Providers are keys: what only a chain can judge could not be checked offline."""
    if len(signature) != 65:
        return False
    return provider == self._recover(
        digest,
        extract32(signature, 0, output_type=uint256),
        extract32(signature, 32, output_type=uint256),
        extract32(signature, 33, output_type=uint256) & 255,
    )


@internal
@view
def _signed(signer: address, digest: bytes32, signature: Bytes[MAX_SIGNATURE]) -> bool:
    # A key first, so that an account that delegates by EIP-7702 can still sign with it; then ERC-1271.
    if len(signature) == 65 and signer == self._recover(
        digest,
        extract32(signature, 0, output_type=uint256),
        extract32(signature, 32, output_type=uint256),
        extract32(signature, 33, output_type=uint256) & 255,
    ):
        return True
    if not signer.is_contract:
        return False
    assert msg.gas >= WALLET_GAS + WALLET_GAS // 63 + CALL_OVERHEAD, "gas"
    ok: bool = False
    answer: Bytes[32] = b""
    ok, answer = raw_call(
        signer,
        abi_encode(digest, signature, method_id=method_id("isValidSignature(bytes32,bytes)")),
        max_outsize=32,
        gas=WALLET_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    return ok and len(answer) == 32 and extract32(answer, 0) == VALID_SIGNATURE


# --- the rule


@internal
@view
def _check_rule(rule: ProofRule):
    # A job that nobody could release by proof is not taken.
    assert rule.verifier.codesize >= 3, "no-code"
    assert slice(rule.verifier.code, 0, 3) != DELEGATION, "delegated"
    assert rule.verifier.codehash == rule.code_hash, "code-hash"
    assert rule.proof_len != 0 and rule.proof_len <= MAX_PROOF and rule.proof_len % 32 == 0, "proof-len"
    n: uint256 = rule.n_instances
    assert n != 0 and n <= MAX_INSTANCES, "n-instances"
    # Differences, not sums: no field can overflow past a comparison.
    assert rule.input_len != 0 and rule.input_offset <= n and rule.input_len <= n - rule.input_offset, "input-range"
    assert rule.job_offset <= n and JOB_LIMBS <= n - rule.job_offset, "job-range"
    assert (
        rule.input_offset + rule.input_len <= rule.job_offset or rule.job_offset + JOB_LIMBS <= rule.input_offset
    ), "overlap"
    assert rule.gas_cap >= MIN_GAS_CAP and rule.gas_cap <= MAX_GAS_CAP, "gas-cap"
