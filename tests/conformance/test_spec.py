"""What the specification says in a form for machines, and the second verifier reads there, is what the code holds."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from types import NoneType

import msgspec

from verifier.policy import Policy
from verifier.srs import CEREMONY, CEREMONY_K1
from verifier.statement import certificates
from verifier.statement.bundle import ProofBundle, ProofBytes
from verifier.statement.canonical import to_builtins
from verifier.statement.certificates import SignedRecord
from verifier.statement.manifest import CircuitManifest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "spec" / "manifest.md").read_text(encoding="utf-8")
BLOCK = PAGE.partition("```text\nVisibility = ")[2].partition("```")[0]
CHOICES = {
    name: set(re.split(r"\s*\|\s*", kinds))
    for name, kinds in re.findall(r"^(\w+) = (.+(?:\n .+)*)", f"Visibility = {BLOCK}", re.MULTILINE)
}
STRUCTS = {
    name: {field: said.rstrip(",") for field, said in re.findall(r"(\w+)(\??: \S+(?: = \S+)?)", lines)}
    for name, lines in re.findall(r"^(\w+)\n((?: {2}\w+\??: .+\n)+)", BLOCK, re.MULTILINE)
}
NAMES: dict[type, str] = {bool: "Bool", certificates.Acceptance: "AcceptanceSet", ProofBytes: "HexBytes"}
"""Where a kind has another name than its class; the limit of a proof stands in its table."""

Structs = dict[str, dict[str, str]]


def test_each_struct_that_a_verdict_reads_stands_on_the_page() -> None:
    """Field by field: its kind, whether it may be absent, what it is then. The second verifier takes it from here."""
    held: Structs = {}
    for kind in (CircuitManifest, SignedRecord, ProofBundle, Policy):
        _name(kind, held)
    assert held == STRUCTS
    assert len(held) >= 25


def test_the_digests_of_the_ceremony() -> None:
    rows = re.findall(r"^\| (\d+) \| `0x(\w{64})` \|$", PAGE, re.MULTILINE)
    assert {int(logrows): sha256 for logrows, sha256 in rows} == CEREMONY
    assert CEREMONY[1] == CEREMONY_K1


def _name(kind: typing.Any, held: Structs) -> str:
    """What the page calls a kind of the code; each struct that it leads to is added to `held`."""
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return f"{_name(inner[0], held)}[]"
    if typing.get_origin(kind) is dict:
        return f"{{{_name(inner[1], held)}}}"
    if inner:
        one_of = {json.dumps(each) if isinstance(each, str) else _name(each, held) for each in inner}
        return str(next(choice for choice, kinds in CHOICES.items() if kinds == one_of))
    name: str = NAMES.get(kind, kind.__name__)
    if issubclass(kind, msgspec.Struct) and name not in held:
        held[name] = _fields(kind, held)
    return name


def _fields(struct: type[msgspec.Struct], held: Structs) -> dict[str, str]:
    tag, hints, found = struct.__struct_config__.tag, typing.get_type_hints(struct), {}
    if tag is not None:
        found["schema"] = f': "{tag}"' + (f' = "{tag}"' if struct is Policy else "")
    for field in msgspec.structs.fields(struct):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        kind = hints[field.name]
        if NoneType in typing.get_args(kind):
            assert default is None
            (kind,) = (each for each in typing.get_args(kind) if each is not NoneType)
            found[field.encode_name] = f"?: {_name(kind, held)}"
        elif default is msgspec.NODEFAULT:
            found[field.encode_name] = f": {_name(kind, held)}"
        else:
            found[field.encode_name] = f": {_name(kind, held)} = {_default(default)}"
    return found


def _default(value: object) -> str:
    """A default as JSON, without the defaults that stand in it."""

    def short(value: object) -> object:
        if isinstance(value, msgspec.Struct):
            assert value == type(value)()
            return {}
        return {key: short(each) for key, each in value.items()} if isinstance(value, dict) else to_builtins(value)

    return json.dumps(short(value), separators=(",", ":"))
