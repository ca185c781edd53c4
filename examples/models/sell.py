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
BUILD_SECONDS = 1200
SEARCH_SECONDS = "240"
"""Of searching for cheap run arguments, at the most: ten are too few for a recurrent network, or on a busy machine."""


def open_network(actors: Actors) -> Stage:
    """Redis, a development chain with token and escrow, the payer's policy, a provider and its worker."""
    home = actors.stage
    actors.start("network", "dev", "--home", str(home / "network"), "--json", environment={})
    network = canonical.decode(Network, actors.wait_for("network", "{").encode(), where="opgate dev")
    stage = Stage(actors, Teller(quiet=True), home, network)
    write_policy(stage)
    # these outputs have units of their own: what the owner's certificate promises is enough for this payer
    policy = stage.policy.read_text(encoding="utf-8").replace('max_error = "0.05"', 'max_error = "1"')
    stage.policy.write_text(policy.replace('min_agreement = "0.95"', 'min_agreement = "0.9"'), encoding="utf-8")
    for party in ("payer", "provider"):
        for folder in (stage.party(party) / party, stage.party(party) / party / "circuits"):
            folder.mkdir(mode=0o700)
    environment = stage.as_provider("provider") | {"OPGATE_JOB_SECONDS": str(JOB_SECONDS)}
    actors.start("worker", "worker", environment=environment)
    actors.start("provider", "serve", "--port", "0", environment=environment)
    line = actors.wait_for("provider", "opgate serves at ")
    stage.urls["provider"] = line.removeprefix("opgate serves at ").strip()
    return stage


def make_circuit(stage: Stage, folder: Path) -> dict[str, Any]:
    """The owner builds; payer and provider get their files; the payer rebuilds and signs that; the code is deployed."""
    call, model, samples = stage.actors.call, str(folder / "model.onnx"), str(folder / "samples.npz")
    words = ("circuit", "build", model, "--data", samples, "--name", folder.name, "--max-seconds", SEARCH_SECONDS)
    building = stage.actors.begin(*words, "--owner-key", str(stage.key("owner")), environment=stage.as_owner())
    building.wait(timeout=BUILD_SECONDS)
    built = stage.actors.finish(building)
    circuit_id = str(built["circuit_id"])
    for party in ("payer", "provider"):
        target = str(stage.party(party) / party / "circuits")
        call("circuit", "export", circuit_id, target, "--for", party, environment=stage.as_owner())
    words = ("circuit", "rebuild", circuit_id, "--circuits", str(stage.payer_circuits))
    call(*words, "--key", str(stage.key("payer")), environment=stage.as_payer())
    call("provider", "deploy", circuit_id, environment=stage.as_provider("provider"))
    return built


def sell(stage: Stage, folder: Path) -> dict[str, Any]:
    """One model from its file to a closed job, in words."""
    started = time.monotonic()
    built = make_circuit(stage, folder)
    made = time.monotonic()
    words = ("pay", "buy", "--circuit", str(built["circuit_id"]), "--input", str(folder / "input.json"))
    job = stage.actors.call(*words, environment=stage.as_payer())
    cost = built["cost"]["measured"]
    return {
        "model": folder.name,
        "circuit_id": built["circuit_id"],
        "rewrites": built["fidelity"]["rewrites"],
        "max_error": built["fidelity"]["max_error"],
        "prove_seconds": cost["prove_seconds"],
        "gas": cost["gas"],
        "circuit_seconds": round(made - started, 1),
        "job_seconds": round(time.monotonic() - made, 1),
        "job_id": job["job_id"],
        "closed_by": job["closed_by"],
        "paid_wei": job["paid_wei"],
    }


def main() -> int:
    """Sell one proved inference of each model named, or of all. Exit 1 where one was not paid."""
    folders = {path.parent.name: path.parent for path in sorted(HERE.glob("*/model.onnx"))}
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(folders))
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object a model")
    asked = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="opgate-sell-") as home, on_stage(Path(home) / "stage") as actors:
        stage = open_network(actors)
        for name in asked.names or folders:
            try:
                sale = sell(stage, folders[name])
            except Refused as error:
                failed += 1
                print(f"{name:<20} not sold: {error}", flush=True)
                continue
            words = (
                f"{name:<20} paid, closed by {sale['closed_by']}: {float(sale['prove_seconds']):.1f} s and "
                f"{sale['gas']:,} gas a proof, job in {sale['job_seconds']:.0f} s"
            )
            print(json.dumps(sale) if asked.as_json else words, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
