"""Throws broken ONNX at `opgate circuit check`: ``python -m tests.circuits.check.fuzz_check MINUTES [SEED]``.

Bytes flipped, cut and spliced; valid models with nodes, attributes, shapes and edges changed. Whatever comes in, a
report comes out, in time, with a reason and one of our codes; a failure prints the seed that makes it again.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import helper

from circuits.check.preflight import check
from circuits.check.report import Report
from tests.circuits.operators.corpus import corpus

MOST_SECONDS = 60.0
SEEDS = ("Gemm-0", "Conv-odd-s1", "MaxPool-one-s2-mixed", "Gather-negative", "OneHot-5", "ReduceMean-keep1", "Where")


def models() -> list[bytes]:
    """Valid models to start from."""
    wanted = {case.name: case.model for case in corpus()}
    return [wanted[name] for name in SEEDS]


def flip(raw: bytes, chosen: random.Random) -> bytes:
    """Some bytes become others."""
    changed = bytearray(raw)
    for _ in range(chosen.randint(1, 8)):
        changed[chosen.randrange(len(changed))] = chosen.randrange(256)
    return bytes(changed)


def cut(raw: bytes, chosen: random.Random) -> bytes:
    """The end is missing."""
    return raw[: chosen.randrange(len(raw))]


def splice(raw: bytes, chosen: random.Random) -> bytes:
    """A piece of it stands where another was."""
    start, end = sorted(chosen.randrange(len(raw)) for _ in range(2))
    place = chosen.randrange(len(raw))
    return raw[:place] + raw[start:end] * chosen.randint(1, 3) + raw[place:]


def rewire(raw: bytes, chosen: random.Random) -> bytes:
    """Nodes, edges, attributes, shapes and constants of a valid model are changed: loops among them."""
    proto = onnx.load_model_from_string(raw)
    graph = proto.graph
    node = chosen.choice(graph.node)
    names = [name for each in graph.node for name in (*each.input, *each.output)]
    match chosen.randrange(9):
        case 0:
            node.op_type = chosen.choice(["Loop", "If", "Scan", "Softmax", "Conv", "LSTM", "Nothing", "", "TopK"])
        case 1 if node.input:
            node.input[chosen.randrange(len(node.input))] = chosen.choice(names)
        case 2:
            node.output[0] = chosen.choice(names)
        case 3:
            names = ["axis", "axes", "kernel_shape", "pads", "strides", "group", "to", "perm", "dilations", "keepdims"]
            value = chosen.choice([-(1 << 62), -1, 0, 1 << 40, [1 << 40] * 4, [-1] * 3, [], 2.5, "x"])
            node.attribute.append(helper.make_attribute(chosen.choice(names), value, attr_type=_kind(value)))
        case 4:
            shape = graph.input[0].type.tensor_type.shape
            for dimension in shape.dim:
                dimension.dim_value = chosen.choice([0, 1, -1, 7, 1 << 20, 1 << 62])
        case 5 if graph.initializer:
            stored = chosen.choice(graph.initializer)
            stored.dims[:] = [chosen.choice([0, 3, -2, 1 << 40]) for _ in range(chosen.randint(0, 4))]
        case 6:
            graph.node.extend([node] * chosen.randint(1, 5))
        case 7:
            proto.opset_import[0].version = chosen.choice([0, 1, 6, 11, 25, 1 << 40])
        case _:
            del graph.node[:]
    return bytes(proto.SerializeToString())


def _kind(value: object) -> int | None:
    return onnx.AttributeProto.INTS if value == [] else None


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, splice, rewire, rewire, rewire)


def one(seed: int, folder: Path) -> Report:
    """The report on the mutation of this seed.

    Raises:
        AssertionError: where there is none of ours.
    """
    chosen = random.Random(seed)  # noqa: S311 - a seed that makes a failure again, no secret
    raw = chosen.choice(models())
    for _ in range(chosen.randint(1, 2)):
        try:
            raw = chosen.choice(MUTATIONS)(raw, chosen) or b"\0"
        except Exception:  # noqa: BLE001 - what was mutated once may not be read any more: then it stays as it is
            break
    path = folder / "fuzzed.onnx"
    path.write_bytes(raw)
    started = time.monotonic()
    report = check(path)
    took = time.monotonic() - started
    assert report.verdict in {"faithful", "rewritten", "raise-scale", "refused"}, f"seed {seed}: {report}"
    assert report.code != "C-check", f"seed {seed}: not one of our refusals: {report.reason}"
    assert report.is_yes or (report.code.startswith("C-") and report.reason), f"seed {seed}: {report}"
    assert took < MOST_SECONDS, f"seed {seed}: {took:.0f} s"
    return report


def main() -> None:
    """Fuzz for so many minutes and say what came out."""
    end = time.monotonic() + 60 * float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    codes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        while time.monotonic() < end:
            report = one(seed, Path(name))
            codes[report.code or report.verdict] = codes.get(report.code or report.verdict, 0) + 1
            seed += 1
    print(f"{sum(codes.values())} models, up to seed {seed - 1}: {dict(sorted(codes.items()))}")  # noqa: T201


if __name__ == "__main__":
    main()
