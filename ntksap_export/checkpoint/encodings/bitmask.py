"""Bitmask: the kept values in a row, and one bit per weight that says where they stand.

The `sparse-bitmask` convention that compressed-tensors published, so that its readers can open our files. For
`P.weight`, seen as a matrix (O, I*kh*kw):

    P.shape        I64 (2,)                the matrix's shape
    P.compressed   as the weight (kept,)   kept values, row by row
    P.bitmask      U8 (O, ceil(cols / 8))  first column in the lowest bit; bits beyond the last column are 0
    P.row_offsets  I64 (O,)                where each row begins in `compressed`

Ours differs in what a bit means: kept by the mask, not "is not zero", so a kept 0.0 stays kept. The true
shape of a convolution stands in the metadata. A pruned parameter whose name does not end in `.weight` takes
its whole name as P. Takes 1/8 + density * itemsize bytes per weight, and 8 per row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ntksap_export.bit_patterns import patterns
from ntksap_export.checkpoint.bits import matrix_shape, pack, packed_shape, row_counts, unpack
from ntksap_export.checkpoint.container import Container
from ntksap_export.checkpoint.encodings.encoding import Decoded, Encoded, Entry, Subject
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown


def parts(name: str) -> tuple[str, ...]:
    """Names of shape, compressed, bitmask and row_offsets, in this order."""
    prefix = name.removesuffix(".weight")
    return f"{prefix}.shape", f"{prefix}.compressed", f"{prefix}.bitmask", f"{prefix}.row_offsets"


def encode(subject: Subject) -> Encoded | None:
    """Gather the kept values and pack the mask; None for what is not pruned."""
    tensor, kept = subject.tensor, subject.kept
    if kept is None:
        return None
    values = torch.from_numpy(patterns(tensor)[subject.stored]).view(tensor.dtype)
    packed = pack(kept)
    matrix = torch.tensor(matrix_shape(subject.shape), dtype=torch.int64)
    offsets = torch.from_numpy(_row_offsets(row_counts(packed)))
    arranged = dict(zip(parts(subject.name), (matrix, values, packed, offsets), strict=True))
    sizes = {part: values.nbytes for part, values in arranged.items()}
    return Encoded(Entry("bitmask", subject.shape, "bitmask"), sizes, lambda: arranged)


def decode(name: str, entry: Entry, container: Container) -> Decoded:
    """Scatter the kept values into zeros. The dense tensor is made only after everything agrees.

    Raises:
        CheckpointError: a part is missing, of another dtype or shape, or they contradict each other.
    """
    entry.check_mask(name, "bitmask")
    shape, compressed, bitmask, offsets = parts(name)
    matrix = matrix_shape(entry.shape)
    spec = container.spec(compressed)
    container.expect(shape, torch.int64, (2,))
    container.expect(bitmask, torch.uint8, packed_shape(entry.shape))
    container.expect(offsets, torch.int64, matrix[:1])
    packed = container.read(bitmask)
    counts = row_counts(packed)
    container.expect(compressed, spec.dtype, (int(counts.sum()),))
    if container.read(shape).tolist() != list(matrix):
        raise CheckpointError(f"tensor {shown(shape)} contradicts the metadata's shape {entry.shape}")
    if not np.array_equal(container.read(offsets).numpy(), _row_offsets(counts)):
        raise CheckpointError(f"tensor {shown(offsets)} contradicts the bitmask; the file is damaged")
    kept = unpack(packed, entry.shape)
    tensor = torch.zeros(entry.shape, dtype=spec.dtype)
    patterns(tensor)[kept.view(-1).numpy()] = patterns(container.read(compressed))
    return Decoded(tensor, kept)


def _row_offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    offsets: npt.NDArray[np.int64] = np.cumsum(counts, dtype=np.int64) - counts
    return offsets
