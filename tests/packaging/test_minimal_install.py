"""`pip install opgate` alone verifies, explains and audits: no chain client, no queue, no ezkl, no numpy.

Trap: a test that runs in the developers' environment cannot see an import that only an extra satisfies.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.packaging.installation import ROOT, Installation, install, tracked
from tests.vectors.cases import Base, read_base
from verifier.archive.log import Archive
from verifier.archive.note import SigningKey
from verifier.statement import canonical
from verifier.statement.evidence import LogEntry
from verifier.statement.scalars import Timestamp
from verifier.statement.terms import SignedTerms
from verifier.verify import check_terms, verify

pytestmark = pytest.mark.timeout(300)

VECTORS = ROOT / "tests" / "vectors"
BASE = VECTORS / "base"
HELD = ("--circuits", BASE / "circuits", "--policy", BASE / "policy.json")
KEY = SigningKey.from_seed("payer.example/archive", bytes(range(32)))
ABSENT = ("ezkl", "celery", "redis", "web3", "eth", "numpy", "eth_account", "sqlalchemy", "httpx", "onnx", "fastapi")
CAN_RUN = {"audit", "doctor", "explain", "policy", "verify"}
BY_EXTRA = {
    "circuit": "circuits",
    "demo": "local",
    "dev": "local",
    "escrow": "pay",
    "pay": "pay",
    "provider": "workers",
    "serve": "workers",
    "sweep": "workers",
    "worker": "workers",
}
REFUSED = (
    "0_address_upper_fail",
    "1_*_fail",
    "2_*_fail",
    "3_*_fail",
    "4_*_fail",
    "5_*_fail",
    "6_*_fail",
    "7_proof_bit_07_fail",
)


@pytest.fixture(scope="module")
def base_install(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("base-install"))


@pytest.fixture(scope="module")
def base() -> Base:
    return read_base(BASE)


def log_job(archive: Archive, base: Base, *, with_records: bool = True) -> None:
    """The base's job as a payer archives it before a release leaves."""
    job, circuit, policy = base.job, base.circuit, base.policy
    blobs = {
        "bundle": canonical.encode(job),
        "verdict": canonical.encode(verify(job, circuit, policy)),
        "terms": canonical.encode(SignedTerms(domain=job.domain, terms=job.terms, acceptance=job.acceptance)),
        "terms_verdict": canonical.encode(check_terms(job.terms, job.domain, circuit, policy)),
        "policy": canonical.encode(policy),
        "manifest": canonical.encode(circuit.manifest),
        "code": circuit.code,
    }
    if with_records:
        blobs |= {f"record.{index}": canonical.encode(record) for index, record in enumerate(circuit.records)}
    digests = {role: canonical.sha256(blob) for role, blob in blobs.items()}
    entry = LogEntry(kind="intent", job_id=job.job_id, recorded_at=Timestamp(1_800_000_100), digests=digests)
    archive.append(entry, blobs.values())


def test_nothing_of_an_extra_is_installed(base_install: Installation) -> None:
    found = base_install.python(
        f"import importlib.util as u, json; print(json.dumps([n for n in {ABSENT!r} if u.find_spec(n)]))"
    )
    assert json.loads(found) == []


def test_every_installed_version_is_the_pinned_one_and_what_it_weighs(base_install: Installation) -> None:
    script = (
        "import json; from importlib.metadata import distributions as d;"
        " print(json.dumps({x.name: [x.version, sum(f.locate().stat().st_size for f in x.files or ()"
        " if f.locate().is_file())] for x in d()}))"
    )
    installed = json.loads(base_install.python(script))
    for tool in ("opgate", "pip", "setuptools"):
        installed.pop(tool, None)
    lock = re.sub(r"\[.*?\]", "", (ROOT / "requirements.txt").read_text().lower())
    pins = {line.split()[0] for line in lock.splitlines() if "==" in line}
    ours = {f"{name.lower().replace('_', '-')}=={version}" for name, (version, _) in installed.items()}
    assert ours - pins == set()
    clock = "import time; t = time.perf_counter(); import verifier; print(round(time.perf_counter() - t, 3))"
    size = sum(size for _, size in installed.values()) / 1e6
    # A figure to read: a clock is never asserted.
    print(f"{len(installed)} packages, {size:.0f} MB, import verifier {base_install.python(clock).strip()} s")  # noqa: T201 - shown by pytest -s


def test_the_packages_come_from_the_environment_and_not_from_this_tree(base_install: Installation) -> None:
    script = "import circuits, prover, verifier, workers as w; print(circuits.__file__, verifier.__file__, w.__file__)"
    for place in base_install.python(script).split():
        assert Path(place).is_relative_to(base_install.folder)


@pytest.mark.parametrize("name", ["job", "other_job", "other_circuit"])
def test_real_bundles_are_valid(base_install: Installation, name: str) -> None:
    done = base_install.opgate("verify", BASE / "bundles" / f"{name}.json", *HELD, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["outcome"], verdict["assurance"]) == ("VALID", "rebuilt")
    assert "code" not in verdict


def test_a_real_proof_of_another_input_is_refused(base_install: Installation) -> None:
    done = base_install.opgate("verify", BASE / "bundles" / "other_input.json", *HELD, "--json")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, "V6-commitment")


@pytest.mark.parametrize("pattern", REFUSED)
def test_bad_bundles_get_their_code(base_install: Installation, pattern: str) -> None:
    case = min((VECTORS / "cases").glob(pattern))
    circuits = case / "circuits" if (case / "circuits").is_dir() else BASE / "circuits"
    policy = case / "policy.json" if (case / "policy.json").is_file() else BASE / "policy.json"
    done = base_install.opgate("verify", case / "bundle.json", "--circuits", circuits, "--policy", policy, "--json")
    verdict, expected = json.loads(done.stdout), json.loads((case / "expected.json").read_bytes())
    assert (done.returncode, verdict["outcome"], verdict["code"]) == (1, "INVALID", expected["code"])


