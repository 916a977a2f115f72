"""Names of a graph's initializers: those of the model's parameters, also where the exporter has changed the values.

    conv.weight         a convolution's weight, BatchNorm's factor folded into it
    conv.bias           its bias, with what BatchNorm adds, where the convolution had one of its own
    bn.bias             the same where it had none: the name of the BatchNorm that was folded into it
    fc.weight.T         the weight of a Linear that became a MatMul: transposed, (in, out)
    head.weight         a weight that two modules share has the first of its names, as in `named_parameters`

Buffers keep their names too. What has none of these names is a constant of the exporter's, as axes and shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

_FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_FOLDED_BIAS = ".weight_bias"  # what onnxscript's fusion appends to the weight's name
_WEIGHT = re.compile(r"(.+)\.weight(\.T)?(_quantized)?")


def module_of(initializer: str) -> str | None:
    """Dotted name of the module whose weight this is: `fc` of `fc.weight`, `fc.weight.T`, `fc.weight_quantized`."""
    found = _WEIGHT.fullmatch(initializer)
    return found[1] if found else None


@contextmanager
def norms_after(model: nn.Module) -> Iterator[dict[str, str]]:
    """While it lasts, calls of `model` fill the mapping: layer -> the BatchNorm that takes the very tensor it gave."""
    found: dict[str, str] = {}
    given: list[tuple[str, Any]] = []  # tensors are kept, so that no other gets the same identity

    def after(name: str) -> Any:
        return lambda module, inputs, output: given.append((name, output))  # noqa: ARG005

    def before(name: str) -> Any:
        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG001
            found.update({layer: name for layer, output in given if inputs and output is inputs[0]})

        return note

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, _FOLDABLE):
            hooks.append(module.register_forward_hook(after(name)))
        elif isinstance(module, _NORMS):
            hooks.append(module.register_forward_pre_hook(before(name)))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        given.clear()


def name_initializers_(proto: onnx.ModelProto, model: nn.Module, folded: dict[str, str]) -> None:
    """Give each initializer the name that the module's docstring promises, in place.

    Args:
        proto: as the exporter wrote it.
        model: what was traced.
        folded: layer -> BatchNorm, of `norms_after`.
    """
    names = {item.name for item in proto.graph.initializer}
    changed: dict[str, str] = {}

    def rename(old: str, new: str) -> None:
        if new not in names and new not in changed.values():
            changed[old] = new

    first = {id(parameter): name for name, parameter in model.named_parameters()}
    shared = {name: first[id(one)] for name, one in model.named_parameters(remove_duplicate=False)}
    turned = _transposed(proto, model)
    for name in sorted(names):
        if name in shared:
            rename(name, shared[name])
        elif name.endswith(_FOLDED_BIAS):
            layer = name.removesuffix(_FOLDED_BIAS)
            rename(name, f"{folded.get(layer, layer)}.bias")
        elif name in turned:
            rename(name, f"{turned[name]}.T")
    _rename_(proto.graph, changed)


def _transposed(proto: onnx.ModelProto, model: nn.Module) -> dict[str, str]:
    """Nameless matrices of the graph -> the parameter that each is the transpose of, by its values."""
    own = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    wanted: dict[tuple[int, ...], list[tuple[str, torch.Tensor]]] = {}
    there = {item.name for item in proto.graph.initializer}
    parameter: torch.Tensor
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and name not in there:
            wanted.setdefault((parameter.shape[1], parameter.shape[0]), []).append((name, parameter))
    found: dict[str, str] = {}
    for item in proto.graph.initializer:
        candidates = wanted.get(tuple(item.dims), ())
        if item.name in own or not candidates or item.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(item)
        for name, parameter in candidates:
            if name not in found.values() and np.array_equal(values, parameter.detach().numpy().T):
                found[item.name] = name
                break
    return found


def _rename_(graph: onnx.GraphProto, changed: dict[str, str]) -> None:
    for item in graph.initializer:
        item.name = changed.get(item.name, item.name)
    for value in graph.value_info:
        value.name = changed.get(value.name, value.name)
    rename_uses_(graph, changed)


def rename_uses_(graph: onnx.GraphProto, changed: dict[str, str]) -> None:
    for value in graph.output:
        value.name = changed.get(value.name, value.name)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in changed:
                node.input[place] = changed[name]
        for attribute in node.attribute:  # bodies of If, Loop and Scan see the names around them
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                rename_uses_(inner, changed)
