"""The gate killed by SIGKILL at the boundary of any two of its steps, in a process of its own, and started again.

What a key signs is appended to a file at once, as a hardware signer's own log would have it: so a signature that left
before the process died is seen, whatever the ledger knows of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.engine import Connection

from tests.simulators.escrow_view import SimulatedEscrowView
from tests.vectors.cases import read_base
from tests.vectors.keys import PAYER
from verifier.archive.audit import audit
from verifier.archive.log import Archive
from verifier.archive.note import SigningKey
from verifier.payer.inputs import encode_tensors
from verifier.payment import gate as gate_module
from verifier.payment.gate import Gate, Limits
from verifier.payment.ledger import Evidence, Ledger, PayerJob
from verifier.statement import canonical
from verifier.statement.scalars import Bytes32, Signature
from verifier.statement.terms import SignedTerms
from verifier.verify import check_terms

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = read_base(Path(__file__).resolve().parents[2] / "vectors" / "base")
JOB = BASE.job
NOW = int(JOB.terms.deadline) - 60
KEY = SigningKey.from_seed("opgate/payer", b"\x07" * 32)
BUNDLE = canonical.encode(JOB)
STEPS: tuple[tuple[Any, str], ...] = (
    (Ledger, "job"),
    (Archive, "blob"),
    (gate_module, "parse_bundle"),
    (gate_module, "verify"),
    (SimulatedEscrowView, "funding"),
    (Ledger, "keep_caps"),
    (Archive, "append"),
    (Ledger, "reserve_release"),
    (Ledger, "store_release"),
)
CALLS: tuple[tuple[Any, str], ...] = (
    *STEPS,
    *((os, name) for name in ("fsync", "fdatasync", "replace", "rename", "link", "open", "write")),
    (Connection, "execute"),
    (Connection, "commit"),
)


class LoggingSigner:
    """The payer's key in another place; each signature is in the file before it is given."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def sign_digest(self, digest: Bytes32) -> Signature:
        with self._log.open("a") as log:
            log.write(f"{digest}\n")
        return PAYER.sign_digest(digest)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A payer's folder with a funded job and a bundle that is stored and nothing else."""
    folder = tmp_path_factory.mktemp("begun")
    archive, ledger = Archive.create(folder / "archive", KEY), Ledger(folder / "ledger.sqlite")
    circuit = BASE.circuits[JOB.circuit_id]
    store = archive.store
    ledger.add(
        PayerJob(
            job_id=JOB.job_id,
            created_at=NOW,
            provider_url="http://provider.test",
            terms=SignedTerms(
                domain=JOB.domain,
                terms=JOB.terms,
                payer_signature=PAYER.sign_digest(JOB.job_id),
                acceptance=JOB.acceptance,
            ),
            inputs=encode_tensors(JOB.inputs or ()),
            evidence=Evidence(
                policy=store(canonical.encode(BASE.policy)),
                manifest=store(canonical.encode(circuit.manifest)),
                code=store(circuit.code),
                records=tuple(store(canonical.encode(record)) for record in circuit.records),
                terms_verdict=store(canonical.encode(check_terms(JOB.terms, JOB.domain, circuit, BASE.policy))),
            ),
        )
    )
    store(BUNDLE)
    ledger.close()
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    return folder


def _deadly(work: Callable[..., Any], counter: list[int], fatal: int) -> Callable[..., Any]:
    """Each call has two moments, before and after its work; at the fatal one the process dies."""

    def step(*arguments: Any, **named: Any) -> Any:
        for moment in ("before", "after"):
            if moment == "after":
                result = work(*arguments, **named)
            counter[0] += 1
            if counter[0] == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
        return result

    return step


def _release(folder: Path, calls: tuple[tuple[Any, str], ...], fatal: int) -> int:
    """Run the gate in a child; -SIGKILL, 0 where it came to its end, 1 where it raised."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        counter = [0]
        ledger, archive = Ledger(folder / "ledger.sqlite"), Archive.open_or_create(folder / "archive", KEY)
        signer = LoggingSigner(folder / "signed")
        for owner, name in calls:
            setattr(owner, name, _deadly(getattr(owner, name), counter, fatal))
        signer.sign_digest = _deadly(signer.sign_digest, counter, fatal)  # type: ignore[method-assign]  # the seam
        gate = Gate(ledger=ledger, archive=archive, escrow=SimulatedEscrowView(NOW), signer=signer, limits=Limits())
        signed = gate.release(JOB.job_id, canonical.sha256(BUNDLE), now=NOW)
        with (folder / "left").open("a") as left:
            left.write(f"{canonical.encode(signed).decode()}\n")
        with (folder / "moments").open("w") as moments:
            moments.write(str(counter[0]))
    except BaseException:  # noqa: BLE001 - a child of fork must never return into the test run
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _check_evidence(folder: Path) -> None:
    """Whatever was signed has all its evidence in a clean archive, under a signed checkpoint."""
    report = audit(folder / "archive")
    assert report.clean, report
    if _lines(folder / "signed"):
        archive = Archive.open_or_create(folder / "archive", KEY)
        intents = [entry.digests for _, entry in archive.entries() if entry.kind == "intent"]
        assert intents, "a signature without archived evidence"
        for digests in intents:
            assert archive.blob(digests["bundle"]) == BUNDLE
            assert {"verdict", "terms", "policy", "manifest", "code", "terms_verdict"} <= set(digests)
            for digest in digests.values():
                archive.blob(digest)


def _kill_everywhere(begun: Path, folder: Path, calls: tuple[tuple[Any, str], ...], stride: int) -> int:
    clean = folder / "clean"
    shutil.copytree(begun, clean)
    assert _release(clean, calls, 0) == 0
    moments = int((clean / "moments").read_text())
    for fatal in range(1, moments + 1, stride):
        home = folder / str(fatal)
        shutil.copytree(begun, home)
        assert _release(home, calls, fatal) == -signal.SIGKILL, f"moment {fatal}"
        signed_before = bool(_lines(home / "signed"))
        if signed_before:
            _check_evidence(home)
        for _ in range(1 + signed_before):
            assert _release(home, calls, 0) == 0, f"again after moment {fatal}"
        assert len(set(_lines(home / "signed"))) == 1, f"two things signed after moment {fatal}"
        assert len(set(_lines(home / "left"))) == 1, f"two signatures left after moment {fatal}"
        _check_evidence(home)
        shutil.rmtree(home)
    return moments


def test_killed_at_every_boundary_it_archives_before_it_signs_and_signs_one_thing(begun: Path, tmp_path: Path) -> None:
    """The traps: dead between signing and storing; between archiving and reserving; between reserving and signing."""
    assert _kill_everywhere(begun, tmp_path, STEPS, 1) >= 2 * len(STEPS)


@pytest.mark.skipif(not os.environ.get("OPGATE_LONG"), reason="OPGATE_LONG=1 kills it at every call to disk too")
def test_killed_at_every_call_to_disk_and_database(begun: Path, tmp_path: Path) -> None:
    """The trap: half of an archive entry, a reserved row that was never committed."""
    assert _kill_everywhere(begun, tmp_path, CALLS, 1) > 100
