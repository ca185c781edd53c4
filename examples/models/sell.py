"""Takes models from their ONNX file to a paid job on this machine: network, circuit, provider, purchase, audit.

Run ``python examples/models/sell.py`` after `make setup`; names choose among the folders beside this file. Each party
is a process of its own and does what the walk in the README does: the owner checks and builds, the payer rebuilds and
buys, the provider's worker proves, the escrow pays. State goes to a new folder, which ends with the run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from verifier.statement import canonical
from workers.demo.actors import Actors, Refused, on_stage
from workers.demo.report import Teller
from workers.demo.setting import Stage, write_policy
from workers.dev.network import Network

HERE = Path(__file__).parent
JOB_SECONDS = 60
SEARCH_SECONDS = "20"
"""Of searching for cheap run arguments: more makes proofs cheaper yet."""


def open_network(actors: Actors) -> Stage:
    """Redis, a development chain with token and escrow, and the payer's policy."""
    home = actors.stage
    actors.start("network", "dev", "--home", str(home / "network"), "--json", environment={})
    network = canonical.decode(Network, actors.wait_for("network", "{").encode(), where="opgate dev")
    stage = Stage(actors, Teller(quiet=True), home, network)
    write_policy(stage)
    return stage


def make_circuit(stage: Stage, folder: Path) -> tuple[str, dict[str, Any]]:
    """The owner checks and builds; payer and provider get their files; the payer rebuilds and signs that."""
    call, model, samples = stage.actors.call, str(folder / "model.onnx"), str(folder / "samples.npz")
    report = call("circuit", "check", model, "--data", samples, environment=stage.as_owner())
    build = ("circuit", "build", model, "--data", samples, "--name", folder.name, "--max-seconds", SEARCH_SECONDS)
    built = call(*build, "--owner-key", str(stage.key("owner")), environment=stage.as_owner())
    circuit_id = str(built["circuit_id"])
    for party in ("payer", "provider"):
        target = stage.party(party) / party / "circuits"
        target.parent.mkdir(mode=0o700, exist_ok=True)
        call("circuit", "export", circuit_id, str(target), "--for", party, environment=stage.as_owner())
    rebuild = ("circuit", "rebuild", circuit_id, "--circuits", str(stage.payer_circuits))
    call(*rebuild, "--key", str(stage.key("payer")), environment=stage.as_payer())
    call("provider", "deploy", circuit_id, environment=stage.as_provider("provider"))
    return circuit_id, report | {"built": built}


def open_shop(stage: Stage) -> None:
    """The provider serves every circuit that it holds; one worker proves."""
    environment = stage.as_provider("provider") | {"OPGATE_JOB_SECONDS": str(JOB_SECONDS)}
    stage.actors.start("worker", "worker", environment=environment)
    stage.actors.start("provider", "serve", "--port", "0", environment=environment)
    line = stage.actors.wait_for("provider", "opgate serves at ")
    stage.urls["provider"] = line.removeprefix("opgate serves at ").strip()


def main() -> int:
    """Sell one proved inference of each model named, or of all."""
    folders = {path.parent.name: path.parent for path in sorted(HERE.glob("*/model.onnx"))}
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(folders))
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object a model")
    asked = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="opgate-sell-") as home, on_stage(Path(home) / "stage") as actors:
        stage = open_network(actors)
        made: dict[str, tuple[str, dict[str, Any]]] = {}
        for name in asked.names or folders:
            started = time.monotonic()
            try:
                made[name] = make_circuit(stage, folders[name])
            except Refused as error:
                failed += 1
                print(f"{name:<20} no circuit: {error}", flush=True)
                continue
            if not asked.as_json:
                print(f"{name:<20} {made[name][1]['verdict']}, built in {time.monotonic() - started:.0f} s", flush=True)
        if made:
            open_shop(stage)
        for name, (circuit_id, report) in made.items():
            words = ("pay", "buy", "--circuit", circuit_id, "--input", str(folders[name] / "input.json"))
            try:
                job = actors.call(*words, environment=stage.as_payer())
            except Refused as error:
                failed += 1
                print(f"{name:<20} not sold: {error}", flush=True)
                continue
            failed += tell(name, report, job, as_json=asked.as_json)
    return 1 if failed else 0


def tell(name: str, report: dict[str, Any], job: dict[str, Any], *, as_json: bool) -> int:
    """Print one sale; 1 where it was not closed."""
    cost = report["built"]["cost"]["measured"]
    sale = {
        "model": name,
        "verdict": report["verdict"],
        "rewrites": report["rewrites"],
        "circuit_id": report["built"]["circuit_id"],
        "prove_seconds": cost["prove_seconds"],
        "gas": cost["gas"],
        "closed_by": job.get("closed_by"),
        "outputs": job.get("outputs"),
    }
    if as_json:
        print(json.dumps(sale), flush=True)
    else:
        seconds = float(cost["prove_seconds"])
        print(f"{name:<20} closed by {sale['closed_by']}: {seconds:.1f} s, {cost['gas']:,} gas a proof", flush=True)
    return 0 if sale["closed_by"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
