"""One layer as a graph of its own: the work that it does in the network, at any widths."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from ntksap_export import models
from ntksap_export.errors import ConfigError
from ntksap_export.graph import Graph
from ntksap_export.graph.one_layer import LayerShape, around_graph, layer_graph, layer_shapes


class Layers(nn.Module):
    """One of each kind, and one that runs twice. Input (N, 3, 12, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 1))
        self.same = nn.Conv2d(8, 8, (2, 3), padding="same", dilation=2)
        self.grouped = nn.Conv2d(8, 16, 3, groups=4)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.twice = nn.Conv2d(16, 16, 1)
        self.fc = nn.Linear(16, 5)
        self.tokens = nn.Linear(16, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.deep(self.grouped(self.same(self.plain(x))))
        x = self.twice(self.twice(x))
        rows: torch.Tensor = self.tokens(x.flatten(2).transpose(1, 2))
        logits: torch.Tensor = self.fc(x.mean((2, 3))) + rows.mean()
        return logits


SHAPES = layer_shapes(Layers(), (3, 12, 10))


def answer(graph: Graph, batch: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """What a graph takes, what it answers, and its weights."""
    onnx.checker.check_model(graph.proto)
    session = onnxruntime.InferenceSession(graph.to_bytes(), providers=["CPUExecutionProvider"])
    sides = session.get_inputs()[0].shape
    assert sides[0] == batch
    images = np.random.default_rng(0).standard_normal(sides, dtype=np.float32)
    weights = {item.name: numpy_helper.to_array(item) for item in graph.proto.graph.initializer}
    return images, session.run(None, {session.get_inputs()[0].name: images})[0], weights


@pytest.mark.parametrize("name", ["plain", "same", "grouped", "deep"])
@pytest.mark.parametrize("half", [False, True])
def test_a_convolution_runs_as_in_the_network(name: str, half: bool) -> None:
    layer = getattr(Layers(), name)
    (shape,) = SHAPES[f"{name}.weight"]
    out, into = layer.weight.shape[:2]
    if half:
        out, into = out // 2, max(1, into // 2)
    groups = shape.groups or out

    images, pooled, weights = answer(layer_graph(shape, out, into, batch=2), batch=2)

    channels = functional.conv2d(torch.from_numpy(images), torch.from_numpy(weights["before"].copy()))
    top, left, bottom, right = shape.pads
    padded = functional.pad(channels, (left, right, top, bottom))
    weight = torch.from_numpy(weights["weight"].copy())
    done = functional.conv2d(padded, weight, stride=shape.stride, dilation=shape.dilation, groups=groups)
    assert weight.shape == (out, into, *layer.kernel_size)
    np.testing.assert_allclose(pooled, done.mean((2, 3), keepdim=True).numpy(), atol=1e-4, rtol=1e-4)


def test_sizes_are_those_that_each_layer_reads() -> None:
    assert SHAPES["plain.weight"] == (LayerShape((3, 5), (2, 1), (1, 1), (1, 2, 1, 2), 1, (12, 10)),)
    assert SHAPES["same.weight"] == (LayerShape((2, 3), (1, 1), (2, 2), (1, 2, 1, 2), 1, (6, 10)),)
    assert SHAPES["grouped.weight"][0].groups == 4
    assert SHAPES["deep.weight"][0].groups == 0
    assert len(SHAPES["twice.weight"]) == 2


def test_a_linear_layer_has_as_many_rows_as_it_is_given() -> None:
    (fc,), (tokens,) = SHAPES["fc.weight"], SHAPES["tokens.weight"]

    images, logits, _ = answer(layer_graph(tokens, 7, 16, batch=3), batch=3)

    assert fc.size == (1, 1)
    assert images.shape == (3, 1, 32, 16)
    assert logits.shape == (3, 1, 32, 7)
    assert tokens.around(7, 12) is None


def test_what_is_around_a_layer_is_its_graph_without_it() -> None:
    (deep,), (grouped,) = SHAPES["deep.weight"], SHAPES["grouped.weight"]

    _, pooled, _ = answer(around_graph(deep, deep.inputs(6, 1), batch=1), batch=1)

    assert pooled.shape == (1, 6, 1, 1)
    assert deep.around(6, 1) == "around 6 on 4x8"
    assert grouped.inputs(12, 2) == 8


def test_equal_work_has_one_name_and_other_work_another() -> None:
    shapes = layer_shapes(models.build("resnet20", 10), (3, 32, 32))
    names = {name: shape.name(16, 16) for name, (shape,) in shapes.items()}

    assert names["layer1.0.conv1.weight"] == names["layer1.2.conv2.weight"]
    assert names["layer1.0.conv1.weight"] != names["layer2.1.conv1.weight"]
    assert names["layer2.0.conv1.weight"] != names["layer2.0.shortcut.0.weight"]
    assert SHAPES["deep.weight"][0].name(8, 1).startswith("depthwise 1-8 ")


def test_a_model_that_cannot_take_the_image_says_so() -> None:
    with pytest.raises(ConfigError, match=r"cannot take an image of shape \(4, 12, 10\)"):
        layer_shapes(Layers(), (4, 12, 10))
