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

    Every field that is acted on is under job_id, so terms are passed again at each call and nothing but a state is
    stored. The sum of what is locked is not: every pull and push is compared on the token's own books (docs/adr).

    States: 0 NONE, 1 FUNDED, 2 RELEASED, 3 RECLAIMED, 4 DECLINED, 5 CANCELLED.
    NONE -> FUNDED (fund) or CANCELLED (cancel); FUNDED -> RELEASED, RECLAIMED or DECLINED; the last four are final.
    A release needs block.timestamp < deadline, a reclaim >= deadline: no instant admits both.

    Trust: the token may lie, charge, call back or revert; the verifier, a payer's wallet contract and every caller may be
    hostile. A token that lies about balances can cheat its own holders, which no escrow can prevent.
@dev
    Reasons of reverts, one for each cause; they are part of the interface and never change their meaning. Those of
    job_terms and transfers stand there, and docs/errors.md has them all.
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
    acceptance          the provider's key did not sign Acceptance(job_id)
    payer-signature     the payer signed neither these terms (fund) nor this Release (release), and did not send the call
    late                a release at or after the deadline
    early               a reclaim before the deadline
    not-payer           cancel by someone else
    not-provider        decline by someone else
    not-batch           fund_item or release_item by anyone but this contract
    signatures          the signatures of a batch are longer than its items say
    call-length         the verifier's calldata is not as long as the rule says
    call-head           the verifier's calldata has another selector, offset, proof length or count of instances
    job-limbs           the proof is for another job
    input-commitment    the proof is for another input
    proof               the verifier did not answer with exactly 32 bytes that are 1
    A revert without a reason: malformed calldata (a signature above 65 or 2048 bytes, a call above 36,996, a batch above
    64 items or with too few signatures), too little gas, or a call made from inside another one of this contract.
