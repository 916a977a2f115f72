"""A safetensors file written part by part: sizes first, then each part at its place, none kept in memory.

Parts lie in order of item size, the largest first, then by name, so that each is aligned and the bytes depend on the
content alone, not on the order in which the parts come.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import torch

from ntksap_export.checkpoint.bits import patterns
from ntksap_export.checkpoint.container import DTYPES, Spec

# What safetensors has a code for; DTYPES are those that a checkpoint of ours holds.
CODES: Final[Mapping[torch.dtype, str]] = {
    **{dtype: code for code, dtype in DTYPES.items()},
    torch.complex64: "C64",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
}


def write_safetensors(
    path: Path,
    specs: Mapping[str, Spec],
    parts: Iterable[tuple[str, torch.Tensor]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file to `path`, where nothing is yet.

    Args:
        path: of the new file.
        specs: of every part.
        parts: each part of `specs` once, in any order; contiguous, on the CPU.
        metadata: goes into the header's `__metadata__`.

    Raises:
        OSError: the disk is full or the directory cannot be written.
    """
    order = sorted(specs, key=lambda part: (-specs[part].dtype.itemsize, part))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    places, end = {}, 0
    for part in order:
        spec, places[part] = specs[part], end
        end += spec.nbytes
        header[part] = {"dtype": CODES[spec.dtype], "shape": list(spec.shape), "data_offsets": [places[part], end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    missing = set(specs)
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for part, tensor in parts:
            assert specs[part] == Spec(tensor.dtype, tuple(tensor.shape)), part
            missing.remove(part)
            if tensor.numel():
                file.seek(8 + len(text) + places[part])
                file.write(patterns(tensor).data)
            del tensor  # before the next one is made
    assert not missing, missing
