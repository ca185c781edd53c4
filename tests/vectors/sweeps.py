"""Every field of every type once missing, doubled, null, of another type, in another encoding, too large; and one more.

A line of `sweeps/<type>.jsonl` is one vector: a file of the base with one piece cut out and another put in its place.
Whole folders for these would be the same few files a thousand times.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from tests.vectors.evidence import Block, closed_by
from tests.vectors.keys import AUDITOR, OWNER
from verifier.policy import Depth
from verifier.statement import canonical
from verifier.statement.certificates import Acceptance, CompileRecord, FidelityCertificate, record_digest
from verifier.statement.scalars import FIELD_MODULUS, Address, Bytes32, Count, Measure, Text, Timestamp, Uint256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vectors.base import Base

TIMES = ("fund_by", "deadline", "rebuilt_at", "attested_at", "compiled_at")
MEASURES = ("prove_seconds", "max_error", "mean_error", "agreement", "min_agreement", "max_acceptance_error")
SIGNED_INTEGERS = ("inputs", "outputs", "least", "greatest")
WORDS = ("schema", "origin", "visibility", "dtype", "assurance", "srs")
"""Fields that hold one of a few words: every other one is refused by its type."""
CIRCUIT_NAMES = ("", "**", "__proto__", "constructor", "0x", "0x" + "0" * 62, "0x" + "0" * 66, "0x" + "A" * 64)
"""What names no circuit of a policy, neither by its id nor by ``*``."""
OPTIONAL = frozenset(
    f"policy.{field}"
    for field in (
        *("schema", "chains.dev_chains", "circuits", "circuits.*", "records", "providers", "amounts", "opinions"),
        *("assurance", "max_error", "min_agreement", "min_samples", "visibility", "ezkl_versions", "owners", "srs"),
        *(
            "max_acceptance_error",
            "min_acceptance_samples",
            "keys",
            "allowed",
            "per_job",
            "per_provider",
            "per_day",
            "depths",
            "required",
            "code_hash",
        ),
    )
) | {"record_fidelity.acceptance"}
"""What may be left out, by the sweep and the field's name or path."""


class Sweep(NamedTuple):
    """One type, in one file of the base: its name, the file, the verdict's outcome where that file is at fault."""

    title: str
    file: str
    outcome: str


class _Change(NamedTuple):
    name: str
    put: str
    code: str


def prepare(base: Base, folder: Path) -> None:
    """Write the files of the base that only sweeps need: an evidence, a policy with every field, all five records."""
    small = base.small
    (folder / "bundles" / "chain.json").write_bytes(canonical.encode(closed_by(small, Block())))
    rule = replace(
        base.policy.circuits["*"],
        min_samples=Count(1),
        max_acceptance_error=Measure("1"),
        min_acceptance_samples=Count(1),
        owners=(OWNER.address,),
        srs=("development", "ceremony"),
    )
    amounts = replace(
        base.policy.amounts,
        per_job=Uint256(10**19),
        per_provider=Uint256(10**20),
        per_day=Uint256(10**20),
        depths=(Depth(amount=Uint256(1), blocks=Count(3)),),
    )
    escrow = replace(base.policy.chains.escrows[0], code_hash=Bytes32(b"\x01" * 32))
    policy = replace(
        base.policy,
        amounts=amounts,
        circuits={"*": rule},
        chains=replace(base.policy.chains, escrows=(escrow,)),
        providers=replace(base.policy.providers, allowed=(small.terms.provider,)),
        records=replace(base.policy.records, keys=(AUDITOR.address, Address(b"\x01" * 20))),
    )
    (folder / "policy_with_every_field.json").write_bytes(canonical.encode(policy))
    records = folder / "circuits" / str(small.circuit_id) / "records"
    circuit = base.circuit_of(small)
    certificate = next(r.record for r in circuit.records if isinstance(r.record, FidelityCertificate))
    accepted = Acceptance(
        samples_sha256=certificate.samples_sha256,
        samples=Count(8),
        max_error=Measure("0.25"),
        agreement=Measure("0.75"),
    )
    compiled = CompileRecord(
        circuit_id=circuit.circuit_id,
        vk_sha256=circuit.manifest.vk_sha256,
        code_hash=circuit.manifest.evm.code_hash,
        compiled_at=Timestamp(1_700_000_000),
    )
    for name, record, key in (
        ("fidelity-accepted", replace(certificate, acceptance=accepted, rewrites=(Text("a"), Text("b"))), OWNER),
        ("compile", compiled, AUDITOR),
    ):
        signed = {
            "record": canonical.to_builtins(record),
            "signer": str(key.address),
            "signature": str(key.sign_digest(record_digest(record))),
        }
        (records / f"{name}.json").write_bytes(canonical.encode(signed))


