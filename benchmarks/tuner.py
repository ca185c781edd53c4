"""The search against EZKL's own calibration, in one run on one machine: `python -m benchmarks.tuner MODELS OUT.json`.

MODELS is a folder of folders with `network.onnx` and `input.json`. Both sides see the same samples: the one that is
there and others drawn around it. EZKL runs `calibrate_settings(target="resources")`; the search runs twice, for no more
error and no less agreement than EZKL's choice on those samples, and for at most 1 % error and the model's own argmax.
Only circuits whose verifier a chain would hold count as ours. Proofs of the three take turns, so that whatever else
the machine does meets all three; the least of the turns counts. Fidelity is scored on samples that no side saw.
Rows of other models that are in OUT.json already stay there, if they are from such a machine: each row is a run of its
own. `--machine` takes the constants that `opgate circuit bench` measured there: a search then compares candidates by
them, as a build does, and the errors of predictions are those of these constants.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from circuits import compile as compiling
from circuits import ezkl_runner, fidelity, srs
from circuits.compile import EZKL_VERSION, Files
from circuits.ezkl_runner import Limits, Outcome
from circuits.ezkl_session import Session
from circuits.float_model import FloatModel
from circuits.graph import sample_input
from circuits.model import Model
from circuits.parsing import parse_model
from circuits.samples import Sample, read_samples
from circuits.settings import read_settings
from circuits.tuner import baseline, data_sets
from circuits.tuner.cost import Layout, Machine, read_machine
from circuits.tuner.data_sets import DataSets
from circuits.tuner.probe import Probes
from circuits.tuner.search import Candidate, Goal, Search, describe
from circuits.tuner.search_cache import SearchCache
from circuits.tuner.timing import in_true_order, this_machine, time_proofs
from verifier.errors import CircuitError, OpgateError
from verifier.statement.manifest import MAX_CODE_BYTES

SAMPLES = 24
TURNS = 3
LIMITS = Limits(wall_seconds=600, threads=ezkl_runner.usable_cores())


class Setting(NamedTuple):
    """What all models of a run share: development SRS, the machine's constants, a search's seconds."""

    srs_store: Path
    machine: Machine
    search_seconds: float


SPREADS = (1, 4, 16)


def varied(model: Model, given: Sample, floats: FloatModel) -> tuple[Sample, ...]:
    """Samples around the one that is there, as near to it as they can be without all giving one output."""
    for spread in SPREADS:
        samples = drawn(model, given, spread)
        with contextlib.suppress(CircuitError):
            fidelity.check_not_constant([floats.run(sample) for sample in samples[::2]])
            break
    return samples


def drawn(model: Model, given: Sample, spread: float) -> tuple[Sample, ...]:
    """The sample that is there and normal ones about its mean, within its type; floats in `spread` times its range."""
    chosen = np.random.default_rng(0)
    samples = [given]
    for _ in range(SAMPLES - 1):
        sample = []
        for tensor, array in zip(model.inputs, given, strict=True):
            values = array.astype(np.float64)
            is_float = tensor.dtype.startswith("float")
            wide = spread if is_float else 1.0  # integers may be indices
            middle, half = (values.min() + values.max()) / 2, (values.max() - values.min()) / 2 or 1.0
            normal = chosen.normal(values.mean(), wide * max(values.std(), 0.1), tensor.shape)
            near = np.clip(normal, middle - wide * half, middle + wide * half)
            sample.append((near if is_float else np.rint(near)).astype(tensor.dtype))
        samples.append(tuple(sample))
    return tuple(samples)


class Side:
    """One circuit of the comparison: its files, its costs, its fidelity on held-out samples."""

    def __init__(self, name: str, files: Files, srs_file: Path, sample: str) -> None:
        self.name, self.files, self.srs_file = name, files, srs_file
        self.witness = files.folder / "one.witness"
        ezkl_runner.require([ezkl_runner.gen_witness(sample, files.compiled, self.witness)], LIMITS)
        self.outcomes: list[Outcome] = []

    def prove(self) -> None:
        """One more proof."""
        files = self.files
        proof = files.folder / "one.proof"
        self.outcomes.append(
            ezkl_runner.prove(
                witness=self.witness,
                compiled=files.compiled,
                pk=files.pk,
                srs=self.srs_file,
                proof=proof,
                limits=LIMITS,
            )
        )

    def row(self) -> dict[str, Any]:
        """The costs, for the JSON, and whether ezkl takes the last proof: `prove` succeeds on wrong witnesses too."""
        files = self.files
        paths = {"settings": files.settings, "vk": files.vk, "srs": self.srs_file}
        verified = True
        try:
            ezkl_runner.verify(proof=files.folder / "one.proof", limits=LIMITS, **paths)
        except OpgateError:
            verified = False
        return {
            "verified": verified,
            "prove_seconds": round(min(each.seconds for each in self.outcomes), 3),
            "all_seconds": [round(each.seconds, 3) for each in self.outcomes],
            "peak_memory_bytes": max(each.peak_bytes for each in self.outcomes),
            "pk_bytes": self.files.pk.stat().st_size,
        }


def ezkl_side(
    model: Model, sets: DataSets, floats: FloatModel, folder: Path, srs_store: Path
) -> tuple[Side, baseline.Baseline]:
    """EZKL's own circuit, with keys."""
    given = baseline.of_ezkl(model, sets, floats, folder, LIMITS)
    files = Files(folder / "ezkl")
    files.folder.mkdir()
    files.model.write_bytes(model.plain)
    files.settings.write_bytes(given.settings)
    srs_file = srs.development_srs(srs_store, given.logrows)
    ezkl_runner.require([ezkl_runner.compile_model(files.model, files.settings, files.compiled)], LIMITS)
    ezkl_runner.setup(files.compiled, srs_file, vk=files.vk, pk=files.pk, limits=LIMITS)
    return Side("ezkl", files, srs_file, sample_input(sets.tuning[0], "public")), given


