"""A process that sends one payment through an outbox and dies at its n-th question to the node, before or after it.

Arguments: outbox file, URL, key file, token, receiver, wei, purpose, n (0: never), before|after. Prints the hash.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from verifier.payment.abi import encode_call
from verifier.payment.chain import Chain
from verifier.payment.keys import load_key
from verifier.payment.outbox import Call, Limits, Outbox
from verifier.statement.scalars import Address


def main() -> None:
    file, url, keyfile, token, receiver, amount, purpose, fatal, when = sys.argv[1:]
    asked = 0

    with Chain(url, chain_id=31337) as chain:
        real = chain.rpc.call

        def deadly(method: str, *parameters: object) -> object:
            nonlocal asked
            asked += 1
            if asked == int(fatal) and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = real(method, *parameters)
            if asked == int(fatal):
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        chain.rpc.call = deadly  # type: ignore[method-assign]  # the seam where this process is killed
        outbox = Outbox(Path(file), chain, load_key(Path(keyfile)), limits=Limits(patience_s=10))
        call = encode_call("transfer(address,uint256)", Address.from_json(receiver), int(amount))
        mined = outbox.send(purpose, Call(to=Address.from_json(token), data=call))
        print(mined.transaction_hash, asked)  # noqa: T201 - the answer to the test


if __name__ == "__main__":
    main()
