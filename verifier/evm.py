"""Runs a circuit's pinned verifier code in an in-process EVM, and recovers signers by the EVM's own precompile.

The code is called exactly as the escrow calls it: a static call under the rule's gas cap, and only a 32-byte answer of
1 counts. A tiny caller contract makes that call and reports what came back, so that a refusal by the code and a failure
of the engine can never be confused. pyrevm is the engine; py-evm (`evm_pyevm`) where pyrevm has no wheel.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING, NamedTuple, Protocol

from verifier.errors import UndecidedError, VerifierError
from verifier.statement.scalars import Address, Bytes32, Signature

if TYPE_CHECKING:
    from collections.abc import Mapping

REVISIONS = ("SHANGHAI", "CANCUN", "PRAGUE")
"""EVM revisions that a manifest may pin: the oldest that the code runs on.

py-evm runs exactly that one. pyrevm 0.3.7 runs its latest whatever `spec_id` says (TLOAD answers on SHANGHAI, PUSH0 on
LONDON), and so does a chain of today. A scan of the code cannot tell: data behind it holds newer opcodes by chance.
"""

CODE_AT = Address(b"\x22" * 20)
CALLER_AT = Address(b"\x33" * 20)
ORIGIN = Address(b"\x11" * 20)
ECRECOVER_AT = Address(b"\0" * 19 + b"\x01")
_CALLER_GAS = 10_000_000
"""Gas that the caller contract has beside the cap: memory for its calldata and the 63/64 rule of EIP-150."""
_MAX_CALLDATA = 1 << 18


class Answer(NamedTuple):
    """What a static call gave back; `gas` is what the caller saw disappear, the call's own cost included."""

    accepted: bool
    gas: int


class Engine(Protocol):
    """An EVM that can run a call on a fresh state that holds some code."""

    name: str

    def call(self, codes: Mapping[Address, bytes], to: Address, calldata: bytes, gas: int, revision: str) -> bytes:
        """The return bytes of a call that does not revert; any exception means that the engine failed."""


def run_verifier(code: bytes, calldata: bytes, *, gas_cap: int, revision: str, engine: Engine | None = None) -> Answer:
    """Call the verifier's code with its whole calldata under a gas cap.

    It does not check which code that is: compare the hash before.

    Raises:
        VerifierError: V7-revision where the revision is not one of `REVISIONS`.
        UndecidedError: V7-engine where the engine itself fails.
    """
    if revision not in REVISIONS:
        raise VerifierError("V7-revision", "unknown EVM revision", expected=" or ".join(REVISIONS), found=revision[:40])
    if len(calldata) > _MAX_CALLDATA:
        raise VerifierError("V7-size", "the calldata is too large", expected=f"at most {_MAX_CALLDATA} bytes")
    codes = {CODE_AT: code, CALLER_AT: _caller(CODE_AT, gas_cap)}
    chosen = engine or default_engine()
    try:
        answer = chosen.call(codes, CALLER_AT, calldata, gas_cap + gas_cap // 63 + _CALLER_GAS, revision)
    except BaseException as error:
        _reraise_interrupts(error)
        raise UndecidedError("V7-engine", "the EVM failed, the code was not heard", found=repr(error)[:200]) from error
    if len(answer) != 128:
        raise UndecidedError("V7-engine", "the EVM answered in an unknown shape", found=f"{len(answer)} bytes")
    value, success, size, gas = (int.from_bytes(answer[i : i + 32]) for i in range(0, 128, 32))
    return Answer(accepted=(value, success, size) == (1, 1, 32), gas=gas)


def recover(digest: Bytes32, signature: Signature, *, engine: Engine | None = None) -> Address | None:
    """The account that signed a digest, by precompile 0x01; None where the signature is no point of the curve."""
    r, s, v = signature[:32], signature[32:64], signature[64]
    chosen = engine or default_engine()
    try:
        answer = chosen.call({}, ECRECOVER_AT, digest + v.to_bytes(32) + r + s, 100_000, "CANCUN")
    except BaseException as error:
        _reraise_interrupts(error)
        raise UndecidedError(
            "V3-engine", "the EVM failed, no signature was checked", found=repr(error)[:200]
        ) from error
    return Address(answer[12:32]) if len(answer) == 32 else None


def signed_by(signer: Address, digest: Bytes32, signature: Signature) -> bool:
    """True where that account signed that digest."""
    return recover(digest, signature) == signer


class PyrevmEngine:
    """revm, by pyrevm: about 15 ms a proof."""

    name = "pyrevm"

    def call(self, codes: Mapping[Address, bytes], to: Address, calldata: bytes, gas: int, revision: str) -> bytes:
        """Run one call on a fresh state; RuntimeError where the outermost call reverts."""
        import pyrevm  # noqa: PLC0415 - the other engine must work where this wheel does not exist

        evm = pyrevm.EVM(gas_limit=2**60, spec_id=revision)
        for address, code in codes.items():
            evm.insert_account_info(str(address), pyrevm.AccountInfo(code=bytes(code)))
        return bytes(evm.message_call(str(ORIGIN), str(to), calldata=bytes(calldata), gas=gas))


@functools.cache
def default_engine() -> Engine:
    """Pyrevm, else py-evm; UndecidedError V7-engine where neither is installed."""
    if importlib.util.find_spec("pyrevm") is not None:
        return PyrevmEngine()
    if importlib.util.find_spec("eth") is not None:
        from verifier.evm_pyevm import PyEvmEngine  # noqa: PLC0415 - slow to import, only where it is the engine

        return PyEvmEngine()
    raise UndecidedError("V7-engine", "no EVM is installed", do="pip install pyrevm, or pip install 'opgate[pyevm]'")


def _reraise_interrupts(error: BaseException) -> None:
    """A Rust panic reaches Python as a BaseException and is a failure like others; an interrupt is not."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error


def _caller(target: Address, gas: int) -> bytes:
    """Code that passes its calldata on in a static call and returns (first word, success, answer's size, gas used)."""
    return bytes.fromhex(
        "3660006000375a"  # calldatacopy(0, 0, calldatasize); gas before
        f"6020600036600073{target.hex()}"  # out 32 bytes at 0, in all the calldata, to the target
        f"67{gas:016x}fa"  # staticcall under the cap
        "602052"  # mstore(32, success)
        "3d604052"  # mstore(64, returndatasize)
        "5a9003606052"  # mstore(96, gas before - gas now)
        "60806000f3"  # return the four words
    )
