"""The short form of the fuzzing, without coverage: each target meets its seeds and some hundred mutations of them.

`make fuzz MINUTES=10` is the long form, guided by coverage (`run`).
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time

import pytest

from tests.fuzz.targets import JOB, TARGETS, Target, ours
from verifier import chain_evidence
from verifier.bundles import parse_bundle
from verifier.errors import OpgateError
from verifier.keccak import keccak256

SECONDS = 30.0 if os.environ.get("OPGATE_LONG") else 0.4
FEWEST = 10
TOKENS = (
    *(b"", b"\0", b"\n", b'"', b"{", b"}", b"[", b"]", b",", b":", b"-1", b"1e9", b"0x", b"null", b"true", b"\xff\xfe"),
    *(
        b"\\ud800",
        b'"schema":',
        b"9" * 40,
        b"[" * 40,
        b'{"a":' * 20,
        b"\xc3\x28",
        b"\xf8\xff",
        b"\xb9\xff\xff",
        b"=" * 9,
    ),
)
"""What breaks parsers: quotes, brackets, numbers too large, bad UTF-8, lengths of RLP that lie."""


def mutated(chosen: random.Random, seed: bytes) -> bytes:
    """The seed with one to four changes: bits, tokens, cuts, doublings, swaps."""
    raw = bytearray(seed)
    for _ in range(chosen.randint(1, 4)):
        start = chosen.randrange(len(raw) + 1)
        end = min(len(raw), start + int(chosen.expovariate(0.1)))
        match chosen.randrange(5):
            case 0 if start < len(raw):
                raw[start] ^= 1 << chosen.randrange(8)
            case 1:
                raw[start:end] = chosen.choice(TOKENS)
            case 2:
                del raw[start:end]
            case 3:
                raw[start:start] = raw[start:end] * chosen.randint(1, 3)
            case _:
                other = chosen.randrange(len(raw) + 1)
                raw[start:end] = raw[other : other + end - start]
    return bytes(raw)


@pytest.mark.parametrize(("target", "seeds"), TARGETS.values(), ids=TARGETS)
def test_any_bytes_are_answered(target: Target, seeds: tuple[bytes, ...]) -> None:
    """A value, or an error of ours: no other exception, no second, and not 256 MB."""
    seed = random.randrange(1 << 32)  # noqa: S311 - other bytes each run; the message says how to have them again
    chosen = random.Random(seed)  # noqa: S311 - the same
    run, before = ours(target), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends, tried, slowest = time.monotonic() + SECONDS, 0, 0.0
    raw = b""
    try:
        for raw in seeds:
            run(raw)
        while tried < FEWEST or time.monotonic() < ends:
            raw = mutated(chosen, chosen.choice(seeds))
            started = time.thread_time()
            run(raw)
            slowest = max(slowest, time.thread_time() - started)
            tried += 1
    except BaseException as error:  # noqa: BLE001 - a Rust panic too is a find
        pytest.fail(f"seed {seed}: {raw[:2000]!r} gave {type(error).__name__}: {error}")
    assert slowest < 1.0, f"seed {seed}: an input took {slowest:.2f} s of this thread"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 256 << 20, f"seed {seed}: {grown >> 20} MiB more"


def nested(depth: int) -> bytes:
    """RLP of so many lists, each in the one before."""
    raw = b""
    for _ in range(depth):
        size = len(raw).to_bytes(4).lstrip(b"\0")
        raw = (bytes([0xC0 + len(raw)]) if len(raw) < 56 else bytes([0xF7 + len(size)]) + size) + raw
    return raw


@pytest.mark.parametrize(("depth", "known"), [(16, True), (17, False), (1_500, False), (20_000, False)])
def test_deep_lists_of_a_transaction_end_no_process(depth: int, known: bool) -> None:
    """Trap: py_ecc, which comes with eth_account, raises the limit of calls; there, rlp then ran off the C stack."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        if known:
            assert chain_evidence._decode(nested(depth), "transaction")
            return
        with pytest.raises(OpgateError, match="V3-evidence-transaction"):
            chain_evidence._decode(nested(depth), "transaction")
        with pytest.raises(OpgateError, match="V3-evidence-receipt"):
            chain_evidence._look_up(keccak256(nested(depth)), b"\x80", (nested(depth),), "receipt")
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("item", [b"[]", b'"0"', b"0", b'["0","1"]', b"{}"])
def test_a_bundle_of_a_million_values_is_not_even_parsed(item: bytes) -> None:
    """4 MiB of small values took a quarter of a minute, and 200 MB, to be refused."""
    field = b'"outputs":['
    at = JOB.index(field) + len(field)
    raw = JOB[:at] + b",".join([item] * ((4 << 20) // (len(item) + 1) - len(JOB))) + b"," + JOB[at:]
    with pytest.raises(OpgateError, match="V0-size"):
        parse_bundle(raw)


def test_the_valid_seeds_are_valid() -> None:
    """A target that refuses its own seed would fuzz nothing but the first check."""
    refused = []
    for name, (target, seeds) in TARGETS.items():
        try:
            target(seeds[0])
        except Exception as error:  # noqa: BLE001 - any is the finding
            refused.append(f"{name}: {error}")
    assert refused == []
