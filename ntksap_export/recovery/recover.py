"""What `--recover` does to the network that training starts from: pruned, and not yet trained (again)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.progress import Progress
from ntksap_export.recovery.gains import layer_gains
from ntksap_export.recovery.isometry import STEPS, approximate_isometry_
from ntksap_export.recovery.layers import Layer, deviation, layers_of, lost_values
from ntksap_export.recovery.orthp import orthp_

RECOVERIES = ("none", "orthp", "isometry")


@dataclass(frozen=True, slots=True)
class RecoveredLayer:
    """One layer, as matrices of which the smaller side counts as rows.

    Attributes:
        name: of the weight.
        gain: what its singular values should be.
        before: || W W^T / gain^2 - I ||_F / || I ||_F, as pruning left it: 0 for an isometry.
        after: the same, recovered.
        rows: how many there are: of singular values too.
        lost: singular values that are 0 because rows or columns keep no weight; with them `after` cannot be 0.
        steps: that were taken; 0 where none are needed.
    """

    name: str
    gain: float
    before: float
    after: float
    rows: int
    lost: int
    steps: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done: `how`, layer by layer, and the seconds that it took."""

    how: str
    layers: tuple[RecoveredLayer, ...]
    seconds: float

    @property
    def starved(self) -> tuple[RecoveredLayer, ...]:
        """Layers with rows or columns that keep no weight."""
        return tuple(layer for layer in self.layers if layer.lost)

    def to_json(self) -> dict[str, Any]:
        """As stored in metrics.json."""
        return {"how": self.how, "seconds": self.seconds, "layers": [asdict(layer) for layer in self.layers]}


@torch.no_grad()
def recover_(
    model: nn.Module,
    mask: Mask,
    how: str,
    shape: tuple[int, ...],
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Recovered:
    """Set pruned weights to 0 and make what is left of each layer as isometric as it can be, in place.

    Args:
        model: on the device that computes; biases, norms and buffers stay.
        mask: of the model; after this its pruned weights are exactly 0.
        how: of `RECOVERIES`; `none` only sets pruned weights to 0.
        shape: (C, H, W) of the model's input.
        steps: of `isometry`, per layer, at most.
        seed: of `isometry`; see there.
        progress: a bar for `isometry`, which takes its time.

    Raises:
        CheckpointError: the mask does not fit the model.
        ConfigError: `orthp` under a mask that prunes single weights, or what follows a layer cannot be read.
    """
    start = time.perf_counter()
    mask.apply_(model)
    if how == "none":
        return Recovered(how, (), 0.0)
    if how == "orthp":
        check_whole(mask)
    gains, layers = layer_gains(model, shape), layers_of(model)
    before = {layer.name: _off(layer, gains[layer.name]) for layer in layers}
    taken: dict[str, int] = {}
    if how == "orthp":
        orthp_(model, gains)
    else:
        taken = approximate_isometry_(model, mask, gains, steps=steps, seed=seed, progress=progress)
    rows = tuple(
        RecoveredLayer(
            name=layer.name,
            gain=gains[layer.name],
            before=before[layer.name],
            after=_off(layer, gains[layer.name]),
            rows=layer.groups * min(layer.matrices(layer.weight).shape[-2:]),
            lost=lost_values(layer.matrices(mask[layer.name])),
            steps=taken.get(layer.name, 0),
        )
        for layer in layers
    )
    return Recovered(how, rows, time.perf_counter() - start)


def check_whole(mask: Mask) -> None:
    """Check that `mask` prunes no single weight: where channels were removed, all that is left is kept.

    Raises:
        ConfigError: it does; names the first layer.
    """
    for name, kept in mask.items():
        if not kept.all():
            raise ConfigError(
                f"recovery orthp fills every weight of a layer, and the mask prunes {int((~kept).sum()):,} of "
                f"{kept.numel():,} in '{name}'; use --recover isometry, or remove whole channels (--pattern channel)"
            )


def _off(layer: Layer, gain: float) -> float:
    return deviation(layer.matrices(layer.weight) / gain)
