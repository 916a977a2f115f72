"""How compressed-tensors stores one pruned tensor: the layouts `sparse-bitmask` and `sparse-24-bitmask`.

For a weight of shape s, named `P.weight`:

    part             sparse-bitmask                       sparse-24-bitmask (two axes only)
    P.shape          I64 [axes]: s                        I64 [2, 1]: s
    P.compressed     [kept], row by row                   [rows, columns / 2], row by row
    P.bitmask        U8 s[:-1] + [ceil(s[-1] / 8)]        the same: first column in the lowest bit, rest 0
    P.row_offsets    I64 s[:-1]                           -

`row_offsets` is the running sum, over axis 0 alone and without its own row, of the kept per row: the start of a row in
`compressed` only where there are two axes. Of each 4 values in C order 2:4 keeps exactly 2.
Source: compressed-tensors 0.14.0, compressors/sparse_compressors/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from ntksap_export.bit_patterns import patterns
from ntksap_export.checkpoint.bits import pack, packed_shape, row_counts, unpack
from ntksap_export.checkpoint.container import Container, Spec, shape_from_json
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown

BITMASK: Final = "sparse-bitmask"
BITMASK_24: Final = "sparse-24-bitmask"
DENSE: Final = "dense"
# format -> the suffixes of a pruned tensor's parts
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    BITMASK: ("shape", "compressed", "bitmask", "row_offsets"),
    BITMASK_24: ("shape", "compressed", "bitmask"),
    DENSE: (),
}


def prefix_of(part: str, layout: str) -> str | None:
    """What a part's name begins with; None for a name that is no part of a pruned tensor."""
    prefix, dot, suffix = part.rpartition(".")
    return prefix if dot and suffix in PARTS[layout] else None


def part_specs(prefix: str, layout: str, dtype: torch.dtype, shape: tuple[int, ...], kept: int) -> dict[str, Spec]:
    """Dtype and shape of each part of a tensor whose stored shape is `shape` and which keeps `kept` values."""
    lines, columns = _lines(shape)
    two_four = layout == BITMASK_24
    specs = {
        f"{prefix}.shape": Spec(torch.int64, (len(shape), 1) if two_four else (len(shape),)),
        f"{prefix}.compressed": Spec(dtype, (lines, columns // 2) if two_four else (kept,)),
        f"{prefix}.bitmask": Spec(torch.uint8, (*shape[:-1], packed_shape((lines, columns))[1])),
        f"{prefix}.row_offsets": Spec(torch.int64, shape[:-1]),
    }
    return {part: spec for part, spec in specs.items() if prefix_of(part, layout) is not None}


def arrange(prefix: str, layout: str, shape: tuple[int, ...], value: Decoded) -> dict[str, torch.Tensor]:
    """The parts of a pruned tensor, seen as `shape`, as `part_specs` describes them."""
    assert value.kept is not None
    kept = value.kept.reshape(_lines(shape))
    packed = pack(kept)
    compressed = torch.from_numpy(patterns(value.tensor)[kept.view(-1).numpy()]).view(value.tensor.dtype)
    specs = part_specs(prefix, layout, value.tensor.dtype, shape, compressed.numel())
    arranged = {
        f"{prefix}.shape": torch.tensor(shape, dtype=torch.int64),
        f"{prefix}.compressed": compressed,
        f"{prefix}.bitmask": packed,
        f"{prefix}.row_offsets": torch.from_numpy(_row_offsets(packed, shape)),
    }
    return {part: arranged[part].reshape(spec.shape).contiguous() for part, spec in specs.items()}


def decode(prefix: str, layout: str, container: Container) -> Decoded:
    """The tensor in its stored shape; nothing dense is made before all parts agree.

    Raises:
        CheckpointError: a part is missing, of another dtype or shape, or they contradict each other.
    """
    shape = _stored_shape(prefix, layout, container)
    dtype = container.spec(f"{prefix}.compressed").dtype
    lines, columns = _lines(shape)
    # `compressed` is checked last: how long it must be only the bitmask tells
    specs = part_specs(prefix, layout, dtype, shape, 0)
    for part, spec in specs.items():
        if part != f"{prefix}.compressed":
            container.expect(part, spec.dtype, spec.shape)
    packed = container.read(f"{prefix}.bitmask").reshape(packed_shape((lines, columns)))
    count = int(np.bitwise_count(packed.numpy()).sum(dtype=np.int64))
    compressed = part_specs(prefix, layout, dtype, shape, count)[f"{prefix}.compressed"]
    container.expect(f"{prefix}.compressed", compressed.dtype, compressed.shape)
    _check_counts(prefix, layout, shape, packed, container)
    tensor = torch.zeros(shape, dtype=dtype)
    if not tensor.numel():
        return Decoded(tensor, torch.ones(shape, dtype=torch.bool))
    kept = unpack(packed, (lines, columns)).reshape(shape)
    if layout == BITMASK_24 and not is_two_four(kept):
        raise CheckpointError(f"tensor {shown(f'{prefix}.bitmask')} must keep 2 of every 4; the file is damaged")
    values = patterns(container.read(f"{prefix}.compressed"))
    patterns(tensor)[kept.view(-1).numpy()] = values
    return Decoded(tensor, kept)


def is_two_four(kept: torch.Tensor) -> bool:
    """Whether exactly 2 of every 4 consecutive elements are kept."""
    return kept.numel() % 4 == 0 and bool((kept.reshape(-1, 4).sum(dim=1) == 2).all())


def _stored_shape(prefix: str, layout: str, container: Container) -> tuple[int, ...]:
    part = f"{prefix}.shape"
    spec = container.spec(part)
    axes = spec.shape[0] if spec.shape else 0
    wanted, said = ((2, 1), "[2, 1]") if layout == BITMASK_24 else ((axes,), "[axes]")
    if spec.dtype != torch.int64 or spec.shape != wanted or not 1 <= axes <= 64:
        raise CheckpointError(f"tensor {shown(part)} must be int64 {said}; got {spec.dtype} {list(spec.shape)}")
    shape = shape_from_json(container.read(part).flatten().tolist())
    if layout == BITMASK_24 and (math.prod(shape) % 4 or shape[-1] % 2):
        raise CheckpointError(f"tensor {shown(part)} is {shape}, which no 2:4 can fill; the file is damaged")
    return shape


def _check_counts(prefix: str, layout: str, shape: tuple[int, ...], packed: torch.Tensor, container: Container) -> None:
    if layout != BITMASK:
        return
    offsets = container.read(f"{prefix}.row_offsets").numpy()
    if not np.array_equal(offsets, _row_offsets(packed, shape)):
        raise CheckpointError(f"tensor {shown(f'{prefix}.row_offsets')} contradicts the bitmask; the file is damaged")


def _row_offsets(packed: torch.Tensor, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    counts = row_counts(packed).reshape(shape[:-1])
    summed = np.cumsum(counts, axis=0) if counts.ndim else counts
    return np.asarray(summed - counts, dtype=np.int64)


def _lines(shape: tuple[int, ...]) -> tuple[int, int]:
    # every row of the last axis is packed by itself
    return math.prod(shape[:-1]), shape[-1]