def our_side(  # noqa: PLR0913, PLR0917 - a model, its samples, a goal, where to and how
    name: str,
    model: Model,
    sets: DataSets,
    floats: FloatModel,
    goal: Goal,
    folder: Path,
    setting: Setting,
) -> tuple[Side, Candidate, dict[str, Any]]:
    """The cheapest closable circuit that the search finds for a goal: near candidates are timed, the code compiled."""
    begun = time.monotonic()
    srs_store, machine, seconds = setting
    with Session(LIMITS) as session:
        probes = Probes(
            model,
            "public",
            samples=sets.tuning,
            extremes=(*sets.extremes, *sets.random),
            floats=[floats.run(sample) for sample in (*sets.tuning, *sets.extremes, *sets.random)],
            folder=folder,
            session=session,
            cache=SearchCache(),
        )
        search = Search(probes, machine, visibility="public", goal=goal, target="closable", max_seconds=seconds)
        found = search.run()

    def prove(candidate: Candidate, work: Path) -> float:
        return time_proofs(model, candidate.run_args, sets.tuning[0], srs_store, work, LIMITS).seconds

    timing = folder / f"{name}-timing"
    timing.mkdir(mode=0o700)
    ordered = in_true_order(found.candidates, machine, prove, timing, lambda _: None)
    searched = time.monotonic() - begun
    for turn, candidate in enumerate(ordered[:8]):
        work = folder / f"{name}-{turn}"
        work.mkdir(mode=0o700)
        srs_file = srs.development_srs(srs_store, candidate.run_args.logrows)
        keys = compiling.make_keys(model, candidate.run_args, srs_file, work, LIMITS)
        if len(keys.code) <= MAX_CODE_BYTES:
            break
    else:
        raise SystemExit(f"{name}: no candidate is closable")
    facts = {
        "knobs": describe(candidate.run_args),
        "search_seconds": round(searched, 1),
        "probes": found.probes,
        "stopped": found.stopped,
        "code_bytes": len(keys.code),
        "layout": candidate.layout._asdict(),
    } | predictions(candidate.layout, machine)
    return Side(name, keys.files, srs_file, sample_input(sets.tuning[0], "public")), candidate, facts


