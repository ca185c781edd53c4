"""README and docs: commands run, JSON decodes and has the digests printed beside it, lists are whole."""

from __future__ import annotations

import functools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from tests.docs import error_table
from verifier.bundles import read_bundle
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.policy import Amounts, Chains, CircuitRule, Escrow, Opinions, Policy, Providers, Records
from verifier.statement import bundle, canonical, certificates, evidence, manifest, terms, verdict
from verifier.statement.eip712 import Domain, encode_type

ROOT = error_table.ROOT
DOCS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
SPEC = ROOT / "docs" / "spec"
RUNNABLE = re.compile(r"<!-- run: exit (\d) -->\n```console\n(.*?)```", re.DOTALL)
TYPED = re.compile(r"<!-- type: (\w+) -->\n```json\n(.*?)```", re.DOTALL)
TYPES: dict[str, type[msgspec.Struct]] = {
    "CircuitManifest": manifest.CircuitManifest,
    "Policy": Policy,
    "Receipt": bundle.Receipt,
    "SignedRecord": certificates.SignedRecord,
    "SignedTerms": terms.SignedTerms,
}
SIGNED = (
    terms.JobTerms,
    terms.Quote,
    terms.Acceptance,
    terms.Release,
    terms.Delivery,
    certificates.CircuitRecord,
)
FIELDS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "manifest.md": (
        manifest.CircuitManifest,
        manifest.TensorSpec,
        manifest.SrsDigest,
        manifest.SolcSettings,
        manifest.EvmVerifier,
        certificates.FidelityCertificate,
        certificates.ValueRange,
        certificates.Acceptance,
        certificates.CostRecord,
        certificates.Cost,
        certificates.RebuildRecord,
        certificates.CompileRecord,
        certificates.CircuitAttestation,
        certificates.SignedRecord,
    ),
    "terms.md": (
        Domain,
        terms.ProofRule,
        terms.JobTerms,
        terms.QuoteLine,
        terms.Quote,
        terms.SignedQuote,
        terms.Acceptance,
        terms.Release,
        terms.Delivery,
        terms.SignedTerms,
        terms.SignedRelease,
    ),
    "bundle.md": (bundle.ProofBundle, bundle.Receipt, evidence.ChainEvidence, evidence.LogEntry),
    "verification.md": (
        verdict.Verdict,
        verdict.TermsVerdict,
        verdict.CheckedAgainst,
        verdict.Opinion,
        Policy,
        Chains,
        Escrow,
        CircuitRule,
        Records,
        Providers,
        Amounts,
        Opinions,
    ),
}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def found(pattern: re.Pattern[str]) -> list[tuple[str, str, str]]:
    """(page, first group, second group) of every match in the docs."""
    return [
        (str(path.relative_to(ROOT)), match[1], match[2]) for path in DOCS for match in pattern.finditer(read(path))
    ]


