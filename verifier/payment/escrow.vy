# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title OPG escrow: one job, one lock, paid when it is proved
@license Apache-2.0
@notice
    Holds a payer's tokens for one job and pays them to the payee that the terms name, once either the payer
    signs a Release or anyone shows a proof that the pinned verifier accepts for exactly this job and input.
    Otherwise the payer gets them back: at once if the provider declines, from the deadline on by anyone's call.
    There is no owner, setter, upgrade, pause or fee, and the token is fixed when the contract is deployed.

    job_id is the EIP-712 digest of the terms under the domain {name "opgate", version "1", chainId, this contract}.
    Every field that is acted on is under it, so terms are passed again at each call and nothing but a state is stored.

    States: 0 NONE, 1 FUNDED, 2 RELEASED, 3 RECLAIMED, 4 DECLINED, 5 CANCELLED.
    NONE -> FUNDED (fund) or CANCELLED (cancel); FUNDED -> RELEASED, RECLAIMED or DECLINED; the last four are final.
    A release needs block.timestamp < deadline, a reclaim >= deadline: no instant admits both.

    Trust: the token may lie, charge, call back or revert; the verifier, a payer's wallet contract and every caller may be
    hostile. A token that lies about balances can cheat its own holders, which no escrow can prevent.
@dev
    Reasons of reverts, one for each cause; they are part of the interface and never change their meaning:
    token-code          the constructor's token has no code
    state               the job is not in the state that this call starts from
    token               terms.token is not this escrow's token
    amount              the amount is zero
    payer-address       the payer is zero, this escrow or the token
    provider-address    the provider is zero, this escrow or the token
    payee-address       the payee is zero, this escrow or the token
    fund-by             block.timestamp has reached fund_by
    deadline-order      fund_by is not before the deadline
    horizon             the deadline is more than 365 days away
    no-code             the verifier has no code (or fewer than 3 bytes, which can verify nothing)
    delegated           the verifier is an account that delegates by EIP-7702 (its code hash pins nothing)
    code-hash           the verifier's code is not the one that the rule pins
    proof-len           the rule's proof_len is zero, above 4096 or no multiple of 32
    n-instances         the rule's n_instances is zero or above 1024
    input-range         the rule's input words are none, or reach beyond the instances
    job-range           the rule's 11 job limbs reach beyond the instances
    overlap             the rule's input words and job limbs share a word
    gas-cap             the rule's gas_cap is below 100,000 or above 16,000,000
    acceptance          the provider's key did not sign Acceptance(job_id)
    payer-signature     the payer signed neither these terms (fund) nor this Release (release), and did not send the call
    permit              the permit failed and the allowance does not suffice without it
    pull                the token did not move the exact amount from the payer to here
    shortfall           after funding, this escrow would hold less than it owes: the token took some of it away
    push                the token did not move the exact amount from here to the payee
    refund              the token did not take the exact amount from here
    late                a release at or after the deadline
    early               a reclaim before the deadline
    not-payer           cancel by someone else
    not-provider        decline by someone else
    gas                 too little gas to give a verifier or a wallet contract its full cap; send more
    call-length         the verifier's calldata is not as long as the rule says
    call-head           the verifier's calldata has another selector, offset, proof length or count of instances
    job-limbs           the proof is for another job
    input-commitment    the proof is for another input
    proof               the verifier did not answer with exactly 32 bytes that are 1
    A revert without a reason: malformed calldata (a signature above 65 or 2048 bytes, a call above 36,996), too little
    gas, or a call made from inside another one of this contract. A token's own reason is passed on as it is.
