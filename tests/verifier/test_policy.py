"""Policies: what each line refuses, what absence means, and that a file's digest says all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.vectors.cases import read_base
from tests.vectors.keys import OWNER, STRANGER
from verifier.cli.root import run
from verifier.errors import VerifierError
from verifier.payment.keys import Key
from verifier.policy import ANY, Policy
from verifier.srs import CEREMONY, CEREMONY_K1
from verifier.statement import canonical
from verifier.statement.certificates import CircuitAttestation, SignedRecord, record_digest
from verifier.statement.scalars import Bytes32, Count
from verifier.verify import verify

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE = read_base(ROOT / "base")
TOML = f"""
schema = "opgate/policy/1"
[chains]
dev_chains = [31337]
escrows = [{{ chain_id = 31337, escrow = "{BASE.policy.chains.escrows[0].escrow}", token = "{BASE.job.terms.token}" }}]
[circuits."{BASE.circuit.circuit_id}"]
assurance = "rebuilt"
owners = ["{OWNER.address}"]
max_error = "1"
min_agreement = "0.9"
min_samples = 100
srs = ["ceremony", "development"]
visibility = ["public"]
ezkl_versions = ["23.0.5"]
[records]
keys = {json.dumps([str(key) for key in BASE.policy.records.keys])}
owners = {json.dumps([str(key) for key in BASE.policy.records.owners])}
[providers]
allowed = ["{BASE.job.terms.provider}"]
[amounts]
per_job = "{BASE.job.terms.amount}"
"""


def rule(**changes: Any) -> Policy:
    return replace(BASE.policy, circuits={ANY: replace(BASE.policy.circuits[ANY], **changes)})


def signed(record: CircuitAttestation, key: Key) -> SignedRecord:
    return SignedRecord(record=record, signer=key.address, signature=key.sign_digest(record_digest(record)))


def code(policy: Policy, circuit: Any = BASE.circuit) -> str | None:
    found = verify(BASE.job, circuit, policy).code
    return None if found is None else str(found)


def test_a_policy_of_every_line_takes_the_bundle() -> None:
    policy = Policy.from_toml(TOML)
    verdict = verify(BASE.job, BASE.circuit, policy)
    assert verdict.outcome == "VALID"
    assert verdict.checked is not None
    assert verdict.checked.policy_sha256 == policy.digest


@pytest.mark.parametrize(
    ("line", "other", "expected"),
    [
        ('assurance = "rebuilt"', 'assurance = "certain"', "V0-schema"),
        (f'owners = ["{OWNER.address}"]\nmax', f'owners = ["{STRANGER.address}"]\nmax', "V1-owner"),
        (f'owners = ["{OWNER.address}"]\nmax', "owners = []\nmax", "V1-owner"),
        ('max_error = "1"', 'max_error = "0.001"', "V4-fidelity"),
        ("min_samples = 100", "min_samples = 100000", "V4-fidelity"),
        ('min_agreement = "0.9"', 'min_agreement = "1.1"', "V4-fidelity"),
        ('srs = ["ceremony", "development"]', 'srs = ["ceremony"]', "V1-srs"),
        ('srs = ["ceremony", "development"]', "srs = []", "V1-srs"),
        ('srs = ["ceremony", "development"]', 'srs = ["any"]', "V0-schema"),
        ("dev_chains = [31337]", "dev_chains = [1]", "V1-srs"),
        ('visibility = ["public"]', 'visibility = ["hashed"]', "V1-visibility"),
        ('ezkl_versions = ["23.0.5"]', 'ezkl_versions = ["23.0.4"]', "V1-ezkl-version"),
        (f'allowed = ["{BASE.job.terms.provider}"]', f'allowed = ["{STRANGER.address}"]', "V2-provider"),
        (f'per_job = "{BASE.job.terms.amount}"', f'per_job = "{BASE.job.terms.amount - 1}"', "V2-amount"),
        (f'token = "{BASE.job.terms.token}"', f'token = "{STRANGER.address}"', "V2-token"),
        ("chain_id = 31337", "chain_id = 1", "V2-escrow"),
        (str(BASE.circuit.circuit_id), str(Bytes32(b"\x07" * 32)), "V1-circuit-policy"),
        (str(BASE.circuit.circuit_id), "digits", "V0-schema"),
    ],
)
def test_each_line_of_a_policy_is_needed(line: str, other: str, expected: str) -> None:
    assert line in TOML
    text = TOML.replace(line, other)
    if expected.startswith("V0-"):
        with pytest.raises(VerifierError, match=expected):
            Policy.from_toml(text)
        return
    assert Policy.from_toml(text).digest != Policy.from_toml(TOML).digest
    assert code(Policy.from_toml(text)) == expected


def test_a_rule_for_owners_counts_attestations_and_nothing_else() -> None:
    """The trap: a rebuild shows that code is some model; whose it is only an owner can say."""
    circuit = BASE.circuit
    attestation = next(r.record for r in circuit.records if isinstance(r.record, CircuitAttestation))
    rest = tuple(r for r in circuit.records if r.record is not attestation)
    other_code = replace(attestation, code_hash=Bytes32(b"\1" * 32))
    other_circuit = replace(attestation, circuit_id=BASE.other_circuit.circuit_id)
    owners = (OWNER.address, STRANGER.address)
    for records, expected in (
        (circuit.records, None),
        ((*rest, signed(attestation, STRANGER)), None),
        (rest, "V1-owner"),
        ((*rest, signed(other_code, OWNER)), "V1-owner"),
        ((*rest, signed(other_circuit, OWNER)), "V1-owner"),
        ((*rest, replace(signed(attestation, STRANGER), signer=OWNER.address)), "V1-owner"),
    ):
        assert code(rule(owners=owners), replace(circuit, records=records)) == expected


def test_the_kind_of_an_srs_is_asked_beside_the_chain() -> None:
    """Policies before 0.2 name no kinds: for them a development SRS is still good on `dev_chains` only."""
    assert code(rule(srs=None)) is None
    assert code(rule(srs=("development",))) is None
    assert code(rule(srs=("ceremony",))) == "V1-srs"
    abroad = replace(rule(srs=("development",)), chains=replace(BASE.policy.chains, dev_chains=()))
    assert code(abroad) == "V1-srs"
    digest = replace(
        BASE.circuit.manifest.srs,
        logrows=Count(12),
        sha256=Bytes32(bytes.fromhex(CEREMONY[12])),
        sha256_k1=Bytes32(bytes.fromhex(CEREMONY_K1)),
    )
    circuit = replace(BASE.circuit, manifest=replace(BASE.circuit.manifest, srs=digest))
    assert code(rule(srs=("ceremony",)), circuit) == "V1-circuit-id"


def test_absent_lines_do_not_change_the_digest_of_an_older_policy() -> None:
    """Verdicts and archives name policies by digest: a new line must not give old ones another name."""
    raw = (ROOT / "base" / "policy.json").read_bytes()
    assert b"owners" in raw
    assert b'"srs"' not in raw
    assert canonical.encode(canonical.decode(Policy, raw, where="policy")) == raw


@pytest.mark.parametrize(
    "text",
    ["[", "a = 1", "\0", "schema = 1", "x = " + "[" * 2000, 'schema = "opgate/policy/1"', "a=1\na=1", "t = 2020-01-01"],
)
def test_what_is_no_policy(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Usage, exit 2: the policy is the reader's own, and nothing was said of any bundle."""
    file = tmp_path / "policy.toml"
    file.write_text(text)
    assert run(["policy", "check", str(file)]) == 2
    assert "V0-" in capsys.readouterr().err


