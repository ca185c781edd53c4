"""Trains twelve small models with PyTorch, scikit-learn, XGBoost and LightGBM and exports each with its own exporter.

Run ``python examples/models/train.py`` in an environment with `examples/models/requirements.txt`; all data come with
scikit-learn or are made here. Each model gets a folder beside this file: `model.onnx`, as the exporter writes it,
`samples.npz`, inputs that training did not see, and `input.json`, one of them. The files are committed, so that the
second command, ``python examples/models/sell.py``, needs none of these libraries.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from torch import nn
from xgboost import XGBClassifier, XGBRegressor

Array = npt.NDArray[Any]
Made = tuple[bytes, Array, str]
HERE = Path(__file__).parent
SAMPLES = 96
EPOCHS = 200


def split(features: Array, targets: Array) -> tuple[Array, Array, Array, Array]:
    """Seen and unseen rows, standardised by the seen ones: what goes into each model is about -3 to 3."""
    seen, unseen, known, unknown = train_test_split(features, targets, test_size=0.4, random_state=0)
    scaler = StandardScaler().fit(seen)
    return scaler.transform(seen).astype(np.float32), scaler.transform(unseen).astype(np.float32), known, unknown


def fit(network: nn.Module, rows: Array, targets: Array, loss: Callable[[Any, Any], Any]) -> nn.Module:
    """Train a network on all rows at once."""
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    given, wanted = torch.from_numpy(rows), torch.from_numpy(targets)
    for _ in range(EPOCHS):
        optimiser.zero_grad()
        loss(network(given), wanted).backward()
        optimiser.step()
    return network.eval()


def export(network: nn.Module, row: Array) -> bytes:
    """PyTorch's exporter with a fixed batch of one."""
    written = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.from_numpy(row),),
        written,
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["y"],
    )
    return written.getvalue()


def accuracy(network: nn.Module, rows: Array, targets: Array) -> str:
    """The share of unseen rows that a classifier gets right."""
    with torch.no_grad():
        found = network(torch.from_numpy(rows)).argmax(dim=1).numpy()
    return f"{(found == targets).mean():.1%} of {len(rows)} right"


def torch_mlp() -> Made:
    """Iris by a perceptron."""
    seen, unseen, known, unknown = split(*load_iris(return_X_y=True))
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    fit(network, seen, known, nn.CrossEntropyLoss())
    return export(network, unseen[:1]), unseen, accuracy(network, unseen, unknown)


def torch_batchnorm() -> Made:
    """Tumours by a perceptron with batch normalisation and dropout."""
    features, targets = load_breast_cancer(return_X_y=True)
    seen, unseen, known, unknown = split(features[:, :10], targets)
    network = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
    fit(network, seen, known, nn.CrossEntropyLoss())
    return export(network, unseen[:1]), unseen, accuracy(network, unseen, unknown)


def torch_cnn() -> Made:
    """Digits by a small convolution with padded pooling, which ezkl computes wrongly as it stands."""
    images, targets = load_digits(return_X_y=True)
    pixels = (images / 8 - 1).astype(np.float32).reshape(-1, 1, 8, 8)
    seen, unseen, known, unknown = train_test_split(pixels, targets, test_size=0.4, random_state=0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(64, 10)
    )
    fit(network, seen, known, nn.CrossEntropyLoss())
    return export(network, unseen[:1]), unseen, accuracy(network, unseen, unknown)


class Forecast(nn.Module):
    """The next value of a series from six before it."""

    def __init__(self) -> None:
        """A recurrent layer and a linear one."""
        super().__init__()
        self.recurrent = nn.RNN(1, 3, batch_first=True)
        self.last = nn.Linear(3, 1)

    def forward(self, series: Any) -> Any:
        """Series [n, 6, 1] to [n, 1]."""
        states, _ = self.recurrent(series)
        return self.last(states[:, -1])


def torch_rnn() -> Made:
    """A noisy sine, one step ahead, by a recurrent network."""
    chosen = np.random.default_rng(0)
    wave = np.sin(np.arange(700) / 5) + chosen.normal(0, 0.05, 700)
    series = np.stack([wave[start : start + 7] for start in range(690)]).astype(np.float32)
    seen, unseen = series[:400], series[400:]
    network = fit(Forecast(), seen[:, :6, None].copy(), seen[:, 6:].copy(), nn.MSELoss())
    with torch.no_grad():
        found = network(torch.from_numpy(unseen[:, :6, None].copy())).numpy()
    error = float(np.abs(found - unseen[:, 6:]).mean())
    return export(network, unseen[:1, :6, None].copy()), unseen[:, :6, None], f"mean error {error:.3f}"


