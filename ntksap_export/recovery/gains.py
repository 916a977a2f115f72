"""The gain of each layer: what an orthogonal weight is multiplied with, by the activation behind it.

    sqrt(2)   a ReLU or one of its kind comes before the next layer: it lets half of the signal through
    1         nothing, or another function; the last layer

(Saxe, McClelland & Ganguli, ICLR 2014; He et al., ICCV 2015.) Norms, pooling, sums and reshapes are looked through: a
convolution with BatchNorm and ReLU behind it has sqrt(2), and so has one whose ReLU follows the sum of a shortcut.
Read off autograd's own graph, backwards from the logits, so that any model that can be trained can be read. The
reference code of OrthP takes one gain for the whole network, its last layer too.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.recovery.layers import layers_of

RELU_GAIN = math.sqrt(2.0)

# Names of autograd's nodes, without "Backward" and number.
_RELUS = frozenset(
    {"Relu", "Hardtanh", "LeakyRelu", "PreluKernel", "Elu", "Gelu", "Silu", "Hardswish", "Mish", "Softplus"}
    | {"Threshold", "ClampMin", "RreluWithNoise"}
)
_OTHERS = frozenset({"Sigmoid", "Tanh", "Hardsigmoid", "Softmax", "LogSoftmax"})
# Layers, and which of a node's inputs is the weight.
_WEIGHT_AT = {"Convolution": 1, "Linear": 1, "Addmm": 2, "Mm": 1}


def layer_gains(model: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    """Name of each prunable weight -> its gain; 1 for a layer that never runs.

    Args:
        model: left untouched; run once on the meta device, without arithmetic.
        shape: (C, H, W) of its input.

    Raises:
        ConfigError: it gives no tensor, or one that its weights do not lead to.
    """
    ghost = copy.deepcopy(model).to("meta").float().eval().requires_grad_(True)
    names = _names(model, ghost)
    with torch.enable_grad():
        logits = ghost(torch.empty(1, *shape, device="meta"))
    if not isinstance(logits, torch.Tensor) or logits.grad_fn is None:
        raise ConfigError(
            f"what follows the layers of {type(model).__name__} cannot be read: its output is no tensor that gradients "
            "flow through; leave --recover and --init away"
        )
    rectified = _rectified(logits.grad_fn, names)
    return {layer.name: RELU_GAIN if layer.name in rectified else 1.0 for layer in layers_of(model)}


def _names(model: nn.Module, ghost: nn.Module) -> dict[int, str]:
    """Id of a parameter of `ghost` -> the parameter's one name in `model`: moving to another device unties weights."""
    owners = {id(parameter): name for name, parameter in model.named_parameters()}
    twins = ghost.named_parameters(remove_duplicate=False)
    return {
        id(twin): owners[id(parameter)]
        for (_, parameter), (_, twin) in zip(model.named_parameters(remove_duplicate=False), twins, strict=True)
    }


def _rectified(last: Any, names: dict[int, str]) -> set[str]:
    """The parameters behind whose layer a ReLU comes on some way, before another layer or function."""
    waiting = _uses(last)
    before_relu: dict[Any, bool] = {last: False}
    found: set[str] = set()
    ready = [last]
    while ready:
        node = ready.pop()
        passed = before_relu[node]
        if hasattr(node, "variable") and passed and id(node.variable) in names:
            found.add(names[id(node.variable)])
        for place, (child, _) in enumerate(node.next_functions):
            if child is None:
                continue
            before_relu[child] = before_relu.get(child, False) or _through(node, place, passed)
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    return found


def _through(node: Any, place: int, passed: bool) -> bool:
    """Whether input `place` of `node` has a ReLU behind it, where `node`'s output has one if `passed`."""
    kind = node.name().partition("Backward")[0]
    if kind in _RELUS:
        return True
    if kind in _OTHERS or place != _WEIGHT_AT.get(kind, place):
        return False
    return passed


def _uses(last: Any) -> Counter[Any]:
    """How often each node's output is read by the nodes from `last` on."""
    uses: Counter[Any] = Counter()
    seen, open_ = {last}, [last]
    while open_:
        for child, _ in open_.pop().next_functions:
            if child is not None:
                uses[child] += 1
                if child not in seen:
                    seen.add(child)
                    open_.append(child)
    return uses
