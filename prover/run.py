"""``python -m prover.run REQUEST RESULT``: one job in one process, as a worker starts it.

REQUEST is canonical JSON ``{circuit_dir, private_dir, domain, terms, inputs, acceptance, keyfile}``; in the folder
RESULT appears either `bundle.json`, verified, or `error.json`, the refusal. No queue, no database, no chain.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import msgspec

from circuits.ezkl_runner import Limits, usable_cores
from circuits.registry import CircuitFolder
from prover.bundle import Job, make_bundle
from prover.prove import ProvingFiles
from prover.witness import Tensors
from verifier.errors import EXIT_DONE, EXIT_UNDECIDED, EXIT_USAGE, CircuitError, OpgateError
from verifier.files import read_regular, write_atomic
from verifier.payment.keys import load_key
from verifier.statement import canonical
from verifier.statement.eip712 import Domain
from verifier.statement.scalars import Signature
from verifier.statement.terms import JobTerms

CHILD_SECONDS = 24 * 3600.0
"""The worker ends this process when its time is over, and with it ezkl's; this bound is only for runs by hand."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job, and where its circuit and the provider's key lie."""

    circuit_dir: str
    private_dir: str
    domain: Domain
    terms: JobTerms
    inputs: Tensors
    acceptance: Signature
    keyfile: str


def run(request_file: Path, result: Path) -> int:
    """Do the job of a request file; the exit code: 0 done, 1 refused, 3 an internal error."""
    try:
        raw = read_regular(request_file, limit=canonical.MAX_BYTES)
        request = canonical.decode(Request, raw, where=request_file.name)
        job = Job(domain=request.domain, terms=request.terms, inputs=request.inputs, acceptance=request.acceptance)
        with tempfile.TemporaryDirectory(prefix="opgate-job-") as work:
            bundle = make_bundle(
                job,
                CircuitFolder(Path(request.circuit_dir)),
                ProvingFiles.of(Path(request.private_dir)),
                load_key(request.keyfile),
                Path(work),
                Limits(wall_seconds=CHILD_SECONDS, threads=usable_cores()),
            )
        write_atomic(result / "bundle.json", canonical.encode(bundle), mode=0o600)
    except OpgateError as error:
        write_atomic(result / "error.json", canonical.encode(error.to_json()), mode=0o600)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a crash must reach the worker as a refusal with a code
        internal = CircuitError("C-internal", f"the prover failed: {type(error).__name__}", found=str(error)[:200])
        write_atomic(result / "error.json", canonical.encode(internal.to_json()), mode=0o600)
        sys.stderr.write(f"{error!r}\n")
        return EXIT_UNDECIDED
    return EXIT_DONE


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.stderr.write(f"{__doc__}\n")
        sys.exit(EXIT_USAGE)
    sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2])))
