"""Trains a digits classifier on scikit-learn's own data set and writes it as ONNX: 8x8 pixels in, ten logits out.

Run it as ``python examples/digits/train.py``. It writes beside itself `model.onnx`; `other.onnx`, the same shape with
other weights, for the demo's attack with a foreign proof; `samples.npz`, images that neither has seen; and
`input.json`, one of them. The files are committed: the circuit's identity hangs on their bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).parent
HIDDEN = 16
SAMPLES = 256
BRIGHTEST = 16.0
"""Pixels are 0 to 16; the division is folded into the first layer, so that the circuit does not compute it."""


def train(images: npt.NDArray[Any], labels: npt.NDArray[Any], seed: int) -> MLPClassifier:
    """A network with one hidden layer."""
    network = MLPClassifier((HIDDEN,), alpha=0.01, max_iter=2000, random_state=seed)
    network.fit(images / BRIGHTEST, labels)
    return network


def to_onnx(network: MLPClassifier) -> onnx.ModelProto:
    """The network as Gemm, Relu, Gemm: logits, without the softmax and argmax that would double a proof's cost."""
    first, second = (weights.astype(np.float32) for weights in network.coefs_)
    stored = {
        "w1": first / np.float32(BRIGHTEST),
        "b1": network.intercepts_[0].astype(np.float32),
        "w2": second,
        "b2": network.intercepts_[1].astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["pixels", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
        ],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, first.shape[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, second.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="opgate")
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Train both networks and write the four files."""
    images, labels = load_digits(return_X_y=True)
    seen, unseen, seen_labels, unseen_labels = train_test_split(images, labels, test_size=0.3, random_state=0)
    for name, seed in (("model.onnx", 0), ("other.onnx", 1)):
        network = train(seen, seen_labels, seed)
        (HERE / name).write_bytes(to_onnx(network).SerializeToString(deterministic=True))
        accuracy = network.score(unseen / BRIGHTEST, unseen_labels)
        print(f"{name}: {accuracy:.1%} of {len(unseen)} unseen images right")
    np.savez_compressed(HERE / "samples.npz", pixels=unseen[:SAMPLES].astype(np.uint8))
    one = {"input_data": [unseen[0].tolist()]}
    (HERE / "input.json").write_text(json.dumps(one) + "\n", encoding="utf-8")
    print(f"input.json: an image of a {unseen_labels[0]}")


if __name__ == "__main__":
    main()
