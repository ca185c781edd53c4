"""How fast bundles are verified: against a bare loop in pyrevm, and against `ezkl.verify`, on the same proofs.

    python benchmarks/verify.py [--bundles 300] [--repeats 3] [--cache ~/.cache/opgate-bench]

Three circuits of one model, at k = 9, 11 and 15, are built once and kept in the cache with eight signed bundles each.
For each of them, turn by turn so that all meet the same machine:

bare    one EVM, the circuit's code put in once, its calldata made before: `message_call` in a loop, one process
bare_n  the same in one process a core, at the same time: what this machine gives to that many processes
bulk    `verifier.bulk.verify_all` over files, one process a core: read, parse, steps 0-8; counted once all are up
ezkl    `ezkl.verify` in a loop in one child, on proof files, settings, key and SRS that lie ready

The first three run twice in each turn and the better run of each counts: others may use the machine as well.
Rates are of the wall clock, which says little on a machine that others use (`load` far above 0 before a turn).
`cpu_ms_bare` and `cpu_ms_bulk` are processor time for one verification, of all processes, without their start: what
`bulk` can reach of cores x bare where it has the cores for itself is `cpu_share`, the one through the other.

Written to benchmarks/results/verify.json, with the machine, the versions and the load.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyrevm
from onnx import TensorProto, helper, numpy_helper

from circuits import compile as compiling
from circuits import ezkl_runner, registry, srs
from circuits.ezkl_runner import Limits
from circuits.opinion import _EMPTY_PROOF as EMPTY_PROOF
from circuits.parsing import parse_model
from circuits.registry import CircuitFolder
from circuits.run_arguments import RunArguments
from prover.bundle import Job, make_bundle
from prover.prove import ProvingFiles
from verifier.bulk import Tally, Task, verify_all
from verifier.bundles import read_bundle
from verifier.evm import CODE_AT, ORIGIN
from verifier.instances import calldata, claimed_words
from verifier.keccak import keccak256
from verifier.payment.keys import Key
from verifier.policy import ANY, Chains, CircuitRule, Escrow, Policy
from verifier.statement import canonical
from verifier.statement.eip712 import escrow_domain
from verifier.statement.scalars import Address, Bytes32, Count, Timestamp, Uint256
from verifier.statement.terms import Acceptance, JobTerms, ProofRule, input_commitment
from verifier.tensors import quantise, to_words

LOGROWS = (9, 11, 15)
PROOFS = 8
AGAIN = 2
WIDTH = 4
CHAIN = 31337
ESCROW, TOKEN, VERIFIER, PAYER, PAYEE = (
    Address(keccak256(name)[:20]) for name in (b"escrow", b"token", b"verifier", b"payer", b"payee")
)
PROVIDER = Key(keccak256(b"opgate benchmark: provider"))
POLICY = Policy(
    chains=Chains(escrows=(Escrow(chain_id=Count(CHAIN), escrow=ESCROW, token=TOKEN),), dev_chains=(Count(CHAIN),)),
    circuits={ANY: CircuitRule(assurance="unattested")},
)
RESULT = Path(__file__).resolve().parent / "results" / "verify.json"


class Prepared(NamedTuple):
    """One circuit in the cache, and its bundles."""

    logrows: int
    folder: CircuitFolder
    bundles: tuple[Path, ...]


def prepare(cache: Path, logrows: int) -> Prepared:
    """Build a circuit at that size, prove and sign its bundles; what is in the cache already stays."""
    home = cache / f"k{logrows}"
    done = home / "done"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        print(f"building a circuit at k={logrows} and {PROOFS} proofs", flush=True)
        folder = _build(cache, home, logrows)
        (home / "bundles").mkdir()
        for index in range(PROOFS):
            with tempfile.TemporaryDirectory() as work:
                bundle = make_bundle(
                    _job(folder, index), folder, ProvingFiles.of(folder.private), PROVIDER, Path(work), _limits()
                )
            (home / "bundles" / f"{index}.json").write_bytes(canonical.encode(bundle))
        done.touch()
    (path,) = (home / "circuits").iterdir()
    return Prepared(logrows, CircuitFolder(path), tuple(sorted((home / "bundles").iterdir())))


def _build(cache: Path, home: Path, logrows: int) -> CircuitFolder:
    onnx = _model()
    model, srs_file = parse_model(onnx), srs.srs_for(cache / "srs", logrows)
    run_args = RunArguments(
        input_scale=7,
        param_scale=7,
        scale_rebase_multiplier=1,
        lookup_min=-128,
        lookup_max=128,
        logrows=logrows,
        num_inner_cols=2,
        decomp_base=400,
        decomp_legs=4,
    )
    with tempfile.TemporaryDirectory() as work:
        keys = compiling.make_keys(model, run_args, srs_file, Path(work), _limits())
        compiled = compiling.finish(model, run_args, srs_file, keys, _limits())
        return registry.publish(home / "circuits", compiled, run_args, onnx, srs_file, is_open=True)


def _model() -> bytes:
    weights = np.linspace(-1, 1, WIDTH * WIDTH, dtype=np.float32).reshape(WIDTH, WIDTH)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "benchmark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString(deterministic=True))


def _job(folder: CircuitFolder, index: int) -> Job:
    manifest = folder.manifest()
    (spec,) = manifest.inputs
    values = quantise([index / 8, -0.5, 0.25, 1.0], scale=int(spec.scale), dtype=spec.dtype)
    domain = escrow_domain(CHAIN, ESCROW)
    terms = JobTerms(
        payer=PAYER,
        provider=PROVIDER.address,
        payee=PAYEE,
        token=TOKEN,
        amount=Uint256(1),
        circuit_id=manifest.circuit_id,
        rule=ProofRule.derive(manifest, VERIFIER),
        input_commitment=input_commitment(to_words(values)),
        fund_by=Timestamp(1),
        deadline=Timestamp(2),
        salt=Bytes32(index.to_bytes(32)),
    )
    acceptance = PROVIDER.sign_digest(Acceptance(job_id=terms.job_id(domain)).digest(domain))
    return Job(domain=domain, terms=terms, inputs=(values,), acceptance=acceptance)


def _limits() -> Limits:
    return Limits(wall_seconds=600, threads=ezkl_runner.usable_cores())


def bare(code: bytes, inputs: list[bytes], gas: int, count: int) -> tuple[float, float]:
    """Verifications a second, and milliseconds of processor each, of the loop that everything else is held against."""
    evm = pyrevm.EVM(gas_limit=2**60, spec_id="SHANGHAI")
    evm.insert_account_info(str(CODE_AT), pyrevm.AccountInfo(code=code))
    caller, to, expected = str(ORIGIN), str(CODE_AT), (1).to_bytes(32)
    started, spent = time.perf_counter(), time.process_time()
    for index in range(count):
        answer = evm.message_call(caller, to, calldata=inputs[index % len(inputs)], gas=gas, is_static=True)
        if bytes(answer) != expected:
            raise SystemExit("the code refuses an honest proof")
    return count / (time.perf_counter() - started), (time.process_time() - spent) * 1000 / count


def bare_on_all(code: bytes, inputs: list[bytes], gas: int, count: int, cores: int) -> float:
    """The sum of the rates of as many bare loops as there are cores, at the same time."""
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.starmap(bare, [(code, inputs, gas, 10)] * cores)  # every process is up and has pyrevm loaded
        return sum(rate for rate, _ in pool.starmap(bare, [(code, inputs, gas, count)] * cores, chunksize=1))


def bulk(prepared: Prepared, count: int, cores: int) -> dict[str, float]:
    """Verdicts a second over files, from the first one on, and what the processes' memory did."""
    files = ((str(index), prepared.bundles[index % PROOFS]) for index in range(count + cores))
    task = Task(str(prepared.folder.path.parent), canonical.encode(POLICY).decode(), "alarms")
    tally, memory = Tally(), {}
    started, spent = time.perf_counter(), _processor_seconds()
    first = 0.0
    for index, judged in enumerate(verify_all(task, files, jobs=cores, tally=tally)):
        if judged.verdict.outcome != "VALID":
            raise SystemExit(f"a good bundle is {judged.verdict.outcome}: {judged.verdict.message}")
        if index == cores - 1:
            first = time.perf_counter()
        if index in (count // 4, count):
            memory[index] = _resident()
    ended = time.perf_counter()
    return {
        "rate": count / (ended - first),
        "with_start": count / (ended - started),
        "mib_at_a_quarter": memory[count // 4],
        "mib_at_the_end": memory[count],
        "restarts": float(tally.restarts),
        "cpu": _processor_seconds() - spent,
    }


def _processor_seconds() -> float:
    """Of this process and of all its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _resident() -> float:
    """Resident memory of the children of this process and of itself, MiB."""
    me, total = os.getpid(), 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        if me in (int(fields[1]), int(status.parent.name)):
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return round(total / 2**20, 1)


def ezkl_loop(prepared: Prepared, count: int) -> float:
    """Verifications a second of `ezkl.verify` alone: the child's start and the files' making are not counted."""
    folder = prepared.folder
    with tempfile.TemporaryDirectory() as work:
        operations = []
        for index, path in enumerate(prepared.bundles):
            bundle = read_bundle(path)
            words = claimed_words(bundle)
            elements = [words[at : at + 32][::-1].hex() for at in range(0, len(words), 32)]
            proof = Path(work) / f"{index}.json"
            proof.write_text(json.dumps(EMPTY_PROOF | {"instances": [elements], "proof": list(bundle.proof)}))
            paths = {"proof": proof, "settings": folder.settings, "vk": folder.vk, "srs": folder.srs_k1}
            operations.append({"name": "verify", **{name: str(each) for name, each in paths.items()}})
        outcomes = ezkl_runner.require([operations[index % PROOFS] for index in range(count + 1)], _limits())
    return count / sum(outcome.seconds for outcome in outcomes[1:])


def measure(prepared: Prepared, count: int, repeats: int, cores: int) -> dict[str, Any]:
    """All four, turn by turn; rates are medians, ratios are of the same turn."""
    circuit = prepared.folder.circuit()
    bundles = [read_bundle(path) for path in prepared.bundles]
    inputs = [calldata(bundle.proof, claimed_words(bundle)) for bundle in bundles]
    gas = int(bundles[0].terms.rule.gas_cap) + 100_000
    turns: list[dict[str, float]] = []
    for turn in range(repeats):
        load = os.getloadavg()[0]
        start = bulk(prepared, cores * 4, cores)["cpu"]
        ones, manies, alls = [], [], []
        for _ in range(AGAIN):
            ones.append(bare(circuit.code, inputs, gas, count // 2))
            manies.append(bulk(prepared, count, cores))
            alls.append(bare_on_all(circuit.code, inputs, gas, count // cores, cores))
        one, cpu_bare, each = max(rate for rate, _ in ones), min(cpu for _, cpu in ones), max(alls)
        cpu_bulk = (min(many.pop("cpu") for many in manies) - start) * 1000 / (count - cores * 4)
        found = max(manies, key=lambda many: many["rate"])
        ezkl = ezkl_loop(prepared, min(count, 100))
        turns.append(
            {
                "bare": one,
                "bare_n": each,
                "ezkl": ezkl,
                **found,
                "of_cores_x_bare": found["rate"] / (cores * one),
                "of_bare_n": found["rate"] / each,
                "of_ezkl": found["rate"] / ezkl,
                "one_core_of_ezkl": found["rate"] / cores / ezkl,
                "cpu_ms_bare": cpu_bare,
                "cpu_ms_bulk": cpu_bulk,
                "cpu_share": cpu_bare / cpu_bulk,
                "load": load,
            }
        )
        print(f"k={prepared.logrows} turn {turn + 1}:", {name: round(value, 2) for name, value in turns[-1].items()})
    medians = {name: round(statistics.median(turn[name] for turn in turns), 3) for name in turns[0]}
    return {
        "logrows": prepared.logrows,
        "code_bytes": len(circuit.code),
        "gas": int(circuit.manifest.evm.gas),
        "median": medians,
        "turns": [{name: round(value, 3) for name, value in turn.items()} for turn in turns],
    }


def import_seconds() -> list[float]:
    """`import verifier` in fresh processes, as the interpreter itself counts it."""
    script = "import time; a = time.perf_counter(); import verifier; print(time.perf_counter() - a)"
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, check=True) for _ in range(7)]
    return sorted(round(float(run.stdout), 4) for run in runs)


def main() -> None:
    """Prepare, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "opgate-bench")
    parser.add_argument("--only-prepare", action="store_true")
    chosen = parser.parse_args()
    prepared = [prepare(chosen.cache, logrows) for logrows in LOGROWS]
    if chosen.only_prepare:
        return
    cores = len(os.sched_getaffinity(0))
    versions = {name: importlib.metadata.version(name) for name in ("opgate", "pyrevm", "ezkl", "msgspec", "rfc8785")}
    result = {
        "machine": {"processor": platform.machine(), "cores": cores, "python": platform.python_version()},
        "versions": versions,
        "bundles": chosen.bundles,
        "import_verifier_seconds": import_seconds(),
        "circuits": [measure(one, chosen.bundles, chosen.repeats, cores) for one in prepared],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {RESULT.name}")


if __name__ == "__main__":
    main()
