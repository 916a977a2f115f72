"""Bitmask under zstandard: a bit per weight, the first in the lowest bit of the first byte, in rows of no padding.

Best where whole rows or channels are pruned, so that bytes repeat.
"""

from __future__ import annotations

import numpy as np

from ntksap_export.checkpoint.encodings.encoding import Packing
from ntksap_export.checkpoint.encodings.streams import Bytes
from ntksap_export.checkpoint.encodings.values import Bools
from ntksap_export.errors import CheckpointError


def positions(kept: Bools, shape: tuple[int, ...]) -> tuple[Bytes, None]:  # noqa: ARG001
    """The packed bits."""
    return np.packbits(kept, bitorder="little"), None


def most_bytes(total: int, packing: Packing) -> int:  # noqa: ARG001
    """Exactly a byte per eight weights."""
    return -(-total // 8)


def kept(stream: Bytes, shape: tuple[int, ...], total: int, packing: Packing) -> Bools:  # noqa: ARG001
    """The bits, flat.

    Raises:
        CheckpointError: the stream is too short or long, or a bit beyond the last weight is set.
    """
    if stream.size != -(-total // 8) or (total % 8 and int(stream[-1]) >> total % 8):
        raise CheckpointError(f"its bitmask does not have {total} bits; the file is damaged")
    return np.unpackbits(stream, count=total, bitorder="little").view(np.bool_)
