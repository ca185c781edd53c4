"""Sets the stage: network, circuits, keys, policy, providers; what stands at the end is what real parties have."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifier.statement import canonical
from workers.dev.network import Network

if TYPE_CHECKING:
    import subprocess

    from verifier.statement.scalars import Address
    from workers.demo.actors import Actors
    from workers.demo.report import Teller

PRICE = 5 * 10**18
JOB_SECONDS = 15
"""The providers' one time limit. Deadlines follow from it: they are short here, so that nobody waits long for one."""
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"


@dataclass
class Stage:
    """Everything that the story needs; each party has a home of its own below `home`."""

    actors: Actors
    tell: Teller
    home: Path
    network: Network
    circuit_id: str = ""
    urls: dict[str, str] = field(default_factory=dict)
    other_build: subprocess.Popen[bytes] | None = None

    def key(self, role: str) -> Path:
        """The key file of one of the network's accounts."""
        return Path(self.network.accounts[role])

    def address(self, role: str) -> Address:
        """The address of one of the network's accounts."""
        return self.network.addresses[role]

    def party(self, name: str) -> Path:
        """The home of a party."""
        folder = self.home / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @property
    def payer_circuits(self) -> Path:
        """The circuits that the payer holds."""
        return self.party("payer") / "payer" / "circuits"

    @property
    def policy(self) -> Path:
        """The payer's policy."""
        return self.home / "policy.toml"

    def as_owner(self) -> dict[str, str]:
        """What the model owner's shell has exported."""
        return {"OPGATE_HOME": str(self.party("owner"))}

    def as_payer(self, provider: str = "provider") -> dict[str, str]:
        """What the payer's shell has exported."""
        return {
            "OPGATE_HOME": str(self.party("payer")),
            "OPGATE_RPC_URL": self.network.rpc,
            "OPGATE_POLICY": str(self.policy),
            "OPGATE_KEYFILE": str(self.key("payer")),
            "OPGATE_PROVIDER_URL": self.urls.get(provider, ""),
        }

    def as_provider(self, name: str) -> dict[str, str]:
        """What a provider's unit file sets."""
        return {
            "OPGATE_HOME": str(self.party(name)),
            "OPGATE_RPC_URL": self.network.rpc,
            "OPGATE_BROKER_URL": self.network.redis,
            "OPGATE_ESCROW": str(self.network.escrow),
            "OPGATE_TOKEN": str(self.network.token),
            "OPGATE_PAYEE": str(self.address("payee")),
            "OPGATE_KEYFILE": str(self.key("provider")),
            "OPGATE_PRICE": str(PRICE),
            "OPGATE_JOB_SECONDS": str(JOB_SECONDS),
        }


def set_stage(actors: Actors, tell: Teller, home: Path) -> Stage:
    """Start the network, build the circuit, let the payer rebuild it, start a provider, its worker, and another one."""
    tell.title("The stage: every actor is a process of its own")
    started = time.monotonic()
    actors.start("network", "dev", "--home", str(home / "network"), "--json", environment={})
    with tell.doing("starting Redis and the chain, deploying token and escrow", 5):
        network = canonical.decode(Network, actors.wait_for("network", "{").encode(), where="opgate dev")
    tell.line("network", f"chain {network.chain_id} at {network.rpc}, OPG escrow {network.escrow}", since=started)
    stage = Stage(actors, tell, home, network)
    _make_circuit(stage)
    write_policy(stage)
    with tell.doing("the payer rebuilds the circuit", 12):
        _rebuild(stage)
    with tell.doing("two providers deploy the verifier and open", 15):
        _open_shops(stage)
    return stage


def write_policy(stage: Stage) -> None:
    """The payer's policy: this escrow, rebuilt circuits only, the owner's fidelity certificate, small amounts."""
    stage.policy.write_text(
        f"""schema = "opgate/policy/1"

[chains]
dev_chains = [{stage.network.chain_id}]  # a development SRS is good enough here: the money is play money

[[chains.escrows]]
chain_id = {stage.network.chain_id}
escrow = "{stage.network.escrow}"
token = "{stage.network.token}"

[circuits."*"]
assurance = "rebuilt"
max_error = "0.05"
min_agreement = "0.95"

[records]
keys = ["{stage.address("payer")}"]  # who rebuilt it: the payer itself
owners = ["{stage.address("owner")}"]

[amounts]
per_job = "{2 * PRICE}"
""",
        encoding="utf-8",
    )


def _build(stage: Stage, model: str) -> subprocess.Popen[bytes]:
    words: tuple[str, ...] = ("circuit", "build", str(EXAMPLE / model), "--data", str(EXAMPLE / "samples.npz"))
    words += ("--name", f"digits, {model}", "--owner-key", str(stage.key("owner")))
    return stage.actors.begin(*words, environment=stage.as_owner())


def _make_circuit(stage: Stage) -> None:
    started = time.monotonic()
    with stage.tell.doing("the owner builds a circuit of the model", 12):
        built = stage.actors.finish(_build(stage, "model.onnx"))
    stage.circuit_id = built["circuit_id"]
    stage.tell.line("owner", f"model.onnx is circuit {stage.circuit_id[:18]}…, {_words(built)}", since=started)
    stage.other_build = _build(stage, "other.onnx")


def _words(built: dict[str, Any]) -> str:
    cost, fidelity = built["cost"]["measured"], built["fidelity"]
    return (
        f"{cost['code_bytes']:,} bytes of code, {float(cost['prove_seconds']):.1f} s and {cost['gas']:,} gas a proof, "
        f"same argmax on {float(fidelity['agreement']):.0%} of {fidelity['samples']} samples"
    )


def _rebuild(stage: Stage) -> None:
    """The payer gets the public files and rebuilds them; its policy asks for the record that it signs."""
    started = time.monotonic()
    for party, audience in (("payer", "payer"), ("provider", "provider"), ("vanishing", "provider")):
        folder = stage.party(party) / ("payer" if audience == "payer" else "provider")
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(folder / "circuits" / stage.circuit_id, ignore_errors=True)
        words = ("export", stage.circuit_id, str(folder / "circuits"), "--for", audience)
        stage.actors.call("circuit", *words, environment=stage.as_owner())
    rebuild = ("circuit", "rebuild", stage.circuit_id, "--circuits", str(stage.payer_circuits))
    stage.actors.call(*rebuild, "--key", str(stage.key("payer")), environment=stage.as_payer())
    stage.tell.line("payer", "rebuilt the circuit from the ONNX file, byte for byte, and signed that", since=started)


def _open_shops(stage: Stage) -> None:
    started = time.monotonic()
    for name in ("provider", "vanishing"):
        stage.actors.call("provider", "deploy", stage.circuit_id, environment=stage.as_provider(name))
    stage.actors.start("worker", "worker", environment=stage.as_provider("provider"))
    for name in ("provider", "vanishing"):
        stage.actors.start(name, "serve", "--port", "0", environment=stage.as_provider(name))
    for name in ("provider", "vanishing"):
        line = stage.actors.wait_for(name, "opgate serves at ")
        stage.urls[name] = line.removeprefix("opgate serves at ").strip()
    stage.tell.line("provider", f"serves at {stage.urls['provider']}, a Celery worker proves", since=started)