"""

from ethereum.ercs import IERC20

import job_terms
import transfers


# One job of a batch; its signatures stand in the batch's `signatures`, in the order of the items.
struct ToFund:
    terms: job_terms.JobTerms
    signature_len: uint256  # of the payer's, which follows the provider's 65 bytes


struct ToRelease:
    terms: job_terms.JobTerms
    instances_hash: bytes32
    signature_len: uint256  # of the payer's


event Funded:
    job_id: indexed(bytes32)
    payer: indexed(address)
    provider: indexed(address)
    terms: job_terms.JobTerms


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


# An item of a batch that was not done, with what it reverted with.
event Skipped:
    job_id: indexed(bytes32)
    reason: Bytes[MAX_REASON]


UNSEEN: constant(uint256) = 0  # NONE, which is a word of the language
FUNDED: constant(uint256) = 1
RELEASED: constant(uint256) = 2
RECLAIMED: constant(uint256) = 3
DECLINED: constant(uint256) = 4
CANCELLED: constant(uint256) = 5

MAX_CALL: constant(uint256) = 132 + job_terms.MAX_PROOF + 32 * job_terms.MAX_INSTANCES
MAX_BATCH: constant(uint256) = 64
MAX_SIGNATURES: constant(uint256) = 12288
MAX_REASON: constant(uint256) = 100
MAX_ITEM: constant(uint256) = MAX_SIGNATURES + 32 * 26 + 4
LIMB_BITS: constant(uint256) = 24
LIMB_MASK: constant(uint256) = 2**24 - 1
MAX_HORIZON: constant(uint256) = 365 * 86400
VERIFY_PROOF: constant(Bytes[4]) = x"1e8e1e13"

TOKEN: public(immutable(address))

state: public(HashMap[bytes32, uint256])


@deploy
def __init__(token: address):
    assert token.is_contract, "token-code"
    TOKEN = token


# --- views


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    """The EIP-712 domain separator for the chain this runs on."""
    return job_terms._domain()


@external
@view
def rule_hash(rule: job_terms.ProofRule) -> bytes32:
    """hashStruct of the rule, as it goes into job_id."""
    return job_terms._rule_hash(rule)


@external
@view
def job_id(terms: job_terms.JobTerms) -> bytes32:
    """The EIP-712 digest of the terms: what the payer signs, what the proof carries as limbs. Checks nothing."""
    return self._job_id(terms)


# --- funding


@external
@nonreentrant
def fund(terms: job_terms.JobTerms, acceptance: Bytes[65], payer_sig: Bytes[job_terms.MAX_SIGNATURE]):
    """
    @notice Lock the amount, by an allowance that the payer gave. Anyone with both signatures may call.
    @param acceptance the provider's signature of Acceptance(job_id)
    @param payer_sig the payer's signature of the terms; not read when the payer is the caller
    """
    self._open(terms, acceptance, payer_sig)
    transfers._pull(IERC20(TOKEN), terms.payer, terms.amount)


@external
@nonreentrant
def fund_with_permit(
    terms: job_terms.JobTerms,
    acceptance: Bytes[65],
    payer_sig: Bytes[job_terms.MAX_SIGNATURE],
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
    transfers._permit(IERC20(TOKEN), terms.payer, terms.amount, permit_deadline, v, r, s)
    transfers._pull(IERC20(TOKEN), terms.payer, terms.amount)


@external
@nonreentrant
def fund_with_permit2(
    terms: job_terms.JobTerms, acceptance: Bytes[65], nonce: uint256, permit_sig: Bytes[job_terms.MAX_SIGNATURE]
):
    """
    @notice The same by Permit2: one signature of the payer is both its consent to the terms and the transfer.
    @param nonce an unused one of the payer's at Permit2
    @param permit_sig the payer's PermitWitnessTransferFrom with the terms as witness, this contract as spender, exactly
        the amount of the token, and fund_by as its deadline
    """
    self._lock(terms, self._acceptable(terms, acceptance))
    transfers._pull_by_permit2(
        IERC20(TOKEN), terms.payer, terms.amount, nonce, terms.fund_by, job_terms._terms_hash(terms), permit_sig
    )


@external
@nonreentrant
def fund_many(items: DynArray[ToFund, MAX_BATCH], signatures: Bytes[MAX_SIGNATURES]) -> DynArray[bool, MAX_BATCH]:
    """
    @notice Fund many jobs by allowances and signatures; what would fail alone is skipped and blocks no other.
    @param signatures for each item the provider's 65 bytes, then the payer's signature_len bytes, and nothing else
    @return for each item whether it was funded; of those that were not, Skipped says why
    """
    done: DynArray[bool, MAX_BATCH] = []
    at: uint256 = 0
    for item: ToFund in items:
        done.append(
            self._try(
                item.terms,
                abi_encode(
                    item.terms,
                    slice(signatures, at, 65),
                    slice(signatures, at + 65, item.signature_len),
                    method_id=method_id("fund_item((address,address,address,address,uint256,bytes32,(address,bytes32,uint256,uint256,uint256,uint256,uint256,uint256),bytes32,uint256,uint256,bytes32),bytes,bytes)"),
                ),
            )
        )
        at += 65 + item.signature_len
    assert at == len(signatures), "signatures"
    return done


@external
def fund_item(terms: job_terms.JobTerms, acceptance: Bytes[65], payer_sig: Bytes[job_terms.MAX_SIGNATURE]):
    """One item of fund_many, which alone may call: what fails here is undone without the rest of the batch."""
    assert msg.sender == self, "not-batch"
    self._open(terms, acceptance, payer_sig)
    transfers._pull(IERC20(TOKEN), terms.payer, terms.amount)


# --- closing


@external
@nonreentrant
def release(terms: job_terms.JobTerms, instances_hash: bytes32, payer_sig: Bytes[job_terms.MAX_SIGNATURE]):
    """
    @notice The cooperative close: pay the payee on the payer's signature of Release(job_id, instances_hash). Anyone may call.
    """
    domain: bytes32 = job_terms._domain()
    job: bytes32 = job_terms._digest(domain, job_terms._terms_hash(terms))
    self._check_releasable(job, terms.deadline)
    digest: bytes32 = job_terms._release(domain, job, instances_hash)
    assert job_terms._signed(terms.payer, digest, payer_sig), "payer-signature"
    self._release(terms.payee, terms.amount, job, instances_hash, msg.sender)


@external
@nonreentrant
def release_many(
    items: DynArray[ToRelease, MAX_BATCH], signatures: Bytes[MAX_SIGNATURES]
) -> DynArray[bool, MAX_BATCH]:
    """
    @notice Release many jobs by their payers' signatures; what would fail alone is skipped and blocks no other.
    @param signatures for each item the payer's signature_len bytes, and nothing else
    @return for each item whether it was released; of those that were not, Skipped says why
    """
    done: DynArray[bool, MAX_BATCH] = []
    at: uint256 = 0
    for item: ToRelease in items:
        done.append(
            self._try(
                item.terms,
                abi_encode(
                    item.terms,
                    item.instances_hash,
                    slice(signatures, at, item.signature_len),
                    msg.sender,
                    method_id=method_id("release_item((address,address,address,address,uint256,bytes32,(address,bytes32,uint256,uint256,uint256,uint256,uint256,uint256),bytes32,uint256,uint256,bytes32),bytes32,bytes,address)"),
                ),
            )
        )
        at += item.signature_len
    assert at == len(signatures), "signatures"
    return done


@external
def release_item(
    terms: job_terms.JobTerms, instances_hash: bytes32, payer_sig: Bytes[job_terms.MAX_SIGNATURE], by: address
):
    """One item of release_many, which alone may call: what fails here is undone without the rest of the batch."""
    assert msg.sender == self, "not-batch"
    domain: bytes32 = job_terms._domain()
    job: bytes32 = job_terms._digest(domain, job_terms._terms_hash(terms))
    self._check_releasable(job, terms.deadline)
    digest: bytes32 = job_terms._release(domain, job, instances_hash)
    assert job_terms._signed(terms.payer, digest, payer_sig), "payer-signature"
    self._release(terms.payee, terms.amount, job, instances_hash, by)


@external
@nonreentrant
def release_by_proof(terms: job_terms.JobTerms, call: Bytes[MAX_CALL]):
    """
    @notice The unilateral close: pay the payee on a proof. Anyone may call; send the rule's gas_cap and 200,000 more.
    @param call the verifier's whole calldata: verifyProof(bytes proof, uint256[] instances), canonically encoded
    """
    job: bytes32 = self._job_id(terms)
    self._check_releasable(job, terms.deadline)
    rule: job_terms.ProofRule = terms.rule
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
    for _: uint256 in range(job_terms.JOB_LIMBS):
        assert extract32(call, limb_at, output_type=uint256) == rest & LIMB_MASK, "job-limbs"
        limb_at = unsafe_add(limb_at, 32)  # the limbs lie inside the call, whose length is exact
        rest >>= LIMB_BITS
    assert keccak256(slice(call, words + 32 * rule.input_offset, 32 * rule.input_len)) == terms.input_commitment, (
        "input-commitment"
    )

    # A call gets at most 63/64 of what is left: with less than this, a good proof would look like a bad one.
    assert msg.gas >= rule.gas_cap + rule.gas_cap // 63 + job_terms.CALL_OVERHEAD, "gas"
    ok: bool = False
    answer: Bytes[33] = b""
    ok, answer = raw_call(
        rule.verifier, call, max_outsize=33, gas=rule.gas_cap, is_static_call=True, revert_on_failure=False
    )
    assert ok and len(answer) == 32 and extract32(answer, 0, output_type=uint256) == 1, "proof"

    instances: Bytes[MAX_CALL] = slice(call, words, 32 * rule.n_instances)
    log InstancesShown(job_id=job, instances=instances)
    self._release(terms.payee, terms.amount, job, keccak256(instances), msg.sender)


@external
@nonreentrant
def decline(terms: job_terms.JobTerms):
    """The provider gives the job back; the payer is refunded at once."""
    assert msg.sender == terms.provider, "not-provider"
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == FUNDED, "state"
    self.state[job] = DECLINED
    log Declined(job_id=job)
    transfers._refund(IERC20(TOKEN), terms.payer, terms.amount)


@external
@nonreentrant
def reclaim(terms: job_terms.JobTerms):
    """From the deadline on the money goes back to the payer, whoever calls."""
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == FUNDED, "state"
    assert block.timestamp >= terms.deadline, "early"
    self.state[job] = RECLAIMED
    log Reclaimed(job_id=job, by=msg.sender)
    transfers._refund(IERC20(TOKEN), terms.payer, terms.amount)


@external
@nonreentrant
def cancel(terms: job_terms.JobTerms):
    """The payer makes terms that it signed unfundable, before anyone funded them. Checks nothing else in them."""
    assert msg.sender == terms.payer, "not-payer"
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == UNSEEN, "state"
    self.state[job] = CANCELLED
    log Cancelled(job_id=job)


# --- opening and closing


@internal
@view
def _job_id(terms: job_terms.JobTerms) -> bytes32:
    return job_terms._digest(job_terms._domain(), job_terms._terms_hash(terms))


@internal
def _open(terms: job_terms.JobTerms, acceptance: Bytes[65], payer_sig: Bytes[job_terms.MAX_SIGNATURE]):
    job: bytes32 = self._acceptable(terms, acceptance)
    if msg.sender != terms.payer:
        assert job_terms._signed(terms.payer, job, payer_sig), "payer-signature"
    self._lock(terms, job)


@internal
@view
def _acceptable(terms: job_terms.JobTerms, acceptance: Bytes[65]) -> bytes32:
    """All that does not depend on how the payer consents; the job's id."""
    domain: bytes32 = job_terms._domain()
    job: bytes32 = job_terms._digest(domain, job_terms._terms_hash(terms))
    assert self.state[job] == UNSEEN, "state"
    assert terms.token == TOKEN, "token"
    assert terms.amount != 0, "amount"
    assert self._party(terms.payer), "payer-address"
    assert self._party(terms.provider), "provider-address"
    assert self._party(terms.payee), "payee-address"
    assert block.timestamp < terms.fund_by, "fund-by"
    assert terms.fund_by < terms.deadline, "deadline-order"
    assert terms.deadline <= block.timestamp + MAX_HORIZON, "horizon"
    job_terms._check_rule(terms.rule)
    assert job_terms._accepted(terms.provider, job_terms._acceptance(domain, job), acceptance), "acceptance"
    return job


