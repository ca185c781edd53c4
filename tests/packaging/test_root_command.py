"""The root command: what each way to fail gives as exit code and words, with and without ``--json``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import typer

from verifier.cli import root
from verifier.errors import GateError, OpgateError, UndecidedError, UsageError
from verifier.version import __version__

Plant = Callable[[Callable[[], object]], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Puts a function in the place of ``opgate audit``, as the entry point of an installed package."""

    def put(body: Callable[[], object]) -> None:
        app = typer.Typer(add_completion=False)

        @app.command()
        def planted(*, as_json: bool = typer.Option(False, "--json")) -> object:
            return body()

        module = ModuleType("planted_command")
        module.__dict__["app"] = app
        monkeypatch.setitem(sys.modules, module.__name__, module)
        point = metadata.EntryPoint("audit", "planted_command:app", root.GROUP)
        monkeypatch.setattr(root, "installed_commands", lambda: {"audit": point})

    return put


def raising(error: BaseException) -> Callable[[], object]:
    def body() -> object:
        raise error

    return body


@pytest.mark.parametrize("words", [["bogus"], ["bogus", "--json"], ["--bogus"], ["audit"], ["verify", "nothing.json"]])
def test_words_that_make_no_sense_are_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run(["bogus"]) == 2
    assert "No such command 'bogus'" in capsys.readouterr().err


def test_no_words_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run([]) == 2
    printed = capsys.readouterr()
    assert "verify" in printed.out + printed.err


def test_version_and_help_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run(["--version"]) == 0
    assert capsys.readouterr().out == f"opgate {__version__}\n"
    assert root.run(["--help"]) == 0
    assert "Exit codes" in capsys.readouterr().out


def test_an_internal_error_is_no_verdict(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    """Trap: Python's own exit code after a traceback is 1, which reads INVALID."""
    plant(raising(ZeroDivisionError("the inner fault")))
    assert root.run(["audit"]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "U-internal" in printed.err
    assert "ZeroDivisionError: the inner fault" in printed.err
    assert "Traceback" not in printed.err


def test_an_internal_error_for_machines(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    plant(raising(KeyError("x" * 5000)))
    assert root.run(["audit", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"code", "message", "where", "expected", "found", "do"}
    assert error["code"] == "U-internal"
    assert len(error["message"]) <= 300


def test_the_traceback_is_there_for_who_asks(
    plant: Plant, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPGATE_TRACEBACK", "1")
    plant(raising(ZeroDivisionError("the inner fault")))
    assert root.run(["audit"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_command_whose_module_is_broken_is_an_internal_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: an extra that is half installed fails at the import, before any command runs."""
    point = metadata.EntryPoint("audit", "verifier.no_such_module:app", root.GROUP)
    monkeypatch.setattr(root, "installed_commands", lambda: {"audit": point})
    assert root.run(["audit"]) == 3
    assert "ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_is_130(error: BaseException, plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    plant(raising(error))
    assert root.run(["audit", "--json"]) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "internal" not in printed.err


def test_a_real_interrupt_is_130_too(tmp_path: Path) -> None:
    """The signal itself, in a process of its own: the command waits for input that never comes."""
    (tmp_path / "waiting_command.py").write_text(
        "import time, typer\napp = typer.Typer()\n"
        "@app.command()\ndef wait() -> None:\n    print('waiting', flush=True)\n    time.sleep(60)\n"
    )
    script = (
        # a shell starts background jobs with SIGINT ignored, and children inherit that
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from importlib import metadata\nfrom verifier.cli import root\n"
        "point = metadata.EntryPoint('audit', 'waiting_command:app', root.GROUP)\n"
        "root.installed_commands = lambda: {'audit': point}\nsys.exit(root.run(['audit']))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in told


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (GateError("G-bundle", "no", where="here", expected="this", found="that", do="Ask"), 1),
        (UsageError("U-job", "which job?"), 2),
        (UndecidedError("V7-engine", "the EVM failed"), 3),
    ],
)
def test_our_errors_keep_their_exit_code_and_their_parts(
    error: OpgateError, exit_code: int, plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(raising(error))
    assert root.run(["audit", "--json"]) == exit_code
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"error": error.to_json()}
    assert printed.err == ""
    assert root.run(["audit"]) == exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.strip() == f"opgate: {error}"


@pytest.mark.parametrize(("ending", "exit_code"), [(typer.Exit(1), 1), (typer.Exit(3), 3), (typer.Exit(0), 0)])
def test_a_command_decides_its_own_ending(ending: typer.Exit, exit_code: int, plant: Plant) -> None:
    plant(raising(ending))
    assert root.run(["audit"]) == exit_code


@pytest.mark.parametrize("answer", [None, True, False, "INVALID"])
def test_what_a_command_returns_is_no_exit_code_unless_it_is_one(answer: object, plant: Plant) -> None:
    """Trap: False is an int, and 0 would be right for the wrong reason; True would read INVALID."""
    plant(lambda: answer)
    assert root.run(["audit"]) == 0


def test_a_missing_extra_is_said_before_anything_is_imported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = metadata.EntryPoint("pay", "verifier.no_such_module:app [pay]", root.GROUP)
    monkeypatch.setattr(root, "installed_commands", lambda: {"pay": point})
    monkeypatch.setattr(root, "missing_extra", lambda _: "pay")
    assert root.run(["pay"]) == 2
    assert "pip install 'opgate[pay]'" in capsys.readouterr().err
    assert root.run(["--help"]) == 0
    assert "Buy a proved inference" not in capsys.readouterr().out


def test_help_names_every_command_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Trap: a new entry point without a line in the table would be listed with nothing beside it."""
    points = root.installed_commands()
    assert set(root._ABOUT) == set(points)
    assert root.run(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name, point in points.items() if root.missing_extra(point) is None)
