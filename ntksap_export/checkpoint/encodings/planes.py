"""Planes: every element is there, so no positions are written; byte planes of the values alone."""

from __future__ import annotations

import numpy as np

from ntksap_export.checkpoint.encodings.encoding import Packing
from ntksap_export.checkpoint.encodings.streams import Bytes
from ntksap_export.checkpoint.encodings.values import Bools
from ntksap_export.errors import CheckpointError


def positions(kept: Bools, shape: tuple[int, ...]) -> tuple[Bytes, None] | None:  # noqa: ARG001
    """An empty stream; None where something is not kept."""
    return (np.empty(0, dtype=np.uint8), None) if kept.all() else None


def most_bytes(total: int, packing: Packing) -> int:  # noqa: ARG001
    """None at all."""
    return 0


def kept(stream: Bytes, shape: tuple[int, ...], total: int, packing: Packing) -> Bools:  # noqa: ARG001
    """Everywhere.

    Raises:
        CheckpointError: the metadata counts fewer.
    """
    if packing.kept != total:
        raise CheckpointError(f"it must keep all of its {total} weights; got {packing.kept}")
    return np.ones(total, dtype=np.bool_)
