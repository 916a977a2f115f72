"""Compacting keeps what a network computes: random small networks, random dead channels, random biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from ntksap_export.graph import Graph, optimize

from ..graph.channel_cases import images, model, run

CHANNELS = 5
SIDE = 6


class Net:
    """Blocks, one after the other, over five channels of 6x6 places."""

    def __init__(self, seed: int, dead: float, silent: bool) -> None:
        self.draw = np.random.default_rng(seed)
        self.dead, self.silent = dead, silent
        self.body: list[str] = []
        self.constants: dict[str, np.ndarray] = {}

    def conv(self, source: str, target: str, inputs: int, *, kernel: int, groups: int = 1) -> None:
        weight = self.draw.standard_normal((CHANNELS, inputs // groups, kernel, kernel))
        weight[self.draw.random(CHANNELS) < self.dead] = 0
        weight[:, self.draw.random(inputs // groups) < self.dead] = 0
        weight[self.draw.random(weight.shape) < self.dead] = 0
        bias = self.draw.standard_normal(CHANNELS)
        bias[self.draw.random(CHANNELS) < 0.3] = 0
        self.add(f"{target}_w", weight)
        self.add(f"{target}_b", -np.abs(bias) if self.silent else bias)
        pad = kernel // 2
        attributes = f"group = {groups}, pads = [{pad}, {pad}, {pad}, {pad}]"
        self.body.append(f"{target} = Conv<{attributes}>({source}, {target}_w, {target}_b)")

    def add(self, name: str, value: np.ndarray) -> None:
        self.constants[name] = value.astype(np.float32)

    def block(self, kind: str, source: str, name: str) -> str:
        if kind in ("conv1", "conv3", "depthwise"):
            groups = CHANNELS if kind == "depthwise" else 1
            self.conv(source, f"{name}c", CHANNELS, kernel=1 if kind == "conv1" else 3, groups=groups)
            self.body.append(f"{name} = Relu({name}c)")
        elif kind == "residual":
            self.conv(source, f"{name}a", CHANNELS, kernel=3)
            self.body.append(f"{name}r = Relu({name}a)")
            self.conv(f"{name}r", f"{name}c", CHANNELS, kernel=1)
            self.body.append(f"{name}s = Add({name}c, {source}) {name} = Relu({name}s)")
        elif kind == "concat":
            self.conv(source, f"{name}a", CHANNELS, kernel=1)
            self.body.append(f"{name}k = Concat<axis = 1>({source}, {name}a)")
            self.conv(f"{name}k", name, 2 * CHANNELS, kernel=3)
        elif kind == "norm":
            for part in ("g", "b", "m"):
                self.add(f"{name}_{part}", self.draw.standard_normal(CHANNELS))
            self.constants[f"{name}_g"][self.draw.random(CHANNELS) < self.dead] = 0
            self.add(f"{name}_v", self.draw.random(CHANNELS) + 0.5)
            self.body.append(f"{name} = BatchNormalization({source}, {name}_g, {name}_b, {name}_m, {name}_v)")
        elif kind in ("nearest", "linear"):
            self.constants["scales"] = np.array([1, 1, 1.5, 2], np.float32)
            self.body.append(f'{name}u = Resize<mode = "{kind}">({source}, , scales)')
            self.body.append(f"{name} = MaxPool<kernel_shape = [4, 2], strides = [1, 2]>({name}u)")
        else:
            self.body.append(f"{name} = {kind}({source})")
        return name

    def model(self, kinds: list[str], flat: bool) -> onnx.ModelProto:
        self.conv("images", "start", 3, kernel=3)
        last = "start"
        for number, kind in enumerate(kinds):
            last = self.block(kind, last, f"n{number}")
        self.body.append(f"p = {'Identity' if flat else 'GlobalAveragePool'}({last}) f = Flatten<axis = 1>(p)")
        weight = self.draw.standard_normal((4, CHANNELS * (SIDE**2 if flat else 1)))
        weight[self.draw.random(weight.shape) < self.dead] = 0
        self.add("fc_w", weight)
        self.body.append("logits = Gemm<transB = 1>(f, fc_w)")
        return model(" ".join(self.body), **self.constants)


KINDS = (
    "conv1", "conv3", "depthwise", "residual", "concat", "norm", "nearest", "linear", "HardSwish", "Sigmoid",
    "MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>",
    "AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>",
    "AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>",
)  # fmt: skip


def nets(kinds: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**32 - 1),
            "dead": st.sampled_from((0.2, 0.5, 0.8, 1.0)),
            "kinds": st.lists(st.sampled_from(kinds), max_size=6),
            "flat": st.booleans(),
        }
    )


def sizes(proto: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(item).size for item in proto.graph.initializer)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(nets(KINDS), st.booleans())
def test_outputs_and_top1_are_kept_and_twice_is_once(net: dict[str, Any], silent: bool) -> None:
    proto = Net(net["seed"], net["dead"], silent).model(net["kinds"], net["flat"])

    graph, (log,) = optimize(Graph(proto, ()), ("drop_dead_channels",))

    given_images = images(proto)
    before, after = run(proto, given_images), run(graph.proto, given_images)
    scale = max(float(np.abs(before).max()), 1e-3)
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-5 * scale + 1e-6)
    ranked = np.sort(before, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 1e-4 * scale
    assert np.array_equal(before.argmax(1)[clear], after.argmax(1)[clear])
    assert graph.to_bytes() == optimize(graph, ("drop_dead_channels",))[0].to_bytes()
    assert bool(log.outcome.changed) == (sizes(graph.proto) != sizes(proto))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(nets(("conv1", "conv3", "residual")))
def test_where_every_dead_channel_is_silent_none_that_is_constant_stays(net: dict[str, Any]) -> None:
    """Biases at or below zero: behind a ReLU every constant is 0, and padding is no hindrance."""
    proto = Net(net["seed"], net["dead"], True).model(["Relu", *net["kinds"]], False)

    _, (log,) = optimize(Graph(proto, ()), ("drop_dead_channels",))

    assert not [item for item in log.outcome.left if "zero padding" in item.why and item.what.startswith("n")]