def predictions(shape: Layout, machine: Machine) -> dict[str, Any]:
    """What a layout should cost there."""
    return {
        "predicted_seconds": round(machine.seconds(shape), 3),
        "predicted_memory_bytes": machine.memory_of(shape),
        "predicted_pk_bytes": shape.pk_bytes,
        "predicted_code_bytes": shape.code_bytes,
    }


def held_out(side: Side, sets: DataSets, floats: FloatModel) -> dict[str, Any]:
    """Error and agreement on samples that neither search saw; a refused sample is counted."""
    witness = side.files.folder / "score.witness"
    samples = (*sets.held_out, *sets.acceptance)
    with Session(LIMITS) as session:
        answers = [
            session.ask(ezkl_runner.gen_witness(sample_input(sample, "public"), side.files.compiled, witness))
            for sample in samples
        ]
    scales = read_settings(side.files.settings.read_bytes()).model_output_scales
    kept = [
        (ezkl_runner.read_witness(answer), floats.run(sample))
        for answer, sample in zip(answers, samples, strict=True)
        if isinstance(answer, Outcome)
    ]
    scored = fidelity.compare([each[0] for each in kept], [each[1] for each in kept], scales)
    return {
        "samples": scored.samples,
        "refused": len(answers) - len(kept),
        "max_error": scored.max_error,
        "share_of_span": scored.max_error / scored.span if scored.span else None,
        "agreement": scored.agreement,
    }


