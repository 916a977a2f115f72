"""Draw weights that are orthogonal, instead of independent ones.

    orthogonal          Q of a normally drawn (out, rest) matrix, signs by diag R, times the gain of the layer
                        (Saxe, McClelland & Ganguli, ICLR 2014)
    delta-orthogonal    a convolution's centre, W[:, :, kh // 2, kw // 2], is such an (out, in) matrix; the rest is 0
                        (Xiao et al., ICML 2018); linear layers as above

Delta-orthogonal convolutions keep the length of every signal, where out >= in, stride 1 and no groups leave it whole;
with out < in the rows are orthonormal, and what they do not span is lost; a stride drops the positions between; of
grouped convolutions each group is drawn for itself, so that a depthwise one multiplies each channel by its gain or
minus that. Gains are those of `layer_gains`. Norms and biases stay as the model has them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ntksap_export.recovery.gains import layer_gains
from ntksap_export.recovery.layers import Layer, layers_of
from ntksap_export.recovery.orthp import orthogonal

INITS = ("orthogonal", "delta-orthogonal")
Draw = Callable[[str, torch.Generator], torch.Tensor]
Sampler = Callable[[nn.Module, tuple[int, ...]], Draw]


@torch.no_grad()
def initialize_(model: nn.Module, how: str, shape: tuple[int, ...], seed: int) -> None:
    """Draw every Conv2d and Linear weight of `model` anew, in place.

    Args:
        model: on any device; the same seed gives the same weights on each.
        how: of `INITS`.
        shape: (C, H, W) of its input.
        seed: all of it follows from this; the caller's random state stays.

    Raises:
        ConfigError: what follows a layer cannot be read.
    """
    draw = drawing(model, how, shape)
    generator = torch.Generator().manual_seed(seed)
    for layer in layers_of(model):
        layer.weight.copy_(draw(layer.name, generator))


def drawing(model: nn.Module, how: str, shape: tuple[int, ...]) -> Draw:
    """The distribution itself: name of a weight and a generator -> a draw of it, float32, on the generator's device.

    Args:
        model: left untouched.
        how: of `INITS`.
        shape: (C, H, W) of its input.

    Raises:
        ConfigError: what follows a layer cannot be read.
    """
    gains = layer_gains(model, shape)
    layers = {layer.name: layer for layer in layers_of(model)}
    delta = how == "delta-orthogonal"

    def draw(name: str, generator: torch.Generator) -> torch.Tensor:
        layer = layers[name]
        if delta and layer.weight.ndim == 4:
            return _delta(layer, generator) * gains[name]
        return _drawn(layer, layer.weight.shape, generator).contiguous() * gains[name]

    return draw


def sampler(init: str) -> Sampler | None:
    """For methods that draw initializations themselves: `drawing` of `init`, or None where it is none of `INITS`."""
    if init not in INITS:
        return None
    return lambda model, shape: drawing(model, init, shape)


def _drawn(layer: Layer, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    normal = torch.randn(shape, generator=generator, device=generator.device)
    return orthogonal(layer.matrices(normal)).reshape(shape)


def _delta(layer: Layer, generator: torch.Generator) -> torch.Tensor:
    shape = layer.weight.shape
    weight = torch.zeros(shape, device=generator.device)
    weight[:, :, shape[2] // 2, shape[3] // 2] = _drawn(layer, shape[:2], generator)
    return weight
