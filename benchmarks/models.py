"""The table of models in `docs/models.md`: ``python -m benchmarks.models MODELS [NAME…]``.

MODELS is a folder of folders with `network.onnx` and `input.json`. Each model is checked, built (which proves one
sample and verifies it in the EVM and by ezkl) and rebuilt, or refused, and the row kept in
`benchmarks/results/models.json`; a model whose row is there already is left alone unless --again. EZKL's own choice is
taken from `benchmarks/results/tuner.json` where `python -m benchmarks.tuner` has left it.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from benchmarks.tuner import varied
from circuits.build import Wishes, build
from circuits.check.preflight import HOUSEKEEPING, check
from circuits.compile import EZKL_VERSION
from circuits.ezkl_runner import usable_cores
from circuits.float_model import FloatModel
from circuits.parsing import parse_model
from circuits.rebuild import rebuild
from circuits.samples import read_samples
from circuits.tuner.timing import this_machine
from verifier.errors import OpgateError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "models.json"
TUNER = ROOT / "benchmarks" / "results" / "tuner.json"
TABLE = ROOT / "docs" / "models.md"
SEARCH_SECONDS = 60.0


def one(folder: Path, work: Path) -> dict[str, Any]:
    """One row: the verdict, and the circuit or why there is none."""
    source = (folder / "network.onnx").read_bytes()
    counts = collections.Counter(node.op_type for node in onnx.load_model_from_string(source).graph.node)
    samples = work / "samples.npz"
    model = parse_model(source)
    given = read_samples(folder / "input.json", model.inputs)[0]
    columns = zip(*varied(model, given, FloatModel(model.static, model.inputs)), strict=True)
    named = {tensor.name: np.stack(column) for tensor, column in zip(model.inputs, columns, strict=True)}
    np.savez(samples, **named)  # type: ignore[arg-type] # its stub takes a name for the option allow_pickle
    report = check(folder / "network.onnx", samples)
    row: dict[str, Any] = {
        "model": folder.name,
        "onnx_sha256": hashlib.sha256(source).hexdigest(),
        "operators": dict(sorted(counts.items())),
        "check": msgspec.to_builtins(report),
    }
    if report.verdict == "refused":
        return row
    try:
        row["circuit"] = built(folder / "network.onnx", samples, work)
    except OpgateError as error:
        row["refusal"] = error.to_json()
    return row


def built(model: Path, samples: Path, work: Path) -> dict[str, Any]:
    """The circuit's costs, measured; building proves and verifies, and the rebuild has to give the same bytes."""
    made = build(
        model, samples, store=work / "circuits", srs_store=work / "srs", wishes=Wishes(max_seconds=SEARCH_SECONDS)
    )
    record = rebuild(made.folder, srs_stores=(work / "srs",), now=int(time.time()))
    cost, knobs = made.cost.measured, made.run_args
    return {
        "circuit_id": str(made.compiled.manifest.circuit_id),
        "rebuilt": record.circuit_id == made.compiled.manifest.circuit_id,
        "logrows": knobs.logrows,
        "knobs": f"{knobs.decomp_base}^{knobs.decomp_legs} s{knobs.input_scale} x{knobs.scale_rebase_multiplier}",
        "prove_seconds": str(cost.prove_seconds),
        "memory_bytes": int(cost.memory_bytes),
        "pk_bytes": int(cost.pk_bytes),
        "gas": int(cost.gas),
        "code_bytes": int(cost.code_bytes),
        "max_error": str(made.certificate.max_error),
        "agreement": str(made.certificate.agreement),
        "rewrites": [str(each) for each in made.certificate.rewrites],
    }


