# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title OPG test token: FOR TESTS AND DEVELOPMENT CHAINS ONLY, worth nothing
@license Apache-2.0
@notice
    Behaves like OPG on Base where this project looks: ERC-20 with 18 decimals, EIP-2612 permits under the domain
    {name "OpenGradient", version "1", chainId, this contract} and a fixed supply of 1e9 tokens, here all minted to the
    deployer. Permits are for keys only (no ERC-1271), as OPG's are.
@dev
    Reasons of reverts: zero-address, balance, allowance, permit-expired, permit-signature.
"""

from ethereum.ercs import IERC20

implements: IERC20

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256


event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256


name: public(constant(String[12])) = "OpenGradient"
symbol: public(constant(String[3])) = "OPG"
decimals: public(constant(uint8)) = 18
totalSupply: public(constant(uint256)) = 10**9 * 10**18

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
PERMIT_TYPE: constant(bytes32) = keccak256(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)
NAME_HASH: constant(bytes32) = keccak256("OpenGradient")
VERSION_HASH: constant(bytes32) = keccak256("1")
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])


@deploy
def __init__():
    self.balanceOf[msg.sender] = totalSupply
    log Transfer(sender=empty(address), receiver=msg.sender, value=totalSupply)


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    allowed: uint256 = self.allowance[owner][msg.sender]
    if allowed != max_value(uint256):
        assert allowed >= amount, "allowance"
        self.allowance[owner][msg.sender] = allowed - amount
    self._move(owner, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self._approve(msg.sender, spender, amount)
    return True


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    """EIP-2612: an approval by signature, once for each nonce."""
    assert block.timestamp <= deadline, "permit-expired"
    nonce: uint256 = self.nonces[owner]
    digest: bytes32 = keccak256(
        concat(
            x"1901", self._domain(), keccak256(abi_encode(PERMIT_TYPE, owner, spender, amount, nonce, deadline))
        )
    )
    assert owner != empty(address) and convert(s, uint256) <= HALF_ORDER, "permit-signature"
    assert ecrecover(digest, v, r, s) == owner, "permit-signature"
    self.nonces[owner] = nonce + 1
    self._approve(owner, spender, amount)


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    """The EIP-712 domain separator for the chain this runs on."""
    return self._domain()


@internal
@view
def _domain() -> bytes32:
    return keccak256(abi_encode(DOMAIN_TYPE, NAME_HASH, VERSION_HASH, chain.id, self))


@internal
def _move(owner: address, to: address, amount: uint256):
    assert to != empty(address), "zero-address"
    assert self.balanceOf[owner] >= amount, "balance"
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount
    log Transfer(sender=owner, receiver=to, value=amount)


@internal
def _approve(owner: address, spender: address, amount: uint256):
    assert spender != empty(address), "zero-address"
    self.allowance[owner][spender] = amount
    log Approval(owner=owner, spender=spender, value=amount)
