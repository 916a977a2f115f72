"""Dense: the tensor as it is, under its own name. For what is not pruned, or hardly pruned.

Holds a mask only where that can be told from the values: nothing is pruned (`full`), or the kept weights are
exactly those with any bit set (`nonzero`; a kept -0.0 is one, a kept +0.0 would be lost and rules it out).
"""

from __future__ import annotations

import torch

from ntksap_export.checkpoint.bits import any_bit_set
from ntksap_export.checkpoint.container import Container
from ntksap_export.checkpoint.encodings.encoding import Decoded, Encoded, Entry


def parts(name: str) -> tuple[str, ...]:
    """Just the name."""
    return (name,)


def cost_bytes(tensor: torch.Tensor, kept: torch.Tensor | None) -> int | None:
    """All elements, or None where the values do not tell the mask."""
    if kept is None or bool(kept.all()) or torch.equal(any_bit_set(tensor), kept):
        return tensor.nbytes
    return None


def encode(name: str, tensor: torch.Tensor, kept: torch.Tensor | None) -> Encoded:
    """The tensor itself; its memory is shared, not copied."""
    mask = "none" if kept is None else "full" if bool(kept.all()) else "nonzero"
    return Encoded(Entry("dense", tuple(tensor.shape), mask), {name: tensor})


def decode(name: str, entry: Entry, container: Container) -> Decoded:
    """Read the tensor, and the mask off its values.

    Raises:
        CheckpointError: it is missing, of another shape, or the metadata names another kind of mask.
    """
    entry.check_mask(name, "none", "full", "nonzero")
    container.expect(name, container.spec(name).dtype, entry.shape)
    tensor = container.read(name)
    if entry.mask == "none":
        return Decoded(tensor, None)
    kept = torch.ones(entry.shape, dtype=torch.bool) if entry.mask == "full" else any_bit_set(tensor)
    return Decoded(tensor, kept)