def table(result: dict[str, Any]) -> str:
    """The page, from the rows."""
    tuner = json.loads(TUNER.read_text(encoding="utf-8")) if TUNER.exists() else {"rows": []}
    ezkl = {row["model"]: row["ezkl"] for row in tuner["rows"]}
    heads = ("model", "operators", "verdict", "k", "base^legs, scale, multiplier", "prove s", "gas")
    heads += ("largest error", "same argmax", "EZKL's own")
    lines = [
        "# Models that nobody here wrote",
        "",
        "Made by `python -m benchmarks.models MODELS`; do not edit. Each model is an example of zkonduit/ezkl. It is",
        "checked, built, proved, verified in the EVM and by ezkl, and rebuilt byte for byte, or refused. k, seconds of",
        "one proof, gas of one verification, largest error on samples that the search never saw;",
        f"{result['machine']}, ezkl {result['ezkl']}, searches of {SEARCH_SECONDS:.0f} s. It did other work too:",
        "`benchmarks/tuner.py` compares both sides in turns. EZKL's own: its `calibrate_settings`, target resources.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    notes = []
    for row in sorted(result["rows"], key=lambda each: each["model"]):
        counts = [name if count == 1 else f"{name} {count}" for name, count in row["operators"].items()]
        report, made = row["check"], row.get("circuit")
        own = ezkl.get(row["model"])
        theirs = f"k {own['logrows']}, {own['prove_seconds']:.2f} s" if own and "prove_seconds" in own else "-"
        cells = [f"`{row['model']}`", ", ".join(counts), report["verdict"]]
        if made:
            cells += [str(made["logrows"]), made["knobs"], f"{float(made['prove_seconds']):.2f}", f"{made['gas']:,}"]
            cells += [f"{float(made['max_error']):.3g}", f"{float(made['agreement']):.0%}"]
        else:
            cells += ["-"] * 6
        lines.append(f"| {' | '.join([*cells, theirs])} |")
        notes.extend(_notes(row))
    return "\n".join([*lines, "", "## Rewrites and refusals", "", *notes, ""])


def _notes(row: dict[str, Any]) -> list[str]:
    report = row["check"]
    changes = [each for each in report["rewrites"] if not each.startswith(HOUSEKEEPING)]
    notes = [f"- `{row['model']}`: {'; '.join(changes)}."] if changes else []
    if report["verdict"] in {"refused", "raise-scale"}:
        where = f" at {report['operator']} ({report['node']})" if report["operator"] else ""
        notes.append(f"- `{row['model']}` is {report['verdict']}{where}: {report['reason']}. {report['advice']}")
    if "refusal" in row:
        error = row["refusal"]
        notes.append(f"- `{row['model']}` is not built: {error['code']}, {error['message']}. {error['do']}")
    if "circuit" in row and not row["circuit"]["rebuilt"]:
        notes.append(f"- `{row['model']}` could not be rebuilt.")
    return notes


def main() -> None:
    """Fill the table, the smallest models first; each row is kept as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--again", action="store_true", help="measure models anew whose row is there")
    parser.add_argument("--seconds", type=float, default=7200.0, help="no model is begun after this")
    asked = parser.parse_args()
    begun = time.monotonic()
    result: dict[str, Any] = {"rows": []}
    if RESULTS.exists():
        result = json.loads(RESULTS.read_text(encoding="utf-8"))
    result |= {"machine": str(this_machine()), "ezkl": EZKL_VERSION, "cores": usable_cores()}
    rows = {row["model"]: row for row in result["rows"]}
    folders = sorted(asked.models.glob("*/network.onnx"), key=lambda path: path.stat().st_size)
    for path in folders:
        name = path.parent.name
        if (asked.names and name not in asked.names) or (name in rows and not asked.again):
            continue
        if time.monotonic() - begun > asked.seconds:
            print(f"{name}: no time left")
            continue
        with tempfile.TemporaryDirectory(prefix="opgate-models-") as work:
            rows[name] = one(path.parent, Path(work))
        print(f"{time.monotonic() - begun:6.0f} s  {name}: {rows[name]['check']['verdict']}", flush=True)
        result["rows"] = [rows[each] for each in sorted(rows)]
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        TABLE.write_text(table(result), encoding="utf-8")
    TABLE.write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
