"""Network slimming: keep the filters that the BatchNorm behind them scales up (Liu et al., ICCV 2017).

    score of filter i = |gamma_i|        gamma the scale of the BatchNorm that reads the layer's output

Needs no data. For trained networks and whole channels: `--pattern channel`; the scores of all layers are compared, as
in the paper, unless `--scope layer` asks for the same share of each. The scale of a filter's weights says nothing where
a norm follows; its gamma does.

Which BatchNorm stands behind which layer is found by running the model once on an image of zeros: it is the one that is
called on the very tensor that the layer gave. A layer whose filters may go and that has none is refused in one line.

Where it differs from the paper: that trains with an L1 penalty on every gamma first, which pushes them apart; here the
gammas are those that the network has. In a residual group the mean over the layers that give its channels counts;
the paper puts a selection before the first convolution of each block instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.filters import score_filters
from ntksap_export.pruning.scorers.gradients import Tensors, modes

_FEW = 3  # layers that an error names one by one


@dataclass(frozen=True, slots=True)
class BnScale:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False
    side: str = "out"

    def check(self, model: nn.Module, shape: tuple[int, int, int], names: Iterable[str]) -> None:
        """Refuse layers that have no scale behind them.

        Args:
            model: left untouched.
            shape: (C, H, W) of its input.
            names: parameter names of the weights whose filters may go.

        Raises:
            ConfigError: names the layers, and what to do.
        """
        scales = scales_behind(model, shape)
        if without := [name.removesuffix(".weight") for name in names if name not in scales]:
            more = f" (and {len(without) - 1} more)" if len(without) > 1 else ""
            # Advice that ends in the next error is none: all of them, or not at all.
            keep = f"add --keep-dense {' --keep-dense '.join(without)}, or " if scales and len(without) <= _FEW else ""
            raise ConfigError(
                f"method bn-scale: no BatchNorm with a scale stands right behind '{without[0]}'{more}; "
                f"{keep}use --method l1"
            )

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask` with its share of its filter's value, 0 without one; see `Scorer.score`."""
        scales = scales_behind(model, inputs.shape)

        def scale(name: str, filters: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
            gamma = scales.get(name)
            return filters.new_zeros(len(filters)) if gamma is None else gamma.double().abs()

        return score_filters(model, mask, scale)


def scales_behind(model: nn.Module, shape: tuple[int, ...]) -> Tensors:
    """The gamma, (out,), of the BatchNorm right behind each Conv2d or Linear that has one, by the weight's name.

    Args:
        model: left untouched.
        shape: (C, H, W) of its input.
    """
    first = next(model.parameters())
    found = _Behind({id(parameter): name for name, parameter in model.named_parameters()})
    with modes(model), torch.no_grad(), found:
        model(torch.zeros(1, *shape, dtype=first.dtype, device=first.device))
    return found.scales


class _Behind(TorchFunctionMode):
    """Within it, call the model; `scales` then has what follows each layer."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.scales: Tensors = {}
        self._names = names
        self._outputs: dict[int, tuple[str, torch.Tensor]] = {}  # held, so that no other tensor takes an id over

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in (functional.conv2d, functional.linear):
            weight = args[1] if len(args) > 1 else (kwargs or {})["weight"]
            if (name := self._names.get(id(weight))) is not None:
                self._outputs[id(output)] = name, output
        elif func is functional.batch_norm:
            given = signature(func).bind(*args, **(kwargs or {})).arguments
            name, _ = self._outputs.get(id(given["input"]), (None, None))
            if name is not None and given.get("weight") is not None:
                self.scales[name] = given["weight"].detach()
        return output
