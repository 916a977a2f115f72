"""One layer of a network as an ONNX graph of its own, at any widths, to be timed.

    with the layer:     image (N, 1, H, W) -> 1x1 convolution to the layer's inputs -> the layer -> mean over H and W
    without it:         image (N, 1, H, W) -> 1x1 convolution to the layer's inputs -> mean over H and W

The layer's time is the difference. Alone it would get its channels in the plain layout and give them back so, which a
runtime that keeps them in blocks pays for by reordering, half as much as a 1x1 convolution takes; between others it
does not. A Linear layer stands alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.graph.model import INPUT_NAME, OUTPUT_NAME, Graph
from ntksap_export.graph.opset import DEFAULT
from ntksap_export.quoting import first_line

_IR_VERSION = 9  # of the time of opset 20


@dataclass(frozen=True, slots=True)
class LayerShape:
    """All that a layer's time depends on but its widths.

    Attributes:
        kernel: (h, w); empty for a Linear layer.
        stride, dilation: (h, w).
        pads: top, left, bottom, right.
        groups: of channels; 0 where each channel is one (depthwise).
        size: (H, W) of what it reads; for a Linear layer (rows of one image, 1).
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int
    size: tuple[int, int]

    def name(self, out: int, into: int) -> str:
        """The layer at these widths, in a word: equal words are equal work."""
        if not self.kernel:
            return f"linear {into}-{out} rows {self.size[0]}"
        kind = "depthwise" if self.groups == 0 else f"conv groups {self.groups}" if self.groups > 1 else "conv"
        sides = [_text(part) for part in (self.kernel, self.stride, self.dilation, self.pads, self.size)]
        return (
            f"{kind} {into}-{out} kernel {sides[0]} stride {sides[1]} dilation {sides[2]} pads {sides[3]} on {sides[4]}"
        )

    def around(self, out: int, into: int) -> str | None:
        """What stands around the layer in its graph, in a word; None where nothing does."""
        return f"around {self.inputs(out, into)} on {_text(self.size)}" if self.kernel else None

    def inputs(self, out: int, into: int) -> int:
        """Channels that come in, where a weight has `out` outputs and `into` inputs."""
        return into * self.groups if self.groups else out


def layer_shapes(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[LayerShape, ...]]:
    """Each Conv2d and Linear by the name of its weight: one shape for each time that it runs.

    Args:
        model: left untouched.
        input_shape: (C, H, W).

    Raises:
        ConfigError: the model cannot run on such an input.
    """
    ghost = copy.deepcopy(model).to("meta").float().eval()
    found: dict[str, list[LayerShape]] = {}
    owners = {id(parameter): name for name, parameter in model.named_parameters()}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            name = owners.get(id(module.weight), f"{prefix}.weight")

            def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
                found.setdefault(name, []).append(_shape_of(layer, inputs[0]))

            ghost.get_submodule(prefix).register_forward_pre_hook(note)
    try:
        with torch.no_grad():
            ghost(torch.empty(1, *input_shape, device="meta"))
    except RuntimeError as error:
        raise ConfigError(f"the model cannot take an image of shape {input_shape}: {first_line(error)}") from error
    return {name: tuple(shapes) for name, shapes in found.items()}


def layer_graph(shape: LayerShape, out: int, into: int, batch: int) -> Graph:
    """The layer with `out` outputs and `into` inputs (as its weight has them), on `batch` images; random weights."""
    draw = np.random.default_rng(0)
    if not shape.kernel:
        weight = _weight("weight", (into, out), draw)
        nodes = [helper.make_node("MatMul", [INPUT_NAME, "weight"], [OUTPUT_NAME])]
        return _graph(nodes, [weight], [batch, 1, shape.size[0], into], [batch, 1, shape.size[0], out])
    nodes = [
        helper.make_node("Conv", [INPUT_NAME, "before"], ["channels"], kernel_shape=[1, 1]),
        helper.make_node(
            "Conv",
            ["channels", "weight"],
            ["done"],
            kernel_shape=list(shape.kernel),
            strides=list(shape.stride),
            dilations=list(shape.dilation),
            pads=list(shape.pads),
            group=shape.groups or out,
        ),
        helper.make_node("GlobalAveragePool", ["done"], [OUTPUT_NAME]),
    ]
    weights = [
        _weight("before", (shape.inputs(out, into), 1, 1, 1), draw),
        _weight("weight", (out, into, *shape.kernel), draw),
    ]
    return _graph(nodes, weights, [batch, 1, *shape.size], [batch, out, 1, 1])


def around_graph(shape: LayerShape, channels: int, batch: int) -> Graph:
    """What `layer_graph` has around a convolution that reads `channels`."""
    nodes = [
        helper.make_node("Conv", [INPUT_NAME, "before"], ["channels"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["channels"], [OUTPUT_NAME]),
    ]
    weight = _weight("before", (channels, 1, 1, 1), np.random.default_rng(0))
    return _graph(nodes, [weight], [batch, 1, *shape.size], [batch, channels, 1, 1])


def _shape_of(layer: nn.Module, images: torch.Tensor) -> LayerShape:
    if isinstance(layer, nn.Linear):
        return LayerShape((), (), (), (), 1, (images.numel() // images.shape[-1], 1))
    assert isinstance(layer, nn.Conv2d)
    # torch has them from the last axis to the first, each before and after: (left, right, top, bottom).
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    depthwise = layer.groups > 1 and layer.groups == layer.in_channels == layer.out_channels
    return LayerShape(
        tuple(layer.kernel_size),
        tuple(layer.stride),
        tuple(layer.dilation),
        (top, left, bottom, right),
        0 if depthwise else layer.groups,
        (int(images.shape[-2]), int(images.shape[-1])),
    )


def _graph(nodes: list[onnx.NodeProto], weights: list[TensorProto], takes: list[int], answers: list[int]) -> Graph:
    inputs = [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, takes)]
    outputs = [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, answers)]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", DEFAULT)]
    return Graph(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION), ())


def _weight(name: str, shape: tuple[int, ...], draw: np.random.Generator) -> TensorProto:
    return numpy_helper.from_array(draw.standard_normal(shape, dtype=np.float32), name)


def _text(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))