@functools.cache
def opgate(*words: str) -> tuple[int, str]:
    """A command as a reader types it in the root of the tree."""
    done = subprocess.run(
        [sys.executable, "-m", "verifier.cli.root", *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return done.returncode, done.stdout + done.stderr


def squeeze(text: str) -> str:
    """Without the line breaks that a narrow terminal makes."""
    return re.sub(r"\s+", " ", text).strip()


@pytest.mark.parametrize(("page", "code", "block"), found(RUNNABLE))
def test_a_command_does_what_the_page_says(page: str, code: str, block: str) -> None:
    """Each line under the command is in its output, in that order."""
    command, *shown = block.strip().splitlines()
    assert command.startswith("$ opgate "), page
    returned, printed = opgate(*shlex.split(command.removeprefix("$ opgate ")))
    assert returned == int(code), printed
    assert shown, "a block shows something of the output"
    rest = squeeze(printed)
    for line in shown:
        before, line_found, rest = rest.partition(squeeze(line))
        assert line_found, f"{line!r} is not behind {before[-200:]!r}"


def test_there_are_commands_to_run_in_readme_and_spec() -> None:
    pages = [page for page, _, _ in found(RUNNABLE)]
    assert "README.md" in pages
    assert len(pages) >= 5


@pytest.mark.parametrize(("page", "kind", "block"), found(TYPED))
def test_an_example_decodes_and_has_the_digest_beside_it(page: str, kind: str, block: str) -> None:
    raw = canonical.encode(json.loads(block))
    value = canonical.decode(TYPES[kind], raw, where=page)
    assert canonical.encode(value) == raw
    after = read(ROOT / page).partition(block)[2][:400]
    assert str(canonical.digest(value)) in after


def test_every_type_with_examples_has_one() -> None:
    assert {kind for _, kind, _ in found(TYPED)} == set(TYPES)


def test_every_json_block_of_the_spec_is_decoded() -> None:
    """Trap: an example without its mark is never looked at again."""
    blocks = sum(read(path).count("```json") for path in SPEC.glob("*.md"))
    assert blocks == len(found(TYPED))


def test_the_digests_of_the_example_job() -> None:
    job = read_bundle(ROOT / "tests" / "vectors" / "base" / "bundles" / "job.json")
    instances_hash = keccak256(claimed_words(job))
    delivery = job.delivery_message(instances_hash)
    of_bundle = (
        canonical.digest(job),
        job.job_id,
        job.terms.input_commitment,
        instances_hash,
        delivery.proof_hash,
        delivery.receipt_hash,
        delivery.digest(job.domain),
    )
    of_terms = (job.domain.separator(), job.terms.rule_hash(), job.job_id)
    for page, digests in (("bundle.md", of_bundle), ("terms.md", of_terms)):
        text = read(SPEC / page)
        assert [str(digest) for digest in digests if str(digest) not in text] == []


def test_the_type_strings() -> None:
    lines = {line.strip() for line in read(SPEC / "terms.md").splitlines()} | set(
        re.findall(r"`(\w+\([^`]+\))`", read(SPEC / "manifest.md"))
    )
    assert [encode_type(kind) for kind in SIGNED if encode_type(kind) not in lines] == []


@pytest.mark.parametrize(("page", "kinds"), FIELDS.items())
def test_every_field_of_every_type_is_named(page: str, kinds: tuple[type[msgspec.Struct], ...]) -> None:
    """A field is named alone or behind its table: `samples`, `records.keys`."""
    named = {part for code in re.findall(r"`([^`\n]+)`", read(SPEC / page)) for part in re.findall(r"\w+", code)}
    missing = [f"{kind.__name__}.{field}" for kind in kinds for field in kind.__struct_fields__ if field not in named]
    assert missing == []


def test_every_tag_of_a_type_is_named() -> None:
    text = "".join(read(path) for path in SPEC.glob("*.md"))
    tags = {kind.__struct_config__.tag for kinds in FIELDS.values() for kind in kinds if kind.__struct_config__.tag}
    assert len(tags) == 12
    assert [tag for tag in tags if f"`{tag}`" not in text] == []


def test_every_code_is_in_the_table_and_every_line_is_a_code() -> None:
    assert error_table.documented() == set(error_table.collect()), "run: python -m tests.docs.error_table"


def test_no_code_is_without_a_sentence() -> None:
    assert [code for code, sentence in error_table.collect().items() if not sentence] == []


def test_the_spec_names_every_code_of_verification() -> None:
    codes = {code for code in error_table.collect() if code.startswith("V")}
    named = set(re.findall(r"`(V[0-8]?-[a-z0-9-]+)`", read(SPEC / "verification.md")))
    assert named == codes


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(path))
    assert [link for link in links if not (path.parent / link).exists()] == []


def commands() -> set[tuple[str, ...]]:
    """The commands in the code of the README: a word, and a second one where the first is a group.

    What stands in single quotes is looked for in a log and is no command.
    """
    code = "\n".join(re.findall(r"```(?:console|bash)\n(.*?)```", read(ROOT / "README.md"), re.DOTALL))
    code += "\n".join(re.findall(r"`([^`\n]+)`", read(ROOT / "README.md")))
    groups = ("circuit", "pay", "policy", "provider", "escrow")
    words = re.findall(r"(?<![\w.'])opgate ([a-z]+)(?: ([a-z]+))?", code)
    return {(first, second) if first in groups and second else (first,) for first, second in words}


def test_every_command_of_the_readme_exists() -> None:
    used = commands()
    assert len(used) >= 12
    listed = opgate("--help")[1]
    for words in used:
        text = listed if len(words) == 1 else opgate(words[0], "--help")[1]
        assert re.search(rf"^\W*{words[-1]} ", text, re.MULTILINE), words


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"(?:\$ |`)make ([a-z]+)\b", read(ROOT / "README.md")))
    assert {"demo", "test"} <= targets
    makefile = read(ROOT / "Makefile")
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_every_base_dependency_is_explained() -> None:
    wanted = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["dependencies"]
    names = {re.split(r"[^\w-]", line)[0] for line in wanted}
    base = read(ROOT / "docs" / "dependencies.md").partition("## Extras")[0]
    explained = set(re.findall(r"^\| ([a-z0-9-]+) \|", base, re.MULTILINE))
    assert explained == names


def test_every_decision_is_listed() -> None:
    pages = {path.name for path in (ROOT / "docs" / "adr").glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\(([^)/]+\.md)\)", read(ROOT / "docs" / "adr" / "README.md")))
    assert listed == pages
