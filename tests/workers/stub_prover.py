"""A prover for tests: `stub_prover.py [--seconds N] [--fail] [--die] [--wrong] REQUEST RESULT` makes a toy bundle."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.workers.shop import toy_bundle
from verifier.payment.keys import load_key
from verifier.statement import canonical
from verifier.statement.eip712 import Domain
from verifier.statement.scalars import Signature
from verifier.statement.terms import JobTerms

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=0)
parser.add_argument("--started", type=Path)
for flag in ("--fail", "--die", "--wrong"):
    parser.add_argument(flag, action="store_true")
parser.add_argument("request", type=Path)
parser.add_argument("result", type=Path)
asked = parser.parse_args()
request = canonical.parse(asked.request.read_bytes(), where="request")
if asked.started:
    with asked.started.open("a") as stream:
        stream.write(f"{os.getpid()}\n")
time.sleep(asked.seconds)
if asked.die:
    os.kill(os.getpid(), signal.SIGSEGV)
if asked.fail:
    (asked.result / "error.json").write_bytes(canonical.encode({"code": "C-lookup", "message": "out of its table"}))
    sys.exit(1)
terms = canonical.from_builtins(JobTerms, request["terms"], where="terms")
domain = canonical.from_builtins(Domain, request["domain"], where="domain")
acceptance = Signature.from_json(request["acceptance"])
bundle = toy_bundle(terms, domain, acceptance, load_key(Path(request["keyfile"])))
raw = canonical.encode(bundle)
if asked.wrong:
    raw = raw.replace(b'"outputs":[["7"', b'"outputs":[["8"')
(asked.result / "bundle.json").write_bytes(raw)
