"""Controls: what a mask is worth beyond its layer densities and its initialization (Frankle et al., ICLR 2021).

    shuffle   permute the mask within each layer: same layer densities and pattern, other weights
    reinit    leave the mask, train another draw of the initialization

Most methods lose nothing under either: what they learn is the layer densities.
"""

from __future__ import annotations

import hashlib

import torch

from ntksap_export.masks import Mask, Pattern, Unstructured

CONTROLS = ("none", "shuffle", "reinit")


def shuffled(mask: Mask, seed: int, pattern: Pattern | None = None) -> Mask:
    """`mask` with the places of its kept weights drawn anew in each layer; every layer keeps its count.

    Args:
        mask: untouched.
        seed: the same seed, the same places, on any device.
        pattern: what `mask` follows, and the result as well; None is unstructured.
    """
    generator = torch.Generator().manual_seed(reinit_seed(seed))
    pattern = pattern or Unstructured()
    return Mask(
        {
            name: kept.clone() if pattern.misfit(kept.shape) else pattern.shuffled(kept, generator)
            for name, kept in mask.items()
        }
    )


def reinit_seed(seed: int) -> int:
    """The seed of the other draw: far from `seed` and from every other run's, and the same each time."""
    return int.from_bytes(hashlib.sha256(f"control {seed}".encode()).digest()[:7], "little")
