"""The tree as git tracks it: sizes of files, nobody's machine in it, pins without hosts, one version, stable codes."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.installation import ROOT, tracked
from verifier import errors
from verifier.version import __version__

LONGEST = 500
PACKAGES = ("circuits", "prover", "verifier", "workers")
CODE = re.compile(r"(V[0-8]|G[1-9]?|[ACEUW])(-[a-z0-9]+)+|V-internal")
"""V-internal is the one V without a step: the verifier itself failed."""
LIKE_A_CODE = re.compile(r"[A-Z][0-9]*-[a-z][^ ,;:/=<>()]*")
LETTERS = {
    "circuits": "CU",
    "prover": "C",
    "verifier": "UV",
    "verifier/archive": "AV",
    "verifier/cli": "EGUV",
    "verifier/payer": "EGUVW",
    "verifier/payment": "EGV",
    "verifier/statement": "V",
    "workers": "CUVW",
}
"""Which part may refuse with which letter. A package shows the codes of what it calls, and adds only these."""


def sources() -> list[Path]:
    return tracked(*(f"{package}/*.py" for package in PACKAGES))


@pytest.mark.parametrize("kind", ["*.py", "*.vy", "*.cjs"])
def test_no_file_is_longer_than_a_person_reads_at_once(kind: str) -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in tracked(kind)}
    assert lengths
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}, "split it by what it is about"


def test_no_path_of_anybodys_machine() -> None:
    """Trap: a path that exists only where it was written passes every test there."""
    homes = "home|Users|mnt|media"
    here = "|".join(re.escape(str(path)) for path in (ROOT, Path.home()))
    pattern = re.compile(rf"(?<![\w.:/}})\]])(?:/(?:{homes})/\w|[A-Z]:\\Users|(?:{here})(?![\w-]))")
    assert all(pattern.search(f"in {place}/x") for place in (ROOT, Path.home(), Path("/home") / "me"))
    found = [
        f"{path}: {match.group()}"
        for path in tracked()
        for match in pattern.finditer((ROOT / path).read_bytes().decode("utf-8", errors="replace"))
    ]
    assert found == []


def pins() -> dict[str, str]:
    """Each requirement of requirements.txt: its first line without hashes, and all that belongs to it."""
    text = (ROOT / "requirements.txt").read_text()
    return {block.split()[0]: block for block in re.split(r"\n(?=\S)", text) if block.strip()}


def test_requirements_are_exact_hashed_and_name_no_host() -> None:
    assert len(pins()) > 100
    for name, block in pins().items():
        assert re.fullmatch(r"[a-z0-9.-]+(\[[a-z,]+\])?==[0-9][\w.+!]*", name), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), name
        rest = re.sub(r"--hash=sha256:[0-9a-f]{64}|\\|;.*", "", block).split()
        assert rest == [name], "options, hosts and URLs have no place here"


def test_requirements_pin_all_that_the_project_names() -> None:
    pinned = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in map(Requirement, pins())}
    wanted = [Requirement(line) for line in metadata.requires("opgate") or ()]
    assert len(wanted) > 20
    for requirement in wanted:
        if canonicalize_name(requirement.name) == "opgate":
            continue
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is pinned to {version}"


def test_an_extra_that_a_package_asks_of_another_is_pinned_with_it() -> None:
    """Trap: pip takes coverage[toml] for unpinned beside coverage==1, and refuses the lock once coverage 2 is out."""
    pinned = {canonicalize_name(pin.name): pin.extras for pin in map(Requirement, pins())}
    asked = [
        requirement
        for name in pinned
        for requirement in map(Requirement, metadata.requires(name) or ())
        if requirement.extras and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
    ]
    assert asked
    assert [str(it) for it in asked if not it.extras <= pinned[canonicalize_name(it.name)]] == []


def test_npm_lock_is_hashed_and_names_no_host() -> None:
    text = (ROOT / "package-lock.json").read_text()
    assert "://" not in text
    assert '"resolved"' not in text
    packages = json.loads(text)["packages"]
    root = packages.pop("")
    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    wanted = json.loads((ROOT / "package.json").read_text())
    assert all(root[kind] == wanted[kind] for kind in ("dependencies", "devDependencies"))
    assert all(packages[f"node_modules/{name}"]["version"] == exact for name, exact in wanted["dependencies"].items())


def test_the_version_is_one() -> None:
    assert metadata.version("opgate") == __version__


def literals(path: Path) -> Iterator[str]:
    """The strings of a source; what an f-string fills in reads x."""
    tree = ast.parse((ROOT / path).read_text())
    inner = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Constant) and node not in inner and (text := literal(node)):
            yield text


def literal(node: ast.expr) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def family() -> set[str]:
    """The names of opgate's errors."""
    return {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.OpgateError)}


def part_of(path: Path) -> str:
    """The part of the project that a source belongs to: its package, in verifier also the folder."""
    return "/".join(path.parts[:2]) if path.parts[0] == "verifier" and len(path.parts) > 2 else path.parts[0]


def test_every_code_has_the_letter_of_the_part_that_refuses() -> None:
    found: dict[str, set[str]] = {part: set() for part in LETTERS}
    for path in sources():
        found[part_of(path)] |= {text for text in literals(path) if LIKE_A_CODE.fullmatch(text)}
    assert all(found.values()), "a part without any code: the scan no longer finds them"
    odd = [
        f"{part}: {code}"
        for part, codes in found.items()
        for code in codes
        if not CODE.fullmatch(code) or code[0] not in LETTERS[part]
    ]
    assert odd == []


def test_every_error_is_raised_with_a_code() -> None:
    """Trap: the sentence in the place of the code reads well, and a machine cannot tell errors apart."""
    names = family()
    assert len(names) > 8
    first = [
        (path, call.lineno, literal(call.args[0]))
        for path in sources()
        for call in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names and call.args
    ]
    assert len(first) > 100
    assert [place for place in first if place[2] is not None and not CODE.fullmatch(place[2])] == []


def test_every_letter_is_explained_where_the_errors_are() -> None:
    explained = set(re.findall(r"``([A-Z])[<-]", errors.__doc__ or "") + re.findall(r"\(``([A-Z])", source_docs()))
    assert explained == set("VGECWAU")


def source_docs() -> str:
    return "\n".join(getattr(errors, name).__doc__ or "" for name in family())
