"""The second EVM engine: py-evm, in pure Python, for machines without a pyrevm wheel and as a check on the first."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from eth.chains.base import MiningChain
from eth.constants import ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.vm.forks.cancun import CancunVM
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.shanghai import ShanghaiVM
from eth_typing import Address as CanonicalAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eth.typing import AccountDetails

    from verifier.statement.scalars import Address

_FORKS = {"SHANGHAI": ShanghaiVM, "CANCUN": CancunVM, "PRAGUE": PragueVM}


class PyEvmEngine:
    """py-evm: about a second a proof, no compiled code."""

    name = "py-evm"

    def call(self, codes: Mapping[Address, bytes], to: Address, calldata: bytes, gas: int, revision: str) -> bytes:
        """Run one call on a fresh state; RuntimeError where the outermost call fails."""
        state: dict[CanonicalAddress, AccountDetails] = {
            CanonicalAddress(address): {"balance": 0, "nonce": 0, "code": bytes(code), "storage": {}}
            for address, code in codes.items()
        }
        kind = MiningChain.configure("OneCall", vm_configuration=((0, _FORKS[revision]),), chain_id=1)
        chain = kind.from_genesis(AtomicDB(), {"difficulty": 0, "gas_limit": 2**40, "timestamp": 1}, state)
        with warnings.catch_warnings():
            # py-evm warns of opcodes that it finds old: what a stranger's code holds must not fail where warnings do
            warnings.simplefilter("ignore")
            computation = chain.get_vm().execute_bytecode(
                origin=ZERO_ADDRESS,
                gas_price=0,
                gas=gas,
                to=CanonicalAddress(to),
                sender=ZERO_ADDRESS,
                value=0,
                data=bytes(calldata),
                code=bytes(codes.get(to, b"")),
            )
        if computation.is_error:
            raise RuntimeError(repr(computation.error))
        return bytes(computation.output)
