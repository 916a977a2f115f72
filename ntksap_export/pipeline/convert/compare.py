"""Two checkpoints, bit by bit."""

from __future__ import annotations

import torch

from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown


def check_same(given: Source, written: Source, masks: bool, to: str) -> None:
    """Check that `written` gives what `given` does: names, dtypes, shapes, every bit, and masks.

    Args:
        given: what was to be written.
        written: what was.
        masks: False where the format keeps no masks but the zeros they made.
        to: the format, for the message.

    Raises:
        CheckpointError: names the first tensor that differs.
    """
    theirs, ours = set(written.names()), set(given.names())
    if theirs != ours:
        name = min(theirs ^ ours)
        side = "lacks" if name in ours else "has besides"
        raise CheckpointError(
            f"as {to} it would be read with other names: it {side} {shown(name)}; nothing was replaced. "
            "Choose another --to"
        )
    for name in given.names():
        first, second = given.read(name), written.read(name)
        if not same_bits(first.tensor, second.tensor):
            raise CheckpointError(f"{shown(name)} came back other than it was written as {to}; please report this")
        if masks and not _same_mask(first.kept, second.kept):
            raise CheckpointError(f"the mask of {shown(name)} came back other than it was written as {to}")


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether dtype, shape and every bit agree; NaN is equal to itself, and 0 is not -0."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(_bytes(first), _bytes(second))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return plain.contiguous().view(-1).view(torch.uint8)


def _same_mask(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return torch.equal(first, second)
