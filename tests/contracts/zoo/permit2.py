"""Permit2 as it stands on every chain, for the tests.

`permit2.hex` is the runtime bytecode of Uniswap's Permit2 (MIT, Copyright 2022 Uniswap Labs: `permit2.LICENSE`), taken
from ``test/utils/DeployPermit2.sol`` of https://github.com/Uniswap/permit2 at
cc56ad0f3439c502c246fc5cfcc3db92bb8b7219.
There its two immutables are of a test address on chain 31337, so that its domain is wrong on exactly that chain; here
they are what the constructor leaves at the canonical address, as on Base.
"""

from __future__ import annotations

from pathlib import Path

import eth_abi
from Crypto.Hash import keccak

ADDRESS = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
_CODE = bytes.fromhex((Path(__file__).parent / "permit2.hex").read_text().strip())
_CHAIN_ID = b"\x46\x7f" + (31337).to_bytes(32, "big") + b"\x03"
"""CHAINID PUSH32 SUB: the comparison with the cached chain id."""
_SEPARATOR = bytes.fromhex("d5a17abc3865df5c1400c0299bd4ce2eefc8114aec5f9d3dded1745783e57b98")


def _keccak(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()


def domain_separator(chain_id: int) -> bytes:
    """Permit2's EIP-712 domain, which has no version."""
    kind = _keccak(b"EIP712Domain(string name,uint256 chainId,address verifyingContract)")
    return _keccak(
        eth_abi.encode(["bytes32", "bytes32", "uint256", "address"], [kind, _keccak(b"Permit2"), chain_id, ADDRESS])
    )


def runtime(chain_id: int) -> bytes:
    """The code at the canonical address of a chain."""
    assert _CODE.count(_CHAIN_ID) == _CODE.count(_SEPARATOR) == 1
    cached = b"\x46\x7f" + chain_id.to_bytes(32, "big") + b"\x03"
    return _CODE.replace(_CHAIN_ID, cached).replace(_SEPARATOR, domain_separator(chain_id))
