"""Ways to put one tensor into the file, and the choice among them: the smallest that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch

from ntksap_export.checkpoint.container import Container, shown
from ntksap_export.checkpoint.encodings import bitmask, dense
from ntksap_export.checkpoint.encodings.encoding import Decoded, Encoded, Encoding, Entry
from ntksap_export.errors import CheckpointError

# A new encoding is one file and one line. Of two that take the same space the first is chosen.
ENCODINGS: Final[Mapping[str, Encoding]] = {
    "dense": dense,
    "bitmask": bitmask,
}

__all__ = ["ENCODINGS", "Decoded", "Encoded", "Encoding", "Entry", "decode", "encode", "entry_parts"]


def encode(name: str, tensor: torch.Tensor, kept: torch.Tensor | None) -> Encoded:
    """Arrange one tensor for the file, in the encoding that takes the fewest bytes.

    Args:
        name: of the tensor.
        tensor: contiguous, on the CPU, all bits 0 where not kept.
        kept: bool of the same shape, or None where the tensor is not pruned.
    """
    costs = {key: encoding.cost_bytes(tensor, kept) for key, encoding in ENCODINGS.items()}
    possible = {key: cost for key, cost in costs.items() if cost is not None}
    return ENCODINGS[min(possible, key=possible.__getitem__)].encode(name, tensor, kept)


def decode(name: str, entry: Entry, container: Container) -> Decoded:
    """Read one tensor back.

    Raises:
        CheckpointError: the encoding is unknown, or the file contradicts itself.
    """
    return _known(name, entry).decode(name, entry, container)


def entry_parts(name: str, entry: Entry) -> tuple[str, ...]:
    """Names of the file's tensors that hold `name`.

    Raises:
        CheckpointError: the encoding is unknown.
    """
    return _known(name, entry).parts(name)


def _known(name: str, entry: Entry) -> Encoding:
    if entry.encoding not in ENCODINGS:
        raise CheckpointError(
            f"tensor {shown(name)} has the unknown encoding {shown(entry.encoding)} "
            f"(known: {', '.join(ENCODINGS)}); upgrade ntksap-export"
        )
    return ENCODINGS[entry.encoding]