def test_check_says_all_of_it_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(TOML.replace('"rebuilt"', '"attested"') + '\n[opinions]\nrequired = ["ezkl"]\n')
    assert run(["policy", "check", str(file)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"policy {Policy.load(file).digest}" in told
    for words in (
        "development SRS allowed",
        f"circuit {BASE.circuit.circuit_id}: assurance attested or better, attested by {OWNER.address}",
        "the owner could produce any output",
        "error at most 1, agreement at least 0.9 on at least 100 samples",
        "inputs public, ezkl 23.0.5, SRS ceremony/development",
        f"provider {BASE.job.terms.provider}",
        f"per job {BASE.job.terms.amount} wei",
        "opinions of ezkl must agree",
    ):
        assert words in told
    assert run(["policy", "check", str(file), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["digest"] == str(Policy.load(file).digest)
    assert canonical.from_builtins(Policy, value["policy"], where="test") == Policy.load(file)


def test_what_is_no_toml_says_where_and_why() -> None:
    with pytest.raises(VerifierError) as caught:
        Policy.from_toml("=")
    assert caught.value.code == "V0-policy"
    assert str(caught.value).startswith("V0-policy: the policy is no TOML (where policy; found Invalid statement")
    with pytest.raises(VerifierError, match=r"\(where mine\.toml; found "):
        Policy.from_toml("circuits = 3", where="mine.toml")
    with pytest.raises(VerifierError, match=r"\(where policy; found "):
        Policy.from_toml("circuits = 3")


def test_a_policy_file_in_toml_is_named_where_it_is_none(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("=")
    with pytest.raises(VerifierError, match=rf"^V0-policy: .* \(where {re.escape(str(path))}; found "):
        Policy.load(path)


def test_a_policy_in_json_may_leave_out_what_has_a_default(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    held = {"chains": BASE.policy.chains, "circuits": BASE.policy.circuits}
    path.write_bytes(canonical.encode(held))
    assert Policy.load(path) == Policy(**held)
    path.write_bytes(b'{"circuits":3}')
    with pytest.raises(VerifierError, match=rf"\(where {re.escape(str(path))}; found "):
        Policy.load(path)
