# pragma version 0.4.3
# pragma evm-version cancun
"""Zoo: an ERC-1271 wallet contract that says yes to the digests it was told to approve, or plays a trick. For tests only."""

mode: public(String[16])
approved: public(HashMap[bytes32, bytes32])
called: public(uint256)


@external
def approve_digest(digest: bytes32, signature: Bytes[2048]):
    self.approved[digest] = keccak256(signature)


@external
def misbehave(mode: String[16]):
    self.mode = mode


@external
def call(target: address, payload: Bytes[8192]):
    raw_call(target, payload)


@external
@raw_return
def isValidSignature(digest: bytes32, signature: Bytes[2048]) -> Bytes[64]:
    magic: Bytes[32] = x"1626ba7e00000000000000000000000000000000000000000000000000000000"
    mode: String[16] = self.mode
    if mode == "true-word":
        return x"0000000000000000000000000000000000000000000000000000000000000001"
    if mode == "four-bytes":
        return x"1626ba7e"
    if mode == "dirty":
        return x"1626ba7e00000000000000000000000000000000000000000000000000000001"
    if mode == "reverts":
        raise "no"
    if mode == "burns-gas":
        for i: uint256 in range(100_000_000):
            self.called = self.called
    if mode == "writes":
        self.called += 1
    if self.approved[digest] == keccak256(signature) and self.approved[digest] != empty(bytes32):
        return magic
    return x"ffffffff00000000000000000000000000000000000000000000000000000000"
