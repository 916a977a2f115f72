"""A second set of weights that follows the trained one slowly and is judged in its place (exponential moving average).

    average += (1 - d) * (weights - average)    after each step n = 1, 2, ...,   d = min(decay, (1 + n) / (10 + n))

The decay warms up as in TensorFlow's `ExponentialMovingAverage`, so that a short training is not held back by its
random start. BatchNorm's running mean and variance are averaged as the weights are (as torchvision's reference
training does); buffers of whole numbers are copied. `torch.optim.swa_utils.AveragedModel` reads its counter from the
device in every step, which makes a GPU wait; here the counter is a plain number.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ntksap_export.training.masking import unwrapped


class Average:
    """The average of a model's weights over its steps.

    A weight that is zero in every step is exactly zero in the average: make it after `keep_pruned`, which zeroes the
    pruned ones.

    Args:
        model: starts the average; may be wrapped or compiled; left as it is.
        decay: in [0, 1), of each step; the average reaches back about 1 / (1 - decay) steps.

    Attributes:
        model: a plain model with the averaged weights, in eval mode, on the device of `model`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1); got {decay}")
        self.model = copy.deepcopy(unwrapped(model)).eval().requires_grad_(False)
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update_(self, model: nn.Module) -> None:
        """Take in the weights of `model` after an optimizer step."""
        self._steps += 1
        weight = 1.0 - min(self._decay, (1 + self._steps) / (10 + self._steps))
        averaged, followed = _tensors(self.model), _tensors(unwrapped(model))
        floating = [name for name, value in averaged.items() if value.is_floating_point()]
        torch._foreach_lerp_([averaged[name] for name in floating], [followed[name] for name in floating], weight)
        for name in averaged.keys() - set(floating):
            averaged[name].copy_(followed[name])

    @property
    def steps(self) -> int:
        """How many steps it has followed."""
        return self._steps

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs, for `load_state_dict`."""
        return {"steps": self._steps, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave.

        Raises:
            KeyError, RuntimeError: it is not of such a model.
        """
        self.model.load_state_dict(state["model"])
        self._steps = int(state["steps"])


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