def write_sweeps(base: Base, base_folder: Path, out: Path) -> int:
    """Write `<type>.jsonl` for every type; gives the number of vectors."""
    out.mkdir(parents=True)
    small = f"circuits/{base.small.circuit_id}"
    sweeps = [
        Sweep("bundle", "bundles/two_outputs.json", "INVALID"),
        Sweep("hashed", "bundles/hashed.json", "INVALID"),
        Sweep("chain", "bundles/chain.json", "INVALID"),
        Sweep("policy", "policy_with_every_field.json", "USAGE"),
        Sweep("manifest", f"{small}/manifest.json", "UNDECIDED"),
    ]
    for path in sorted((base_folder / small / "records").glob("*.json")):
        title = path.stem.partition("-")[0]
        if title != "fidelity" or path.stem == "fidelity-accepted":  # the other one lacks a field
            sweeps.append(Sweep(f"record_{title}", f"{small}/records/{path.name}", "UNDECIDED"))
    count = 0
    seen: set[str] = set()
    for sweep in sweeps:
        raw = (base_folder / sweep.file).read_text(encoding="utf-8")
        bundle = sweep.file if sweep.file.startswith("bundles/") else "bundles/two_outputs.json"
        lines = [
            json.dumps({"name": f"{sweep.title}.{name}", "bundle": bundle, "file": sweep.file, **change})
            for name, change in _changes(raw, sweep)
            # what the first sweep of bundles has shown already is not shown again
            if not (sweep.title in ("hashed", "chain") and f"bundle.{name}" in seen)
        ]
        seen |= {json.loads(line)["name"] for line in lines}
        (out / f"{sweep.title}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        count += len(lines)
    return count


def _changes(raw: str, sweep: Sweep) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, key, value, start, end in _fields(raw):
        if path.startswith("record.predicted."):  # of the type that `measured` shows
            continue
        field = path.rpartition(".")[2]
        whole = raw[start:end]
        optional = bool({f"{sweep.title}.{field}", f"{sweep.title}.{path}"} & OPTIONAL)
        for change in (*_of_any(whole, required=not optional), *_of_value(field, value)):
            put = change.put if change.name in {"missing", "twice"} else f"{json.dumps(key)}:{change.put}"
            at, cut = start, end - start
            if change.name == "missing":  # with one of its commas
                cut += raw[end] == ","
                if raw[end] != "," and raw[start - 1] == ",":
                    at, cut = start - 1, cut + 1
            yield f"{path}.{change.name}", _line(at, cut, put, sweep.outcome, change.code)
        if path == "circuits.*":
            for name in CIRCUIT_NAMES:
                put = json.dumps(name) + whole.removeprefix('"*"')
                yield f"{path}.named_{name}", _line(start, end - start, put, sweep.outcome, "V0-schema")
    for path, _, end in _objects(raw):
        yield f"{path}.extra".lstrip("."), _line(end - 1, 0, ',"zzz":1', sweep.outcome, "V0-schema")


def _line(at: int, cut: int, put: str, outcome: str, code: str) -> dict[str, Any]:
    return {"at": at, "cut": cut, "put": put, "outcome": outcome, "code": code}


def _of_any(whole: str, *, required: bool) -> Iterator[_Change]:
    if required:
        yield _Change("missing", "", "V0-schema")
    yield _Change("twice", f"{whole},{whole}", "V0-json")
    yield _Change("null", "null", "V0-schema")


def _of_value(field: str, value: object) -> Iterator[_Change]:
    """What is another type, another encoding or out of range depends on the kind of value."""
    if isinstance(value, bool):
        yield _Change("text", f'"{str(value).lower()}"', "V0-schema")
        yield _Change("number", str(int(value)), "V0-schema")
    elif isinstance(value, int):
        too_large = (str(2**40 + 1), "V0-schema") if field in TIMES else (str(2**53), "V0-json")
        yield _Change("text", f'"{value}"', "V0-schema")
        yield _Change("boolean", "true", "V0-schema")
        yield _Change("fraction", f"{value}.0", "V0-json")
        yield _Change("exponent", f"{value}e0", "V0-json")
        yield _Change("negative", "-1", "V0-schema")
        yield _Change("too_large", *too_large)
    elif isinstance(value, dict):
        yield _Change("array", "[]", "V0-schema")
        yield _Change("text", '"{}"', "V0-schema")
    elif isinstance(value, list):
        yield _Change("object", "{}", "V0-schema")
        yield _Change("text", '"[]"', "V0-schema")
        yield _Change("space", json.dumps(value, separators=(", ", ":")).replace("[", "[ ", 1), "V0-canonical")
        yield _Change("of_null", "[null]", "V0-schema")
    else:
        yield from _of_text(field, str(value))


def _of_text(field: str, value: str) -> Iterator[_Change]:
    escaped = f'"\\u{ord(value[0]):04x}{value[1:]}"' if value else '"\\u0020"'
    yield _Change("number", "5", "V0-schema")
    yield _Change("array", f'["{value}"]', "V0-schema")
    yield _Change("escaped", escaped, "V0-canonical")
    if value.startswith("0x"):
        yield _Change("upper_case", f'"0x{_with_a_letter(value)}"', "V0-schema")
        yield _Change("without_0x", f'"{value[2:]}"', "V0-schema")
        yield _Change("odd", f'"{value[:-1]}"', "V0-schema")
        if len(value) in (42, 66, 132):
            yield _Change("too_long", f'"{value}00"', "V0-schema")
            yield _Change("too_short", f'"{value[:-2]}"', "V0-schema")
    elif field in WORDS:
        yield _Change("unknown_word", '"elsewhere"', "V0-schema")
    elif field in MEASURES:
        yield _Change("trailing_zero", f'"{value}{"0" if "." in value else ".0"}"', "V0-schema")
        yield _Change("exponent", '"1e3"', "V0-schema")
        yield _Change("negative", '"-1"', "V0-schema")
        yield _Change("too_large", '"1000000000000000000"', "V0-schema")
        yield _Change("too_fine", '"0.0000000000000000001"', "V0-schema")
    elif re.fullmatch(r"-?\d+", value) and field != "version":
        signed = field in SIGNED_INTEGERS
        limit = FIELD_MODULUS // 2 if signed else FIELD_MODULUS - 1 if field == "input_hash" else 2**256 - 1
        yield _Change("leading_zero", f'"0{value}"', "V0-schema")
        yield _Change("plus", f'"+{value}"', "V0-schema")
        yield _Change("too_large", f'"{limit + 1}"', "V0-schema")
        yield _Change("too_small", f'"{-limit - 1 if signed else -1}"', "V0-schema")
    else:
        yield _Change("too_long", f'"{"a" * 257}"', "V0-schema")
        yield _Change("line_break", f'"{value[:100]}\\n"', "V0-schema")


def _with_a_letter(value: str) -> str:
    """The digits of a hex string in upper case, where they have a letter; else with one."""
    digits = value[2:].upper()
    return digits if digits != value[2:] else f"A{digits[1:]}"


def _fields(raw: str) -> Iterator[tuple[str, str, object, int, int]]:
    """(path, name, value, start and end in the text) of each field of each object, the first of each array's items."""
    decoder = json.JSONDecoder()
    seen: set[str] = set()
    for path, first, _ in _objects(raw):
        position = first
        while raw[position] != "}":
            position += raw[position] == ","
            name, colon = decoder.raw_decode(raw, position)
            value, end = decoder.raw_decode(raw, colon + 1)
            own = f"{path}.{name}" if path else name
            if own not in seen:
                seen.add(own)
                yield own, name, value, position, end
            position = end


def _objects(raw: str) -> Iterator[tuple[str, int, int]]:
    """(path, where its first field or closing bracket stands, its end) of each object; of an array's the first."""
    decoder = json.JSONDecoder()

    def below(position: int, path: str) -> Iterator[tuple[str, int, int]]:
        if raw[position] == "{":
            yield path, position + 1, decoder.raw_decode(raw, position)[1]
            position += 1
            while raw[position] != "}":
                position += raw[position] == ","
                name, colon = decoder.raw_decode(raw, position)
                yield from below(colon + 1, f"{path}.{name}" if path else name)
                _, position = decoder.raw_decode(raw, colon + 1)
        elif raw[position] == "[" and raw[position + 1] != "]":
            yield from below(position + 1, f"{path}[0]")

    yield from below(0, "")
