"""Properties of whole bundles: every bit counts, one form alone is read, and nothing but the bytes decides."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import subprocess
import sys
import time
import typing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import verifier.statement
from tests.vectors.cases import read_base
from tests.verifier.test_statement import STRUCTS
from verifier.basis import Basis
from verifier.bundles import parse_bundle
from verifier.cli.verify import verdict_of
from verifier.errors import VerifierError
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.verify import verify_on

ROOT = Path(__file__).resolve().parents[1] / "vectors"
BASE = read_base(ROOT / "base")
BASIS = Basis(BASE.circuit, BASE.policy)
RAW = canonical.encode(BASE.job)
LONG = bool(os.environ.get("OPGATE_LONG"))
FORMS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_refused(raw: bytes) -> bool:
    try:
        return verify_on(BASIS, parse_bundle(raw)).outcome == "INVALID"
    except VerifierError:
        return True


def test_every_byte_of_a_valid_bundle_counts() -> None:
    """One bit of each byte, another each time; all eight with OPGATE_LONG. The receipt too: the Delivery covers it."""
    assert verify_on(BASIS, parse_bundle(RAW)).outcome == "VALID"
    first = random.randrange(8)  # noqa: S311 - over many runs every bit has its turn
    for place in range(len(RAW)):
        for bit in range(8) if LONG else ((first + place) % 8,):
            changed = bytearray(RAW)
            changed[place] ^= 1 << bit
            assert is_refused(bytes(changed)), f"bit {bit} of byte {place}"


@FORMS
@given(st.data())
def test_any_other_order_of_keys_is_refused(data: st.DataObject) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in data.draw(st.permutations(sorted(value)))}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    raw = json.dumps(shuffled(json.loads(RAW)), separators=(",", ":"), ensure_ascii=False).encode()
    if raw == RAW:
        return
    with pytest.raises(VerifierError, match="V0-canonical"):
        parse_bundle(raw)


@FORMS
@given(st.data())
def test_white_space_anywhere_is_refused(data: st.DataObject) -> None:
    """Between tokens it is another form of the same JSON; inside a string it is another value, or no JSON."""
    place = data.draw(st.integers(0, len(RAW)))
    spaces = data.draw(st.text(" \t\r\n", min_size=1, max_size=3)).encode()
    assert is_refused(RAW[:place] + spaces + RAW[place:])


@FORMS
@given(st.data())
def test_any_bytes_cut_out_or_put_in_are_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(RAW)))
    end = data.draw(st.integers(start, min(start + 200, len(RAW))))
    put = data.draw(
        st.one_of(st.binary(max_size=20), st.sampled_from((b'"', b"{}", b"[]", b"null", b"0x", b"\\u0000")))
    )
    changed = RAW[:start] + put + RAW[end:]
    assert changed == RAW or is_refused(changed)


ENVIRONMENTS = (
    {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "0", "RAYON_NUM_THREADS": "1"},
    {"TZ": "America/St_Johns", "LC_ALL": "C", "PYTHONHASHSEED": "4242", "RAYON_NUM_THREADS": "7", "PYTHONUTF8": "0"},
    {"PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "random"},
)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=("kiritimati", "st_johns", "optimised"))
def test_the_verdict_is_the_same_in_another_process_zone_locale_and_hash_seed(environment: dict[str, str]) -> None:
    """Nor under -O, which removes asserts: no check may be one."""
    for name in ("valid", "7_output_0_plus_one_fail"):
        bundle = ROOT / "cases" / name / "bundle.json"
        words = [sys.executable, "-m", "verifier.cli.root", "verify", str(bundle), "--json"]
        words += ["--circuits", str(ROOT / "base" / "circuits"), "--policy", str(ROOT / "base" / "policy.json")]
        done = subprocess.run(words, capture_output=True, env={"PATH": ""} | environment, check=False)
        assert done.returncode == (0 if name == "valid" else 1), done.stderr
        here = verdict_of(bundle, ROOT / "base" / "circuits", BASE.policy)
        assert json.loads(done.stdout) == canonical.to_builtins(here)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_verdict_is_the_same_for_any_number_of_threads(threads: int) -> None:
    """One Basis for all of them: what it keeps is only what follows from circuit and policy."""
    bundles = [BASE.job, BASE.other_job, BASE.other_input, BASE.other_circuit] * 3
    alone = [verify_on(Basis(BASE.circuit, BASE.policy), bundle) for bundle in bundles]
    shared = Basis(BASE.circuit, BASE.policy)
    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(lambda bundle: verify_on(shared, bundle), bundles)) == alone


def test_no_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeless: the audit of 2035 must come to the verdict of today."""

    def refuse(*_: object) -> float:
        raise AssertionError("a clock was read")

    for name in ("time", "time_ns", "monotonic", "localtime", "gmtime"):
        monkeypatch.setattr(time, name, refuse)
    verdict = verify_on(Basis(BASE.circuit, BASE.policy), BASE.job)
    monkeypatch.undo()
    assert verdict.outcome == "VALID"


def test_every_type_of_the_statement_is_among_those_that_come_back() -> None:
    """Held by the modules: a struct that is added has a round trip too, by itself or inside one that has."""
    inner: set[type] = set(STRUCTS)

    def visit(kind: Any) -> None:
        for argument in typing.get_args(kind):
            visit(argument)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in inner:
            inner.add(kind)
            for hint in typing.get_type_hints(kind).values():
                visit(hint)

    for struct in STRUCTS:
        for hint in typing.get_type_hints(struct).values():
            visit(hint)
    names = [module.name for module in pkgutil.iter_modules(verifier.statement.__path__)]
    modules = [importlib.import_module(f"verifier.statement.{name}") for name in names]
    made = {
        value
        for module in (*modules, importlib.import_module(Policy.__module__))
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
    }
    only_hashed = {"CircuitRecord"}
    assert {kind.__name__ for kind in made - inner} == only_hashed


def test_five_names_are_public_and_importing_them_is_light() -> None:
    script = "import sys, verifier, json; print(json.dumps([verifier.__all__, sorted(sys.modules)]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    public, loaded = json.loads(done.stdout)
    assert public == ["Bundle", "Circuit", "Policy", "Verdict", "verify"]
    heavy = {"eth_account", "py_ecc", "web3", "typer", "rich", "httpx", "sqlalchemy", "rlp", "trie", "ezkl", "numpy"}
    heavy |= {"eth", "celery", "asyncio", "urllib.request", "http.client", "multiprocessing", "logging"}
    assert heavy & set(loaded) == set()