def one(name: str, folder: Path, work: Path, setting: Setting) -> dict[str, Any]:
    """All three circuits of one model."""
    model = parse_model((folder / "network.onnx").read_bytes())
    given = read_samples(folder / "input.json", model.inputs)[0]
    floats = FloatModel(model.static, model.inputs)
    sets = data_sets.split(varied(model, given, floats), model.inputs)
    ezkl, chosen = ezkl_side(model, sets, floats, work, setting.srs_store)
    span = chosen.fidelity.span
    goals = {
        "equal": Goal(chosen.fidelity.max_error, chosen.fidelity.agreement),
        "one_percent": Goal(max(0.01 * span, 1e-6), 1.0),
    }
    row: dict[str, Any] = {
        "model": name,
        "ezkl": {
            "logrows": chosen.logrows,
            "run_args": {
                each: read_settings(chosen.settings).run_args[each]
                for each in ("input_scale", "param_scale", "scale_rebase_multiplier", "decomp_base", "decomp_legs")
            },
            "refused_of_tuning": chosen.refused,
            "code_bytes": chosen.layout.code_bytes if chosen.layout else None,
        },
    }
    sides = {"ezkl": ezkl}
    for each, goal in goals.items():
        sides[each], _, facts = our_side(each, model, sets, floats, goal, work, setting)
        row[each] = facts
    for _ in range(TURNS):
        for side in sides.values():
            side.prove()
    for each, side in sides.items():
        row[each] |= side.row() | {"held_out": held_out(side, sets, floats)}
    for each in goals:
        if not row[each]["verified"]:
            raise CircuitError("C-unsatisfiable", "the proof of the circuit that was found does not hold", where=each)
        row[each]["times_faster"] = round(row["ezkl"]["prove_seconds"] / row[each]["prove_seconds"], 2)
        row[each]["times_less_memory"] = round(row["ezkl"]["peak_memory_bytes"] / row[each]["peak_memory_bytes"], 2)
        row[each]["times_smaller_pk"] = round(row["ezkl"]["pk_bytes"] / row[each]["pk_bytes"], 2)
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric means, the slowest model, the longest search, and how good the predictions were."""
    result: dict[str, Any] = {"models": len(rows)}
    for each in ("equal", "one_percent"):
        for figure in ("times_faster", "times_less_memory", "times_smaller_pk"):
            values = [row[each][figure] for row in rows]
            result[f"{each}_{figure}_geometric_mean"] = round(math.exp(sum(map(math.log, values)) / len(values)), 2)
        result[f"{each}_least_times_faster"] = min(row[each]["times_faster"] for row in rows)
        result[f"{each}_longest_search_seconds"] = max(row[each]["search_seconds"] for row in rows)
    sides = [row[each] for row in rows for each in ("equal", "one_percent")]
    errors = [abs(side["predicted_seconds"] / side["prove_seconds"] - 1) for side in sides]
    result["median_error_of_predicted_seconds"] = round(float(np.median(errors)), 3)
    memory = [side["predicted_memory_bytes"] / side["peak_memory_bytes"] - 1 for side in sides]
    result["predicted_memory_from"], result["predicted_memory_to"] = round(min(memory), 3), round(max(memory), 3)
    keys = [abs(side["predicted_pk_bytes"] / side["pk_bytes"] - 1) for side in sides]
    result["largest_error_of_predicted_pk"] = round(max(keys), 3)
    code = [abs(side["predicted_code_bytes"] / side["code_bytes"] - 1) for side in sides]
    result["largest_error_of_predicted_code"] = round(max(code), 3)
    return result


def written(rows: list[dict[str, Any]], left_out: dict[str, str], machine: Machine, begun: float) -> dict[str, Any]:
    """The result file."""
    return {
        "machine": str(this_machine()),
        "constants": machine.label,
        "cores_shared_with_other_work": os.getloadavg()[2] > ezkl_runner.usable_cores(),
        "ezkl": EZKL_VERSION,
        "seconds": round(time.monotonic() - begun),
        "summary": summary(rows) if rows else {},
        "left_out": left_out,
        "rows": rows,
    }


def predict_again(out: Path, machine: Machine) -> None:
    """Write the predictions of another bench into the rows: they are arithmetic from the layouts that were proved."""
    result = json.loads(out.read_text(encoding="utf-8"))
    for row in result["rows"]:
        for each in ("equal", "one_percent"):
            row[each] |= predictions(Layout(**row[each]["layout"]), machine)
    result |= {"predicted_with": machine.label, "summary": summary(result["rows"])}
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run all models that fit the time, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="names of models, in this order")
    parser.add_argument("--machine", type=Path, default=Path("machine.json"), help="of opgate circuit bench")
    parser.add_argument("--predict", action="store_true", help="run nothing: predict the rows of OUT.json anew")
    parser.add_argument("--search-seconds", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=3600.0, help="no model is begun after this")
    asked = parser.parse_args()
    begun, machine = time.monotonic(), read_machine(asked.machine)
    if asked.predict:
        predict_again(asked.out, machine)
        return
    names = asked.only or sorted(path.name for path in asked.models.iterdir() if (path / "network.onnx").exists())
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    if asked.out.exists():
        before = json.loads(asked.out.read_text(encoding="utf-8"))
        if (before["machine"], before["ezkl"], before["constants"]) == (
            str(this_machine()),
            EZKL_VERSION,
            machine.label,
        ):
            rows = [row for row in before["rows"] if row["model"] not in names]
            left_out = {name: why for name, why in before["left_out"].items() if name not in names}
    with tempfile.TemporaryDirectory(prefix="opgate-tuner-") as folder:
        setting = Setting(Path(folder) / "srs", machine, asked.search_seconds)
        for name in names:
            if time.monotonic() - begun > asked.seconds:
                left_out[name] = "no time left"
                continue
            work = Path(folder) / name
            work.mkdir(mode=0o700)
            try:
                rows.append(one(name, asked.models / name, work, setting))
                faster = {each: rows[-1][each]["times_faster"] for each in ("equal", "one_percent")}
                print(f"{time.monotonic() - begun:6.0f} s  {name}: {faster}", flush=True)
            except OpgateError as error:
                left_out[name] = str(error)[:300]
                print(f"{time.monotonic() - begun:6.0f} s  {name}: {left_out[name]}", flush=True)
            asked.out.write_text(json.dumps(written(rows, left_out, machine, begun), indent=1) + "\n", encoding="utf-8")
    asked.out.write_text(json.dumps(written(rows, left_out, machine, begun), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
