"""A circuit that no escrow takes: built on request, proved and verified like any other, and never for sale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from circuits import compile as compiling
from circuits.build import Built, Wishes, build
from circuits.ezkl_runner import Limits
from prover.bundle import make_bundle
from prover.prove import ProvingFiles
from tests.circuits.test_prover import DOMAIN, accepted_job
from verifier.bundles import parse_bundle
from verifier.errors import CircuitError
from verifier.payment.keys import Key
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.manifest import MAX_INSTANCES
from verifier.verify import verify

WIDTH = 520
"""Twice that and the job's limbs are more values than an escrow takes."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, srs_store: Path) -> Built:
    folder = tmp_path_factory.mktemp("wide")
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    np.savez(folder / "rows.npz", x=np.random.default_rng(0).uniform(-1, 1, (4, WIDTH)).astype(np.float32))
    return build(
        folder / "model.onnx",
        folder / "rows.npz",
        store=folder / "circuits",
        srs_store=srs_store,
        wishes=Wishes(target="offchain"),
    )


def test_it_is_proved_and_verified_from_end_to_end(wide: Built, key: Key, tmp_path: Path) -> None:
    circuit = wide.folder.circuit()
    assert circuit.manifest.n_instances > MAX_INSTANCES
    values = tuple(np.random.default_rng(1).uniform(-1, 1, WIDTH).tolist())
    job = accepted_job(wide.folder, key, values)
    bundle = make_bundle(job, wide.folder, ProvingFiles.of(wide.folder.private), key, tmp_path, Limits())
    verdict = verify(parse_bundle(canonical.encode(bundle)), circuit, Policy.of_provider(DOMAIN, bundle.terms))
    assert (verdict.outcome, verdict.code) == ("VALID", None)


def test_no_escrow_would_take_it(wide: Built) -> None:
    """The provider's service refuses to quote such a circuit: tests/workers/test_offchain.py."""
    with pytest.raises(CircuitError) as caught:
        compiling.check_closable(wide.compiled.manifest, wide.folder.circuit().code)
    assert caught.value.code == "C-closable"