def test_a_verdict_is_the_same_here_and_there(base_install: Installation, base: Base) -> None:
    """Trap: another version of a codec in the payer's environment would give other digests to compare."""
    done = base_install.opgate("verify", BASE / "bundles" / "job.json", *HELD, "--json")
    assert json.loads(done.stdout) == canonical.to_builtins(verify(base.job, base.circuit, base.policy))


def test_explain_says_the_claim_and_the_verdict(base_install: Installation, base: Base) -> None:
    done = base_install.opgate("explain", BASE / "bundles" / "job.json", *HELD)
    assert done.returncode == 0, done.stderr
    for words in (str(base.job.job_id), "logits (1x10 float32", "VALID", "not shown", "development"):
        assert words in done.stdout
    unjudged = base_install.opgate("explain", BASE / "bundles" / "job.json")
    assert unjudged.returncode == 0
    assert "Nothing of this was verified" in unjudged.stdout
    assert "VALID" not in unjudged.stdout


def test_explain_of_a_bad_bundle_is_not_a_success(base_install: Installation) -> None:
    done = base_install.opgate("explain", VECTORS / "cases" / "7_proof_bit_07_fail" / "bundle.json", *HELD)
    assert done.returncode == 1
    assert "V7-proof" in done.stdout


def test_audit_re_verifies_a_real_proof(base_install: Installation, base: Base, tmp_path: Path) -> None:
    log_job(Archive.create(tmp_path / "archive", KEY), base)
    words = ("audit", tmp_path / "archive", "--key", str(KEY.verifier_key), "--policy", BASE / "policy.json", "--json")
    done = base_install.opgate(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["clean"], report["entries"], report["verified"]) == (True, 1, 1)

    altered = tmp_path / "archive" / "blobs"
    blob = max((path for path in altered.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    done = base_install.opgate(*words)
    report = json.loads(done.stdout)
    assert (done.returncode, report["clean"]) == (1, False)
    assert "A-blob-damaged" in {finding["code"] for finding in report["damage_found"]}


def test_audit_asks_for_the_record_that_the_policy_rests_on(
    base_install: Installation, base: Base, tmp_path: Path
) -> None:
    """Trap: the verdict in the archive says rebuilt; without the signed RebuildRecord nothing shows it."""
    log_job(Archive.create(tmp_path / "archive", KEY), base, with_records=False)
    done = base_install.opgate("audit", tmp_path / "archive", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["verified"]) == (1, 0)
    named = {finding["code"]: finding["message"] for finding in report["damage_found"]}
    assert "V1-assurance" in named["A-bundle-invalid"]


def test_help_lists_what_can_run_and_only_that(base_install: Installation) -> None:
    done = base_install.opgate("--help")
    assert done.returncode == 0
    assert set(re.findall(r"^│ ([a-z]+) ", done.stdout, re.MULTILINE)) == CAN_RUN
    for name in sorted(CAN_RUN):
        asked = base_install.opgate(name, "--help")
        assert (asked.returncode, asked.stderr) == (0, ""), name
        assert f"opgate {name}" in asked.stdout


@pytest.mark.parametrize(("name", "extra"), BY_EXTRA.items())
def test_a_command_of_an_extra_says_how_to_get_it(base_install: Installation, name: str, extra: str) -> None:
    done = base_install.opgate(name)
    assert done.returncode == 2
    assert f"pip install 'opgate[{extra}]'" in done.stderr
    assert done.stdout == ""


def test_missing_extra_for_machines(base_install: Installation) -> None:
    done = base_install.opgate("pay", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["do"]) == ("U-extra", "pip install 'opgate[pay]'")


def test_the_tables_above_are_all_commands(base_install: Installation) -> None:
    listed = base_install.python(
        "from importlib.metadata import entry_points as e; print(*(p.name for p in e(group='opgate.commands')))"
    )
    assert set(listed.split()) == CAN_RUN | set(BY_EXTRA)


def test_doctor_is_content_with_the_base_install(base_install: Installation) -> None:
    done = base_install.opgate("doctor", "--json")
    assert done.returncode == 0
    findings = json.loads(done.stdout)["findings"]
    offered = {finding["mend"] for finding in findings if finding["name"] == "extra"}
    assert offered == {f"pip install 'opgate[{extra}]'" for extra in ("pay", "circuits", "workers", "pyevm", "local")}


def test_the_wheel_ships_every_tracked_file_of_the_packages_and_nothing_else(base_install: Installation) -> None:
    script = "from importlib.metadata import files; print(*(files('opgate') or ()), sep=chr(10))"
    shipped = {name for name in base_install.python(script).split("\n") if name and not name.endswith(".pyc")}
    own = {name for name in shipped if not name.startswith(("../", "opgate-"))}
    assert own == {str(path) for path in tracked("circuits", "prover", "verifier", "workers")}
    assert own >= {
        "circuits/compile_solidity.cjs",
        "circuits/py.typed",
        "prover/py.typed",
        "verifier/payment/artifacts/escrow.json",
        "verifier/payment/artifacts/opg_test_token.json",
        "verifier/payment/escrow.vy",
        "verifier/py.typed",
        "workers/migrations/env.py",
        "workers/migrations/versions/0001_tables.py",
        "workers/py.typed",
    }
    assert any(name.endswith("licenses/LICENSE") for name in shipped)
