# pragma version 0.4.3
# pragma evm-version cancun
"""Zoo: a token that is honest until `mode` names one of its tricks. For tests only."""

TRUE_WORD: constant(Bytes[32]) = x"0000000000000000000000000000000000000000000000000000000000000001"
FALSE_WORD: constant(Bytes[32]) = x"0000000000000000000000000000000000000000000000000000000000000000"

mode: public(String[16])
target: public(address)          # whom "blacklist" names, whom "reenter" calls
payload: Bytes[45000]            # what "reenter" sends
reentered: public(bool)          # whether that call came back without a revert
tried: public(uint256)

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__():
    self.balanceOf[msg.sender] = 10**27


@external
def misbehave(mode: String[16], target: address, payload: Bytes[45000]):
    self.mode = mode
    self.target = target
    self.payload = payload


@external
def burn(owner: address, amount: uint256):
    self.balanceOf[owner] -= amount


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    assert self.mode != "no-permit", "no permit"
    if self.mode == "reenter":
        self._reenter()
    self.allowance[owner][spender] = amount


@external
@raw_return
def transfer(to: address, amount: uint256) -> Bytes[32]:
    return self._move(msg.sender, to, amount)


@external
@raw_return
def transferFrom(owner: address, to: address, amount: uint256) -> Bytes[32]:
    self.allowance[owner][msg.sender] -= amount
    return self._move(owner, to, amount)


@internal
def _reenter():
    self.tried += 1
    self.reentered = raw_call(self.target, self.payload, revert_on_failure=False)


@internal
def _move(owner: address, to: address, amount: uint256) -> Bytes[32]:
    mode: String[16] = self.mode
    assert mode != "paused", "paused"
    assert mode != "blacklist" or (to != self.target and owner != self.target), "blacklisted"
    if mode == "reenter":
        self._reenter()
    if mode == "no-move":
        return TRUE_WORD
    if mode == "no-move-silent":
        return b""
    if mode == "says-false":
        return FALSE_WORD
    if mode == "fee-on-top":
        self.balanceOf[owner] -= 1
    received: uint256 = amount
    if mode == "fee":
        received -= 1
    if mode == "gift":
        received += 1
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += received
    if mode == "false-but-moves":
        return FALSE_WORD
    if mode == "silent":
        return b""
    return TRUE_WORD
