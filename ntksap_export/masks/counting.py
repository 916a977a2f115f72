"""What a network costs, layer by layer: weights, multiply-accumulates, and how many of each a mask leaves."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks.mask import Mask


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One prunable layer, dense.

    Attributes:
        name: the weight's parameter name.
        kind: `conv`, `linear`, or `unused` for a layer that never runs.
        shape: of the weight.
        weights: their number.
        positions: output positions at which each weight is used, for one image.
        macs: weights * positions, for one image; twice this is FLOPs.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    positions: int
    macs: int


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One line of a mask's table. `flop_share` is this layer's share of all multiply-accumulates that are left."""

    name: str
    shape: tuple[int, ...]
    weights: int
    kept: int
    density: float
    macs: int
    kept_macs: int
    flop_share: float


@dataclass(frozen=True, slots=True)
class MaskTable:
    """A mask seen layer by layer, with its sums.

    Attributes:
        flop_density: nonzero MACs / dense MACs. This, not density, is what latency can follow.
        theoretical_speedup: dense MACs / nonzero MACs; no runtime is promised to reach it.
    """

    rows: tuple[LayerRow, ...]
    weights: int
    kept: int
    density: float
    macs: int
    kept_macs: int
    flop_density: float
    theoretical_speedup: float


def fan_in(mask: Mask) -> dict[str, torch.Tensor]:
    """Name of a weight -> how many inputs each of its outputs still has, int64 (out,), on the mask's device."""
    return {name: kept.flatten(1).sum(1) for name, kept in mask.items()}


def layer_costs(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[LayerCost, ...]:
    """Count every Conv2d and Linear of `model` for one image, on the meta device: no arithmetic, no memory.

    Args:
        model: left untouched; a weight used several times counts all its uses.
        input_shape: (C, H, W).

    Raises:
        ConfigError: the model cannot run on such an input.
    """
    ghost = copy.deepcopy(model).to("meta").float().eval()
    positions: dict[str, int] = {}
    found: dict[str, tuple[str, torch.Tensor]] = {}

    def count(prefix: str, name: str, kind: str) -> None:
        def hook(module: nn.Module, _: object, output: torch.Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            # The batch is 1: all that is left beside the output channels are positions of one image.
            positions[name] = positions.get(name, 0) + output.numel() // weight.shape[0]
            found[name] = (kind, weight)

        ghost.get_submodule(prefix).register_forward_hook(hook)

    # Asked of `model`: moving to the meta device unties a weight that two layers share.
    owners = {id(parameter): name for name, parameter in model.named_parameters()}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            name = owners.get(id(module.weight), f"{prefix}.weight")
            count(prefix, name, "conv" if isinstance(module, nn.Conv2d) else "linear")
    try:
        with torch.no_grad():
            ghost(torch.empty(1, *input_shape, device="meta"))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the model cannot take an image of shape {input_shape}: {reason}; try another --image-size"
        ) from error
    for prefix, module in ghost.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and f"{prefix}.weight" in owners.values():
            found.setdefault(f"{prefix}.weight", ("unused", module.weight))  # never ran; its weights are pruned too
    return tuple(
        LayerCost(
            name,
            kind,
            tuple(weight.shape),
            weight.numel(),
            positions.get(name, 0),
            weight.numel() * positions.get(name, 0),
        )
        for name, (kind, weight) in found.items()
    )


def mask_table(mask: Mask, costs: tuple[LayerCost, ...]) -> MaskTable:
    """Set the mask beside the dense costs. Layers the mask does not name count as dense."""
    kept = {cost.name: int(mask[cost.name].sum()) if cost.name in mask else cost.weights for cost in costs}
    kept_macs = {cost.name: kept[cost.name] * cost.positions for cost in costs}
    all_macs = sum(cost.macs for cost in costs)
    left = sum(kept_macs.values())
    rows = tuple(
        LayerRow(
            name=cost.name,
            shape=cost.shape,
            weights=cost.weights,
            kept=kept[cost.name],
            density=kept[cost.name] / cost.weights,
            macs=cost.macs,
            kept_macs=kept_macs[cost.name],
            flop_share=kept_macs[cost.name] / left if left else 0.0,
        )
        for cost in costs
    )
    weights, kept_all = sum(row.weights for row in rows), sum(row.kept for row in rows)
    return MaskTable(
        rows=rows,
        weights=weights,
        kept=kept_all,
        density=kept_all / weights if weights else 0.0,
        macs=all_macs,
        kept_macs=left,
        flop_density=left / all_macs if all_macs else 0.0,
        theoretical_speedup=all_macs / left if left else 0.0,
    )
