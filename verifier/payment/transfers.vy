# pragma version 0.4.3
# SPDX-License-Identifier: Apache-2.0
"""
@title Moving exactly an amount of the token, and noticing when the token did otherwise
@license Apache-2.0
@notice
    What counts is what moved on the token's own books, not what it answers. This module stores nothing. Its callers hold
    the lock and have written their state before.
@dev
    Reasons of reverts, one for each cause:
    permit              the permit failed and the allowance does not suffice without it
    no-permit2          Permit2 does not stand on this chain
    pull                the token did not move the exact amount from the payer to here
    push                the token did not move the exact amount from here to the payee
    refund              the token did not take the exact amount from here
    The reasons of the token and of Permit2 are passed on as they are.
"""

from ethereum.ercs import IERC20


# Permit2's SignatureTransfer (https://github.com/Uniswap/permit2), at one address on every chain.
struct TokenPermissions:
    token: address
    amount: uint256


struct PermitTransferFrom:
    permitted: TokenPermissions
    nonce: uint256
    deadline: uint256


struct SignatureTransferDetails:
    to: address
    requested: uint256


interface Permit2:
    def permitWitnessTransferFrom(
        permit: PermitTransferFrom,
        details: SignatureTransferDetails,
        owner: address,
        witness: bytes32,
        witness_type: String[1024],
        signature: Bytes[MAX_SIGNATURE],
    ): nonpayable


MAX_SIGNATURE: constant(uint256) = 2048
PERMIT2: constant(address) = 0x000000000022D473030F116dDEE9F6B43aC78BA3
# Typed, so that a wallet shows the terms when it is asked to sign the permit.
WITNESS_TYPE: constant(String[1024]) = "JobTerms witness)JobTerms(address payer,address provider,address payee,address token,uint256 amount,bytes32 circuit_id,ProofRule rule,bytes32 input_commitment,uint256 fund_by,uint256 deadline,bytes32 salt)ProofRule(address verifier,bytes32 code_hash,uint256 n_instances,uint256 proof_len,uint256 input_offset,uint256 input_len,uint256 job_offset,uint256 gas_cap)TokenPermissions(address token,uint256 amount)"


@internal
def _pull(token: IERC20, payer: address, amount: uint256):
    """From the payer, by its allowance."""
    here: uint256 = staticcall token.balanceOf(self)
    there: uint256 = staticcall token.balanceOf(payer)
    assert extcall token.transferFrom(payer, self, amount, default_return_value=True), "pull"
    self._check_pulled(token, payer, amount, here, there)


@internal
def _permit(
    token: IERC20, payer: address, amount: uint256, permit_deadline: uint256, v: uint8, r: bytes32, s: bytes32
):
    """Use the payer's EIP-2612 permit. Anyone may have used it already: a failure matters only without an allowance."""
    permitted: bool = raw_call(
        token.address,
        abi_encode(
            payer,
            self,
            amount,
            permit_deadline,
            v,
            r,
            s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    if not permitted:
        assert staticcall token.allowance(payer, self) >= amount, "permit"


@internal
def _pull_by_permit2(
    token: IERC20,
    payer: address,
    amount: uint256,
    nonce: uint256,
    deadline: uint256,
    witness: bytes32,
    signature: Bytes[MAX_SIGNATURE],
):
    """From the payer, by Permit2, which checks the payer's signature over the witness and over this contract as spender."""
    assert PERMIT2.is_contract, "no-permit2"
    here: uint256 = staticcall token.balanceOf(self)
    there: uint256 = staticcall token.balanceOf(payer)
    extcall Permit2(PERMIT2).permitWitnessTransferFrom(
        PermitTransferFrom(
            permitted=TokenPermissions(token=token.address, amount=amount), nonce=nonce, deadline=deadline
        ),
        SignatureTransferDetails(to=self, requested=amount),
        payer,
        witness,
        WITNESS_TYPE,
        signature,
    )
    self._check_pulled(token, payer, amount, here, there)


@internal
@view
def _check_pulled(token: IERC20, payer: address, amount: uint256, here: uint256, there: uint256):
    assert staticcall token.balanceOf(self) == here + amount, "pull"
    assert staticcall token.balanceOf(payer) + amount == there, "pull"


@internal
def _push(token: IERC20, payee: address, amount: uint256):
    """To the payee, who must never read "released" and be unpaid."""
    here: uint256 = staticcall token.balanceOf(self)
    there: uint256 = staticcall token.balanceOf(payee)
    assert extcall token.transfer(payee, amount, default_return_value=True), "push"
    assert staticcall token.balanceOf(self) + amount == here, "push"
    assert staticcall token.balanceOf(payee) == there + amount, "push"


@internal
def _refund(token: IERC20, payer: address, amount: uint256):
    """To the payer. Only this side is compared: a token that begins to charge a fee must not keep the money here."""
    here: uint256 = staticcall token.balanceOf(self)
    assert extcall token.transfer(payer, amount, default_return_value=True), "refund"
    assert staticcall token.balanceOf(self) + amount == here, "refund"