@internal
def _lock(terms: job_terms.JobTerms, job: bytes32):
    self.state[job] = FUNDED
    log Funded(job_id=job, payer=terms.payer, provider=terms.provider, terms=terms)


@internal
@view
def _party(account: address) -> bool:
    return account != empty(address) and account != self and account != TOKEN


@internal
@view
def _check_releasable(job: bytes32, deadline: uint256):
    assert self.state[job] == FUNDED, "state"
    assert block.timestamp < deadline, "late"


@internal
def _release(payee: address, amount: uint256, job: bytes32, instances_hash: bytes32, by: address):
    self.state[job] = RELEASED
    log Released(job_id=job, by=by, instances_hash=instances_hash)
    transfers._push(IERC20(TOKEN), payee, amount)


@internal
def _try(terms: job_terms.JobTerms, call: Bytes[MAX_ITEM]) -> bool:
    # A call to this contract undoes all that an item did, also at the token, and nothing of the others. The lock is held
    # by the batch meanwhile, and whoever is not this contract cannot make such a call.
    ok: bool = False
    answer: Bytes[MAX_REASON] = b""
    ok, answer = raw_call(self, call, max_outsize=MAX_REASON, revert_on_failure=False)
    if not ok:
        log Skipped(job_id=self._job_id(terms), reason=answer)
    return ok
