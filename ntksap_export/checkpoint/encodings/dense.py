"""Dense: the tensor as it is, under its own name. For what is not pruned, or hardly pruned.

Holds a mask only where that can be told from the values: nothing is pruned (`full`), or the kept weights are
exactly those with any bit set (`nonzero`; a kept -0.0 is one, a kept +0.0 would be lost and rules it out).
"""

from __future__ import annotations

import torch

from ntksap_export.bit_patterns import any_bit_set
from ntksap_export.checkpoint.container import Container
from ntksap_export.checkpoint.encodings.encoding import Decoded, Encoded, Entry, Subject


def parts(name: str) -> tuple[str, ...]:
    """Just the name."""
    return (name,)


def encode(subject: Subject) -> Encoded | None:
    """The tensor itself, its memory shared and not copied; None where the values do not tell the mask."""
    mask = _mask_word(subject)
    if mask is None:
        return None
    parts = {subject.name: subject.tensor}
    return Encoded(Entry("dense", subject.shape, mask), {subject.name: subject.tensor.nbytes}, lambda: parts)


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


def _mask_word(subject: Subject) -> str | None:
    if subject.kept is None:
        return "none"
    if subject.count == subject.total:
        return "full"
    return "nonzero" if torch.equal(any_bit_set(subject.tensor), subject.kept) else None
