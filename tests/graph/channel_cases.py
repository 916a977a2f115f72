"""Small graphs with dead channels, and what onnxruntime makes of them before and after a pass."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from ntksap_export.graph import Graph, optimize
from ntksap_export.graph.passes.outcome import Outcome


def model(
    body: str,
    *,
    shape: str = "batch, 3, 6, 6",
    out: str = "batch, 4",
    opset: int = 20,
    ir: int = 10,
    **constants: np.ndarray,
) -> onnx.ModelProto:
    """A graph of float `images` and `logits`; `constants` become initializers."""
    head = f'<ir_version: {ir}, opset_import: ["" : {opset}, "own" : 1]>'
    proto = onnx.parser.parse_model(f"{head} g (float[{shape}] images) => (float[{out}] logits) {{ {body} }}")
    for name, value in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return proto


def draw(seed: int, *shape: int) -> np.ndarray:
    """Numbers around 0, none of them 0."""
    generator = np.random.default_rng(seed)
    return (generator.uniform(0.1, 1, shape) * generator.choice([-1, 1], shape)).astype(np.float32)


def emptied(weight: np.ndarray, *rows: int) -> np.ndarray:
    """A copy with zeros in the rows of these output channels."""
    copy = weight.copy()
    copy[list(rows)] = 0
    return copy


def run(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """The graph as it is, without onnxruntime's own optimization."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"images": images})[0])


def images(proto: onnx.ModelProto, batch: int = 3) -> np.ndarray:
    """Noise of the shape that the graph takes."""
    (value,) = [value for value in proto.graph.input if value.name == "images"]
    sides = [axis.dim_value or 6 for axis in value.type.tensor_type.shape.dim][1:]
    return np.random.default_rng(0).standard_normal((batch, *sides)).astype(np.float32)


def compacted(
    proto: onnx.ModelProto, name: str = "drop_dead_channels", atol: float = 1e-5
) -> tuple[onnx.ModelProto, Outcome]:
    """The graph after the pass, its outputs compared; `atol` 0 is bit by bit."""
    graph, (log,) = optimize(Graph(proto, ()), (name,))
    given = images(proto)
    before, after = run(proto, given), run(graph.proto, given)
    assert before.shape == after.shape
    np.testing.assert_allclose(after, before, atol=atol, rtol=0)
    assert optimize(graph, (name,))[0].to_bytes() == graph.to_bytes()
    return graph.proto, log.outcome


def shapes(proto: onnx.ModelProto) -> Mapping[str, tuple[int, ...]]:
    """Shape of each initializer."""
    return {item.name: tuple(item.dims) for item in proto.graph.initializer}


def reasons(outcome: Outcome) -> dict[str, str]:
    """What was left, and why."""
    return {item.what: item.why for item in outcome.left}