def sklearn_logistic() -> Made:
    """Tumours by logistic regression behind a scaler: a pipeline with labels, ZipMap and probabilities."""
    features, targets = load_breast_cancer(return_X_y=True)
    seen, unseen, known, unknown = split(features[:, :10], targets)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(seen, known)
    return to_onnx(model, unseen[:1]).SerializeToString(), unseen, f"{model.score(unseen, unknown):.1%} right"


def sklearn_forest() -> Made:
    """Iris by a random forest."""
    seen, unseen, known, unknown = split(*load_iris(return_X_y=True))
    model = RandomForestClassifier(5, max_depth=3, random_state=0).fit(seen, known)
    return to_onnx(model, unseen[:1]).SerializeToString(), unseen, f"{model.score(unseen, unknown):.1%} right"


def sklearn_boosting() -> Made:
    """Diabetes by boosted trees."""
    seen, unseen, known, unknown = split(*load_diabetes(return_X_y=True))
    model = GradientBoostingRegressor(n_estimators=8, max_depth=2, random_state=0).fit(seen, known / 100)
    return to_onnx(model, unseen[:1]).SerializeToString(), unseen, f"R2 {model.score(unseen, unknown / 100):.2f}"


def sklearn_svr() -> Made:
    """Diabetes by support vectors with a polynomial kernel."""
    seen, unseen, known, unknown = split(*load_diabetes(return_X_y=True))
    few, wanted = seen[:40], known[:40] / 100
    model = SVR(kernel="poly", degree=2, gamma=0.1, coef0=1.0).fit(few, wanted)
    return to_onnx(model, unseen[:1]).SerializeToString(), unseen, f"R2 {model.score(unseen, unknown / 100):.2f}"


def _xgboost(model: Any, columns: int) -> bytes:
    converted = convert_xgboost(model, initial_types=[("x", FloatTensorType([None, columns]))])
    return bytes(converted.SerializeToString())


def xgboost_classifier() -> Made:
    """Iris by XGBoost."""
    seen, unseen, known, unknown = split(*load_iris(return_X_y=True))
    model = XGBClassifier(n_estimators=3, max_depth=2, random_state=0).fit(seen, known)
    return _xgboost(model, 4), unseen, f"{model.score(unseen, unknown):.1%} right"


def xgboost_regressor() -> Made:
    """Diabetes by XGBoost."""
    seen, unseen, known, unknown = split(*load_diabetes(return_X_y=True))
    model = XGBRegressor(n_estimators=6, max_depth=2, random_state=0).fit(seen, known / 100)
    return _xgboost(model, 10), unseen, f"R2 {model.score(unseen, unknown / 100):.2f}"


def _lightgbm(model: Any, columns: int) -> bytes:
    converted = convert_lightgbm(model, initial_types=[("x", FloatTensorType([None, columns]))], target_opset=15)
    return bytes(converted.SerializeToString())


def lightgbm_classifier() -> Made:
    """Tumours by LightGBM: labels, a ZipMap, and probabilities by a sigmoid over trees."""
    seen, unseen, known, unknown = split(*load_breast_cancer(return_X_y=True))
    model = LGBMClassifier(n_estimators=6, num_leaves=4, random_state=0, verbose=-1).fit(seen, known)
    return _lightgbm(model, seen.shape[1]), unseen, f"{model.score(unseen, unknown):.1%} right"


def lightgbm_regressor() -> Made:
    """Diabetes by LightGBM."""
    seen, unseen, known, unknown = split(*load_diabetes(return_X_y=True))
    model = LGBMRegressor(n_estimators=12, num_leaves=4, random_state=0, verbose=-1).fit(seen, known / 100)
    return _lightgbm(model, seen.shape[1]), unseen, f"R2 {model.score(unseen, unknown / 100):.2f}"


MODELS: tuple[Callable[[], Made], ...] = (
    torch_mlp,
    torch_batchnorm,
    torch_cnn,
    torch_rnn,
    sklearn_logistic,
    sklearn_forest,
    sklearn_boosting,
    sklearn_svr,
    xgboost_classifier,
    xgboost_regressor,
    lightgbm_classifier,
    lightgbm_regressor,
)


def main() -> None:
    """Train, export and write the models named, or all."""
    names = {model.__name__: model for model in MODELS}
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    for name in parser.parse_args().names or names:
        torch.manual_seed(0)
        content, rows, quality = names[name]()
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(content)
        samples = np.ascontiguousarray(rows[:SAMPLES], np.float32)
        np.savez_compressed(folder / "samples.npz", x=samples)
        one = {"input_data": [samples[0].reshape(-1).astype(float).round(6).tolist()]}
        (folder / "input.json").write_text(json.dumps(one) + "\n", encoding="utf-8")
        print(f"{name:<20} {len(content):>7,} bytes, {quality}")


if __name__ == "__main__":
    main()
