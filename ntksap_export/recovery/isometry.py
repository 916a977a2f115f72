"""Approximate isometry: make what a mask left of each layer as orthogonal as its zeros allow.

    minimize || (W * m) (W * m)^T - I ||_F^2        rows <= columns; else (W * m)^T (W * m)

over the kept weights, with Adam, from what they are; pruned weights are set back to 0 after each step. Then W <- gain
* W. (Lee, Ajanthan, Gould & Torr, "A Signal Propagation Perspective for Pruning Neural Networks at Initialization",
ICLR 2020: 10,000 iterations at rate 0.1.)

Where it differs: the rate starts at 0.01 and falls by 10 when the loss stops to fall, since at 0.1 the weights of wide
layers, which are of the size 1 / sqrt(kept per row), jump about; a layer ends early when it is an isometry to 1e-3, or
when the rate has fallen three times. The smaller of the two products is taken; the other one cannot be the identity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.progress import Progress, Silent, Task
from ntksap_export.recovery.layers import layers_of

STEPS: Final = 10_000
RATE: Final = 0.01
_LOOK_EVERY: Final = 50  # steps
_FALLS_BY: Final = 0.99  # a loss that falls by less than 1 % within them stands still
_CUTS: Final = 3
_DONE: Final = 1e-6  # || gram - I ||_F^2 per row


def approximate_isometry_(
    model: nn.Module,
    mask: Mask,
    gains: Mapping[str, float],
    *,
    steps: int = STEPS,
    rate: float = RATE,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Bring the kept weights of every layer near to an isometry times its gain, in place.

    Args:
        model: on the device that computes; biases, norms and buffers stay, pruned weights become exactly 0.
        mask: of the model, on any device.
        gains: weight's name -> gain; see `layer_gains`.
        steps: Adam's, per layer, at most.
        rate: Adam's to begin with, above 0.
        seed: rows whose kept weights are all 0 are drawn anew from it: the gradient is 0 there.
        progress: a bar over the steps of each layer.

    Returns:
        Weight's name -> steps that were taken.
    """
    layers = layers_of(model)
    generator = torch.Generator().manual_seed(seed)
    taken = {}
    with (progress or Silent()).task("recover isometry", steps * len(layers)) as task:
        for layer in layers:
            kept = layer.matrices(mask[layer.name].to(layer.weight.device))
            start = layer.matrices(layer.weight.detach().float()) / gains[layer.name]
            search = _Search(_woken(start, kept, generator), kept, rate)
            taken[layer.name] = search.run(steps, task, layer.name)
            with torch.no_grad():
                layer.weight.copy_((search.best * gains[layer.name]).reshape(layer.weight.shape))
    return taken


def _woken(start: torch.Tensor, kept: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """`start` under the mask; a row that keeps weights which are all 0 gets others, of norm about 1."""
    values = start * kept
    asleep = kept.any(-1, keepdim=True) & ~values.any(-1, keepdim=True)
    if not asleep.any():
        return values
    drawn = torch.randn(values.shape, generator=generator).to(values)
    return torch.where(asleep & kept, drawn / kept.sum(-1, keepdim=True).clamp(min=1).sqrt(), values)


class _Search:
    """Adam on one layer's matrices, (groups, rows, columns), from `start`, which is 0 where nothing is kept."""

    def __init__(self, start: torch.Tensor, kept: torch.Tensor, rate: float) -> None:
        self._tall = start.shape[-2] > start.shape[-1]
        self._kept = self._turned(kept)
        self._moving = self._turned(start).clone(memory_format=torch.contiguous_format).requires_grad_()
        self._adam = torch.optim.Adam([self._moving], rate)
        self._best = self._moving.detach().clone()
        self._lowest, self._before, self._cuts = math.inf, math.inf, 0

    @property
    def best(self) -> torch.Tensor:
        """The nearest to an isometry so far."""
        return self._turned(self._best)

    @torch.no_grad()
    def run(self, steps: int, task: Task, name: str) -> int:
        """Take at most `steps`; says how many."""
        done = 0
        while done < steps and self._look():
            part = min(_LOOK_EVERY, steps - done)
            for _ in range(part):
                self._step()
            done += part
            task.advance(part, note=f"{name}, off by {math.sqrt(self._lowest):.3g}")
        if done == steps:
            self._look()
        task.advance(steps - done)
        return done

    def _step(self) -> None:
        self._moving.grad = 4 * (self._off() @ self._moving)  # of || W W^T - I ||_F^2
        self._adam.step()
        self._moving.mul_(self._kept)

    def _look(self) -> bool:
        """Note how near it is, and lower the rate where it stands still; whether to go on.

        Now and then only: to read the loss one waits for a GPU.
        """
        off = self._off()
        loss = float(off.square().sum())
        if loss < self._lowest:
            self._lowest, self._best = loss, self._moving.detach().clone()
        if self._lowest <= _DONE * off.shape[0] * off.shape[1]:
            return False
        if self._lowest > _FALLS_BY * self._before:
            self._cuts += 1
            self._adam.param_groups[0]["lr"] /= 10
        self._before = self._lowest
        return self._cuts <= _CUTS

    def _off(self) -> torch.Tensor:
        return self._moving @ self._moving.mT - torch.eye(self._moving.shape[-2], device=self._moving.device)

    def _turned(self, matrices: torch.Tensor) -> torch.Tensor:
        return matrices.mT if self._tall else matrices
