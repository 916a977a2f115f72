"""A safetensors file written part by part: header first, then each part at its place, none kept in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from ntksap_export.bit_patterns import patterns
from ntksap_export.checkpoint.container import Spec
from ntksap_export.checkpoint.header import header


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
    text, places = header(specs, metadata)
    missing = set(specs)
    with path.open("xb") as file:
        file.write(text)
        for part, tensor in parts:
            assert specs[part] == Spec(tensor.dtype, tuple(tensor.shape)), part
            missing.remove(part)
            if tensor.numel():
                file.seek(len(text) + places[part])
                file.write(patterns(tensor).data)
            del tensor  # before the next one is made
    assert not missing, missing
