"""The EVM as an engine that may fail: no failure becomes a verdict on the code, and each is told in words."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.vectors.base import signed_record
from tests.vectors.cases import read_base
from tests.vectors.circuit_cases import with_records, without
from tests.vectors.keys import OWNER, STRANGER
from verifier import evm
from verifier.assurance import stated_models
from verifier.errors import UndecidedError, VerifierError
from verifier.statement.certificates import CircuitAttestation
from verifier.statement.scalars import Address, Bytes32, Signature, Text

BASE = read_base(Path(__file__).resolve().parents[1] / "vectors" / "base")
LONG = "x" * 500
DIGEST, SIGNATURE = Bytes32(b"\1" * 32), Signature(b"\1" * 64 + b"\x1b")


class PanicError(BaseException):
    """As a Rust panic reaches Python."""


class Broken:
    """An engine that raises, or gives back what it was made with."""

    name = "broken"

    def __init__(self, answer: bytes | BaseException) -> None:
        self.answer = answer

    def call(self, *_: object) -> bytes:
        """Neither code nor calldata is looked at."""
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def run(answer: bytes | BaseException) -> evm.Answer:
    return evm.run_verifier(b"", b"", gas_cap=100_000, revision="CANCUN", engine=Broken(answer))


@pytest.mark.parametrize("error", [RuntimeError(LONG), PanicError(LONG)])
def test_an_engine_that_fails_has_said_nothing_of_the_code(error: BaseException) -> None:
    with pytest.raises(UndecidedError) as refused:
        run(error)
    assert str(refused.value) == f"V7-engine: the EVM failed, the code was not heard (found {repr(error)[:200]})"
    assert refused.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError(LONG), PanicError(LONG)])
def test_an_engine_that_fails_has_said_nothing_of_a_signature(error: BaseException) -> None:
    with pytest.raises(UndecidedError) as refused:
        evm.recover(DIGEST, SIGNATURE, engine=Broken(error))
    assert str(refused.value) == f"V3-engine: the EVM failed, no signature was checked (found {repr(error)[:200]})"
    assert refused.value.__cause__ is error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_is_no_failure_of_the_engine(interrupt: BaseException) -> None:
    with pytest.raises(type(interrupt)) as passed:
        run(interrupt)
    assert passed.value is interrupt
    with pytest.raises(type(interrupt)):
        evm.recover(DIGEST, SIGNATURE, engine=Broken(interrupt))


@pytest.mark.parametrize("size", [0, 32, 127, 129])
def test_an_answer_of_another_shape_is_a_failure_of_the_engine(size: int) -> None:
    with pytest.raises(UndecidedError) as refused:
        run(bytes(size))
    assert str(refused.value) == f"V7-engine: the EVM answered in an unknown shape (found {size} bytes)"


def words(value: int, success: int, size: int, gas: int = 21_000) -> bytes:
    return b"".join(each.to_bytes(32) for each in (value, success, size, gas))


def test_only_a_call_that_succeeds_with_a_word_of_1_is_a_yes() -> None:
    assert run(words(1, 1, 32)) == evm.Answer(accepted=True, gas=21_000)
    for value, success, size in ((0, 1, 32), (2, 1, 32), (1, 0, 32), (1, 1, 31), (1, 1, 64), (1 << 248, 1, 32)):
        assert run(words(value, success, size)) == evm.Answer(accepted=False, gas=21_000)


def test_a_signer_is_read_from_a_whole_word_and_from_nothing_else() -> None:
    account = bytes(12) + b"\xaa" * 20
    assert evm.recover(DIGEST, SIGNATURE, engine=Broken(account)) == Address(b"\xaa" * 20)
    assert evm.recover(DIGEST, SIGNATURE, engine=Broken(b"")) is None
    assert evm.recover(DIGEST, SIGNATURE, engine=Broken(account + b"\0")) is None


def test_calldata_and_revision_that_no_engine_sees() -> None:
    with pytest.raises(VerifierError) as large:
        evm.run_verifier(b"", bytes((1 << 18) + 1), gas_cap=1, revision="CANCUN", engine=Broken(b""))
    assert str(large.value) == "V7-size: the calldata is too large (expected at most 262144 bytes)"
    with pytest.raises(VerifierError) as unknown:
        evm.run_verifier(b"", b"", gas_cap=1, revision="y" * 50, engine=Broken(b""))
    assert str(unknown.value) == (
        f"V7-revision: unknown EVM revision (expected SHANGHAI or CANCUN or PRAGUE; found {'y' * 40})"
    )


@pytest.mark.parametrize(
    ("installed", "chosen"), [(("pyrevm", "eth"), "pyrevm"), (("pyrevm",), "pyrevm"), (("eth",), "py-evm")]
)
def test_the_engine_is_pyrevm_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], chosen: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in installed else None)
    evm.default_engine.cache_clear()
    try:
        assert evm.default_engine().name == chosen
    finally:
        evm.default_engine.cache_clear()


def test_without_any_engine_nothing_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    evm.default_engine.cache_clear()
    try:
        with pytest.raises(UndecidedError) as refused:
            evm.default_engine()
    finally:
        evm.default_engine.cache_clear()
    assert str(refused.value) == ("V7-engine: no EVM is installed. pip install pyrevm, or pip install 'opgate[pyevm]'")


def test_models_are_stated_by_owners_who_attest_this_code() -> None:
    circuit, policy = BASE.circuit, BASE.policy
    attestation = next(r.record for r in circuit.records if isinstance(r.record, CircuitAttestation))
    assert stated_models(circuit, policy) == ((OWNER.address, str(attestation.model)),)
    renamed = replace(attestation, model=Text("other"))
    foreign = replace(renamed, code_hash=Bytes32(b"\2" * 32))
    stated = ((OWNER.address, "other"),)
    for record, key, told in ((renamed, OWNER, stated), (renamed, STRANGER, ()), (foreign, OWNER, ())):
        other = with_records(without(circuit, CircuitAttestation), signed_record(record, key))
        assert stated_models(other, policy) == told
