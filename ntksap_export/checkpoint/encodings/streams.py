"""Byte streams as they lie in the file: a zstandard frame where that is shorter, else the bytes themselves.

Which of the two follows from the lengths alone: a stored length equal to the raw one means raw. The streams are coded
symbol by symbol already and hold next to nothing to be found: a search for long repeats alone, in a table
of 64 places, is two to three times faster than level 1, and its frames are shorter; levels above 1 come out longer.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard

from ntksap_export.errors import CheckpointError

Bytes = npt.NDArray[np.uint8]
_SEARCH: Final = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    window_log=17,
    hash_log=6,
    chain_log=6,
    search_log=1,
    min_match=7,
    target_length=0,  # above 0 symbols would not be coded at all
    write_content_size=1,
    write_checksum=0,
)


class _Own(threading.local):
    """What each thread has for itself: making these anew takes longer than most streams do."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(compression_params=_SEARCH)
        self.decompressor = zstandard.ZstdDecompressor()


_OWN: Final = _Own()


def squeezed(raw: Bytes) -> Bytes:
    """The shorter of `raw` and its zstandard frame; `raw` itself where both are as long.

    Args:
        raw: contiguous.
    """
    if raw.size == 0:
        return raw
    frame = np.frombuffer(_OWN.compressor.compress(raw.data), dtype=np.uint8)
    return frame if frame.size < raw.size else raw


def expanded(stored: Bytes, raw_bytes: int, what: str) -> Bytes:
    """The raw stream of `raw_bytes`; not a byte of memory is taken before the frame itself says the same length.

    Args:
        stored: as it lies in the file.
        raw_bytes: its length, from the metadata.
        what: the stream, for a message.

    Raises:
        CheckpointError: it is longer than its raw form, no zstandard frame, damaged, or of another length.
    """
    if stored.size == raw_bytes:
        return stored
    if stored.size > raw_bytes:
        raise CheckpointError(f"{what} takes {stored.size} bytes for {raw_bytes}; the file is damaged")
    frame: Any = np.ascontiguousarray(stored).data
    try:
        found = zstandard.get_frame_parameters(frame)
        if (found.content_size, found.dict_id) != (raw_bytes, 0):
            raise CheckpointError(f"{what} must expand to {raw_bytes} bytes; its frame says {found.content_size}")
        raw = _OWN.decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CheckpointError(f"{what} is no sound zstandard frame ({error}); the file is damaged") from error
    if len(raw) != raw_bytes:
        raise CheckpointError(f"{what} must expand to {raw_bytes} bytes; got {len(raw)}")
    return np.frombuffer(raw, dtype=np.uint8)
