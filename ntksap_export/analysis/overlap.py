"""How much two masks have in common, beside what chance would give.

    Jaccard     kept by both / kept by either, of a layer or of all weights
    by chance   of independent masks that keep the shares a and b of a layer of n weights, expected counts over expected
                counts:   sum of n a b / sum of n (a + b - a b)

Two masks of the same method, or of methods that only choose layer densities, differ from chance by little.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask


@dataclass(frozen=True, slots=True)
class LayerOverlap:
    """One layer: `jaccard` in [0, 1], 1 where neither keeps anything; `by_chance` likewise."""

    name: str
    jaccard: float
    by_chance: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """All layers, and all weights together."""

    layers: tuple[LayerOverlap, ...]
    jaccard: float
    by_chance: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "jaccard": self.jaccard,
            "by_chance": self.by_chance,
            "layers": [asdict(layer) for layer in self.layers],
        }


def overlap(a: Mask, b: Mask) -> Overlap:
    """Compare two masks of one network.

    Raises:
        ConfigError: their layers or shapes differ.
    """
    for name in sorted({*a, *b}):
        if name not in a or name not in b or a[name].shape != b[name].shape:
            shapes = " and ".join(str(tuple(mask[name].shape)) for mask in (a, b) if name in mask)
            raise ConfigError(f"only masks of one network can be compared; '{name}' has shape {shapes} in these two")
    layers, sums = [], [0.0, 0.0, 0.0, 0.0]
    for name, kept in a.items():
        other = b[name].to(kept.device)
        both, either = int((kept & other).sum()), int((kept | other).sum())
        first, second = float(kept.double().mean()), float(other.double().mean())
        shared = kept.numel() * first * second
        counts = (both, either, shared, kept.numel() * (first + second) - shared)
        layers.append(LayerOverlap(name, _share(*counts[:2]), _share(*counts[2:])))
        sums = [total + count for total, count in zip(sums, counts, strict=True)]
    return Overlap(tuple(layers), _share(*sums[:2]), _share(*sums[2:]))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
