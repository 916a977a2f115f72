"""What a mask leaves of a network as a graph: live weights, live channels, paths, and layer densities beside ERK's.

    effective density   kept weights on a path from the image to a logit / all        (Vysogorets & Kempe, JMLR 2023)
    live channels       outputs of layers with such a weight
    paths               from a number of the image to a logit, by positions           (see paths.py)
    ERK density         what Erdos-Renyi-Kernel would give the layer for the same total (Evci et al., ICML 2020)

No data and no weight is read.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from ntksap_export.analysis.paths import live_weights, log10_paths
from ntksap_export.masks import Mask
from ntksap_export.pruning.scorers.erk import erk_densities


@dataclass(frozen=True, slots=True)
class LayerStructure:
    """One layer.

    Attributes:
        name: of the weight.
        weights: all.
        kept: those that the mask keeps.
        live: those of them on a path.
        density: kept / weights.
        effective_density: live / weights.
        erk_density: the density that ERK gives this layer where the whole network keeps as much as here.
        channels: outputs of the layer.
        live_channels: those with a live weight.
    """

    name: str
    weights: int
    kept: int
    live: int
    density: float
    effective_density: float
    erk_density: float
    channels: int
    live_channels: int


@dataclass(frozen=True, slots=True)
class MaskStructure:
    """All layers that the mask names, and their sums; the attributes are those of `LayerStructure`.

    Attributes:
        log10_paths: of the number of paths; -inf where there is none.
    """

    layers: tuple[LayerStructure, ...]
    weights: int
    kept: int
    live: int
    density: float
    effective_density: float
    channels: int
    live_channels: int
    log10_paths: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; None for the logarithm of no path."""
        plain = asdict(self)
        plain["layers"] = [asdict(layer) for layer in self.layers]
        plain["log10_paths"] = self.log10_paths if math.isfinite(self.log10_paths) else None
        return plain


def mask_structure(model: nn.Module, mask: Mask, shape: tuple[int, ...]) -> MaskStructure:
    """Look at a mask on its network.

    Args:
        model: left untouched; its weights are not read.
        mask: of its weights.
        shape: (C, H, W) of one image.

    Raises:
        CheckpointError: the mask is another model's.
        ConfigError: paths cannot be followed through the network; names what stops them.
    """
    live = live_weights(model, mask, shape)
    erk = erk_densities({name: kept.shape for name, kept in mask.items()}, mask.density)
    layers = []
    for name, kept in mask.items():
        alive = int(live[name].sum())
        layers.append(
            LayerStructure(
                name=name,
                weights=kept.numel(),
                kept=int(kept.sum()),
                live=alive,
                density=int(kept.sum()) / kept.numel(),
                effective_density=alive / kept.numel(),
                erk_density=erk[name],
                channels=len(kept),
                live_channels=int(live[name].flatten(1).any(1).sum()),
            )
        )
    return MaskStructure(
        layers=tuple(layers),
        weights=mask.total,
        kept=mask.kept,
        live=live.kept,
        density=mask.density,
        effective_density=live.density,
        channels=sum(layer.channels for layer in layers),
        live_channels=sum(layer.live_channels for layer in layers),
        log10_paths=log10_paths(model, mask, shape),
    )