"""

from ethereum.ercs import IERC20


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


event Funded:
    job_id: indexed(bytes32)
    payer: indexed(address)
    provider: indexed(address)
    terms: JobTerms


event Released:
    job_id: indexed(bytes32)
    by: indexed(address)
    instances_hash: bytes32


event InstancesShown:
    job_id: indexed(bytes32)
    instances: Bytes[MAX_CALL]


event Reclaimed:
    job_id: indexed(bytes32)
    by: indexed(address)


event Declined:
    job_id: indexed(bytes32)


event Cancelled:
    job_id: indexed(bytes32)


UNSEEN: constant(uint256) = 0  # NONE, which is a word of the language
FUNDED: constant(uint256) = 1
RELEASED: constant(uint256) = 2
RECLAIMED: constant(uint256) = 3
DECLINED: constant(uint256) = 4
CANCELLED: constant(uint256) = 5

# Declared maxima cost gas in every call, since memory is quadratic in them; a larger input is hashed in the circuit.
MAX_PROOF: constant(uint256) = 4096
MAX_INSTANCES: constant(uint256) = 1024
MAX_INSTANCE_BYTES: constant(uint256) = 32 * MAX_INSTANCES
MAX_CALL: constant(uint256) = 132 + MAX_PROOF + MAX_INSTANCE_BYTES
MAX_SIGNATURE: constant(uint256) = 2048
JOB_LIMBS: constant(uint256) = 11
LIMB_BITS: constant(uint256) = 24
LIMB_MASK: constant(uint256) = 2**24 - 1
MAX_HORIZON: constant(uint256) = 365 * 86400
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

VERIFY_PROOF: constant(Bytes[4]) = x"1e8e1e13"
DELEGATION: constant(Bytes[3]) = x"ef0100"
VALID_SIGNATURE: constant(bytes32) = 0x1626ba7e00000000000000000000000000000000000000000000000000000000

TOKEN: public(immutable(address))
# The domain is computed anew in each call: a fork with another chain id cannot replay, and the deployed code depends on
# the token alone, so that anyone can tell its hash beforehand.

state: public(HashMap[bytes32, uint256])
locked: public(uint256)


@deploy
def __init__(token: address):
    assert token.is_contract, "token-code"
    TOKEN = token


# --- views


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    """The EIP-712 domain separator for the chain this runs on."""
    return self._domain()


@external
@view
def rule_hash(rule: ProofRule) -> bytes32:
    """hashStruct of the rule, as it goes into job_id."""
    return self._rule_hash(rule)


@external
@view
def job_id(terms: JobTerms) -> bytes32:
    """The EIP-712 digest of the terms: what the payer signs, what the proof carries as limbs. Checks nothing."""
    return self._job_id(terms)


# --- the verbs


@external
@nonreentrant
def fund(terms: JobTerms, acceptance: Bytes[65], payer_sig: Bytes[MAX_SIGNATURE]):
    """
    @notice Lock the amount, by an allowance that the payer gave. Anyone with both signatures may call.
    @param acceptance the provider's signature of Acceptance(job_id)
    @param payer_sig the payer's signature of the terms; not read when the payer is the caller
    """
    self._open(terms, acceptance, payer_sig)
    self._pull(terms.payer, terms.amount)


@external
@nonreentrant
def fund_with_permit(
    terms: JobTerms,
    acceptance: Bytes[65],
    payer_sig: Bytes[MAX_SIGNATURE],
    permit_deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice The same with an EIP-2612 permit of exactly the amount, so that no approval comes before.
    @dev Anyone may have used the permit already; its failure is ignored where the allowance suffices.
    """
    self._open(terms, acceptance, payer_sig)
    permitted: bool = raw_call(
        TOKEN,
        abi_encode(
            terms.payer,
            self,
            terms.amount,
            permit_deadline,
            v,
            r,
            s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    if not permitted:
        assert staticcall IERC20(TOKEN).allowance(terms.payer, self) >= terms.amount, "permit"
    self._pull(terms.payer, terms.amount)


@external
@nonreentrant
def release(terms: JobTerms, instances_hash: bytes32, payer_sig: Bytes[MAX_SIGNATURE]):
    """
    @notice The cooperative close: pay the payee on the payer's signature of Release(job_id, instances_hash). Anyone may call.
    """
    job: bytes32 = self._releasable(terms)
    digest: bytes32 = self._digest(keccak256(abi_encode(RELEASE_TYPE, job, instances_hash)))
    assert self._signed(terms.payer, digest, payer_sig), "payer-signature"
    self._release(terms, job, instances_hash)


@external
@nonreentrant
def release_by_proof(terms: JobTerms, call: Bytes[MAX_CALL]):
    """
    @notice The unilateral close: pay the payee on a proof. Anyone may call; send the rule's gas_cap and 200,000 more.
    @param call the verifier's whole calldata: verifyProof(bytes proof, uint256[] instances), canonically encoded
    """
    job: bytes32 = self._releasable(terms)
    rule: ProofRule = terms.rule
    assert rule.verifier.codehash == rule.code_hash, "code-hash"

    # The one canonical encoding, so that the words checked here are the words that the verifier reads.
    words: uint256 = 132 + rule.proof_len
    assert len(call) == words + 32 * rule.n_instances, "call-length"
    assert slice(call, 0, 4) == VERIFY_PROOF, "call-head"
    assert extract32(call, 4, output_type=uint256) == 64, "call-head"
    assert extract32(call, 36, output_type=uint256) == 96 + rule.proof_len, "call-head"
    assert extract32(call, 68, output_type=uint256) == rule.proof_len, "call-head"
    assert extract32(call, words - 32, output_type=uint256) == rule.n_instances, "call-head"

    limb_at: uint256 = words + 32 * rule.job_offset
    rest: uint256 = convert(job, uint256)
    for _: uint256 in range(JOB_LIMBS):
        assert extract32(call, limb_at, output_type=uint256) == rest & LIMB_MASK, "job-limbs"
        limb_at += 32
        rest >>= LIMB_BITS
    assert keccak256(slice(call, words + 32 * rule.input_offset, 32 * rule.input_len)) == terms.input_commitment, (
        "input-commitment"
    )

    # A call gets at most 63/64 of what is left: with less than this, a good proof would look like a bad one.
    assert msg.gas >= rule.gas_cap + rule.gas_cap // 63 + CALL_OVERHEAD, "gas"
    ok: bool = False
    answer: Bytes[33] = b""
    ok, answer = raw_call(
        rule.verifier, call, max_outsize=33, gas=rule.gas_cap, is_static_call=True, revert_on_failure=False
    )
    assert ok and len(answer) == 32 and extract32(answer, 0, output_type=uint256) == 1, "proof"

    instances: Bytes[MAX_CALL] = slice(call, words, 32 * rule.n_instances)
    log InstancesShown(job_id=job, instances=instances)
    self._release(terms, job, keccak256(instances))


@external
@nonreentrant
def decline(terms: JobTerms):
    """The provider gives the job back; the payer is refunded at once."""
    assert msg.sender == terms.provider, "not-provider"
    job: bytes32 = self._funded(terms)
    self.state[job] = DECLINED
    log Declined(job_id=job)
    self._refund(terms)


@external
@nonreentrant
def reclaim(terms: JobTerms):
    """From the deadline on the money goes back to the payer, whoever calls."""
    job: bytes32 = self._funded(terms)
    assert block.timestamp >= terms.deadline, "early"
    self.state[job] = RECLAIMED
    log Reclaimed(job_id=job, by=msg.sender)
    self._refund(terms)


@external
@nonreentrant
def cancel(terms: JobTerms):
    """The payer makes terms that it signed unfundable, before anyone funded them. Checks nothing else in them."""
    assert msg.sender == terms.payer, "not-payer"
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == UNSEEN, "state"
    self.state[job] = CANCELLED
    log Cancelled(job_id=job)


# --- opening and closing


@internal
def _open(terms: JobTerms, acceptance: Bytes[65], payer_sig: Bytes[MAX_SIGNATURE]):
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == UNSEEN, "state"
    self._check_terms(terms)
    self._check_rule(terms.rule)
    accepted: bytes32 = self._digest(keccak256(abi_encode(ACCEPTANCE_TYPE, job)))
    assert self._recover(accepted, acceptance) == terms.provider, "acceptance"
    if msg.sender != terms.payer:
        assert self._signed(terms.payer, job, payer_sig), "payer-signature"
    self.state[job] = FUNDED
    self.locked += terms.amount
    log Funded(job_id=job, payer=terms.payer, provider=terms.provider, terms=terms)


@internal
@view
def _check_terms(terms: JobTerms):
    assert terms.token == TOKEN, "token"
    assert terms.amount != 0, "amount"
    assert self._party(terms.payer), "payer-address"
    assert self._party(terms.provider), "provider-address"
    assert self._party(terms.payee), "payee-address"
    assert block.timestamp < terms.fund_by, "fund-by"
    assert terms.fund_by < terms.deadline, "deadline-order"
    assert terms.deadline <= block.timestamp + MAX_HORIZON, "horizon"


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


@internal
@view
def _party(account: address) -> bool:
    return account != empty(address) and account != self and account != TOKEN


@internal
@view
def _funded(terms: JobTerms) -> bytes32:
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == FUNDED, "state"
    return job


@internal
@view
def _releasable(terms: JobTerms) -> bytes32:
    job: bytes32 = self._funded(terms)
    assert block.timestamp < terms.deadline, "late"
    return job


@internal
def _release(terms: JobTerms, job: bytes32, instances_hash: bytes32):
    self.state[job] = RELEASED
    self.locked -= terms.amount
    log Released(job_id=job, by=msg.sender, instances_hash=instances_hash)
    here: uint256 = staticcall IERC20(TOKEN).balanceOf(self)
    there: uint256 = staticcall IERC20(TOKEN).balanceOf(terms.payee)
    assert extcall IERC20(TOKEN).transfer(terms.payee, terms.amount, default_return_value=True), "push"
    assert staticcall IERC20(TOKEN).balanceOf(self) + terms.amount == here, "push"
    assert staticcall IERC20(TOKEN).balanceOf(terms.payee) == there + terms.amount, "push"


@internal
def _refund(terms: JobTerms):
    # Only this side is compared: a token that begins to charge a fee must not keep the payer's money here.
    self.locked -= terms.amount
    here: uint256 = staticcall IERC20(TOKEN).balanceOf(self)
    assert extcall IERC20(TOKEN).transfer(terms.payer, terms.amount, default_return_value=True), "refund"
    assert staticcall IERC20(TOKEN).balanceOf(self) + terms.amount == here, "refund"


@internal
def _pull(payer: address, amount: uint256):
    here: uint256 = staticcall IERC20(TOKEN).balanceOf(self)
    there: uint256 = staticcall IERC20(TOKEN).balanceOf(payer)
    assert extcall IERC20(TOKEN).transferFrom(payer, self, amount, default_return_value=True), "pull"
    held: uint256 = staticcall IERC20(TOKEN).balanceOf(self)
    assert held == here + amount, "pull"
    assert staticcall IERC20(TOKEN).balanceOf(payer) + amount == there, "pull"
    assert held >= self.locked, "shortfall"


# --- EIP-712 and signatures


@internal
@view
def _domain() -> bytes32:
    return keccak256(abi_encode(DOMAIN_TYPE, NAME_HASH, VERSION_HASH, chain.id, self))


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", self._domain(), struct_hash))


@internal
@pure
def _rule_hash(rule: ProofRule) -> bytes32:
    return keccak256(abi_encode(RULE_TYPE, rule))


@internal
@view
def _job_id(terms: JobTerms) -> bytes32:
    return self._digest(
        keccak256(
            abi_encode(
                TERMS_TYPE,
                terms.payer,
                terms.provider,
                terms.payee,
                terms.token,
                terms.amount,
                terms.circuit_id,
                self._rule_hash(terms.rule),
                terms.input_commitment,
                terms.fund_by,
                terms.deadline,
                terms.salt,
            )
        )
    )


@internal
@pure
def _recover(digest: bytes32, signature: Bytes[65]) -> address:
    """The signer, or the zero address: one encoding only (65 bytes, low s, v 27 or 28)."""
    if len(signature) != 65:
        return empty(address)
    s: uint256 = extract32(signature, 32, output_type=uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if s > HALF_ORDER or (v != 27 and v != 28):
        return empty(address)
    return ecrecover(digest, v, extract32(signature, 0, output_type=uint256), s)


@internal
@view
def _signed(signer: address, digest: bytes32, signature: Bytes[MAX_SIGNATURE]) -> bool:
    # A key first, so that an account that delegates by EIP-7702 can still sign with it; then ERC-1271.
    if len(signature) == 65 and self._recover(digest, slice(signature, 0, 65)) == signer:
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
