"""The second opinion `ezkl`: heard by the command on a real circuit, and none from files that are another circuit's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from circuits.build import Built
from circuits.ezkl_runner import Limits
from circuits.opinion import second_opinion
from prover.bundle import make_bundle
from prover.prove import ProvingFiles
from tests.circuits.test_prover import DOMAIN, accepted_job
from verifier.cli.root import run
from verifier.errors import CircuitError, OpgateError
from verifier.payment.keys import Key
from verifier.policy import Opinions, Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle
from verifier.statement.scalars import TensorInt, Text


@pytest.fixture(scope="module")
def bundle(tiny: Built, key: Key, tmp_path_factory: pytest.TempPathFactory) -> ProofBundle:
    work = tmp_path_factory.mktemp("work")
    job = accepted_job(tiny.folder, key)
    return make_bundle(job, tiny.folder, ProvingFiles.of(tiny.folder.private), key, work, Limits())


def test_the_command_hears_ezkl_and_the_policy_may_ask_for_it(
    bundle: ProofBundle, tiny: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = replace(Policy.of_provider(DOMAIN, bundle.terms), opinions=Opinions(required=(Text("ezkl"),)))
    (tmp_path / "policy.json").write_bytes(canonical.encode(asking))
    (tmp_path / "bundle.json").write_bytes(canonical.encode(bundle))
    words = ["verify", str(tmp_path / "bundle.json"), "--circuits", str(tiny.folder.path.parent)]
    words += ["--policy", str(tmp_path / "policy.json"), "--home", str(tmp_path), "--json"]
    assert run(words) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "V8-missing"
    assert run([*words, "--second-opinion", "ezkl"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "VALID"
    assert not (tmp_path / "alarms").exists()


def test_ezkl_refuses_another_claim(bundle: ProofBundle, tiny: Built) -> None:
    """The instances are the claim's, whatever a proof file would say of its own."""
    first, *rest = bundle.outputs[0]
    other = replace(bundle, outputs=((TensorInt(first + 1), *rest),))
    assert second_opinion(bundle, tiny.folder.path)
    assert not second_opinion(other, tiny.folder.path)


@pytest.mark.parametrize("name", ["settings.json", "vk.key", "kzg1.srs"])
def test_files_that_are_not_the_manifests_give_no_opinion(
    name: str, bundle: ProofBundle, tiny: Built, tmp_path: Path
) -> None:
    """Trap: ezkl takes altered settings and an SRS of zeros, under which anything verifies, without a word."""
    folder = tmp_path / tiny.folder.path.name
    shutil.copytree(tiny.folder.path, folder, ignore=shutil.ignore_patterns("private"))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CircuitError, match="C-opinion"):
        second_opinion(bundle, folder)
    (folder / name).unlink()
    with pytest.raises(OpgateError, match="V0-file"):
        second_opinion(bundle, folder)
