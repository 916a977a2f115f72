"""Sizes that a small file may not ask for."""

from __future__ import annotations

from typing import Final

from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown

_ALWAYS_BYTES: Final = 2**30
_TIMES: Final = 4096


def check_dense_bytes(name: str, dense_bytes: int, stored_bytes: int) -> None:
    """Refuse a sparse tensor whose dense form is above 1 GiB and above 4096 times what is stored of it.

    A layout that lists positions (CSR, COO) can claim any size in a few bytes: nothing in the file contradicts it.

    Args:
        name: of the tensor, for the message.
        dense_bytes: what the tensor would take.
        stored_bytes: what it takes in the file.

    Raises:
        CheckpointError: it is out of all proportion.
    """
    if dense_bytes > max(_ALWAYS_BYTES, _TIMES * stored_bytes):
        raise CheckpointError(
            f"tensor {shown(name)} would take {dense_bytes} bytes, of which {stored_bytes} are stored; "
            "is the file damaged?"
        )
