"""Plans put together byte by byte, straight from the format's description, without the package's own writer."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

Shape = tuple[int, int, int, int]  # channels, height, width, rank
NONE = (0, 0, 0)
RELU = (1, 0, 0)
NO_BIAS = (0xFFFFFFFF, 0xFFFFFFFF)


def instruction(kind: int, inputs: Sequence[int], output: int, params: Sequence[int] = ()) -> list[int]:
    return [kind, len(inputs), *inputs, output, len(params), *params]


def conv(
    inputs: Sequence[int],
    output: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    pad: int = 0,
    act: Sequence[int] = NONE,
    sparse: bool,
    weights: int,
    bias: int | None = None,
    nnz: int,
) -> list[int]:
    window = [kernel, kernel, stride, stride, 1, 1, pad, pad]
    where = [weights, 0, *(NO_BIAS if bias is None else (bias, 0)), nnz, 0]
    return instruction(1, inputs, output, [*window, *act, int(sparse), *where])


def raw_plan(
    tensors: Sequence[Shape], inputs: Sequence[int], outputs: Sequence[int], code: Sequence[Sequence[int]], blob: bytes
) -> bytes:
    words = [word for one in code for word in one]
    tables = b"".join(struct.pack("<4I", *shape) for shape in tensors) + struct.pack(
        f"<{len(inputs) + len(outputs)}I", *inputs, *outputs
    )
    code_offset = 64 + len(tables)
    end = code_offset + 4 * len(words)
    blob_offset = -(-end // 64) * 64
    counts = (1, len(tensors), len(inputs), len(outputs), len(code), len(words))
    header = b"NTKSPLN1" + struct.pack("<6I4Q", *counts, code_offset, blob_offset, len(blob), 0)
    return header + tables + struct.pack(f"<{len(words)}I", *words) + bytes(blob_offset - end) + blob


def sparse_bytes(rows: Sequence[dict[int, float]]) -> bytes:
    """Rows as {column: value}: counts, values, gaps."""
    counts = [len(row) for row in rows]
    values = [value for row in rows for value in row.values()]
    columns = [list(row) for row in rows]
    gaps = [k - before - 1 for row in columns for before, k in zip([-1, *row], row, strict=False)]
    data = struct.pack(f"<{len(counts)}I{len(values)}f{len(gaps)}H", *counts, *values, *gaps)
    return data + bytes(-len(data) % 4)


# A convolution of 1 x 1 on two channels whose answers can be seen: row 0 takes channel 1 twice, row 1 nothing, row 2
# both; bias 10, 20, 30.
TINY_ROWS = [{1: 2.0}, {}, {0: 1.0, 1: -1.0}]
TINY_BLOB = sparse_bytes(TINY_ROWS) + struct.pack("<3f", 10, 20, 30)
TINY = raw_plan(
    [(2, 1, 3, 4), (3, 1, 3, 4)],
    [0],
    [1],
    [conv([0], 1, sparse=True, weights=0, bias=len(TINY_BLOB) - 12, nnz=3)],
    TINY_BLOB,
)
TINY_INPUT = np.array([[[[1, 2, 3]], [[4, 5, 6]]]], np.float32)
TINY_OUTPUT = np.array([[[[18, 20, 22]], [[20, 20, 20]], [[27, 27, 27]]]], np.float32)


def every_kind(seed: int = 0) -> tuple[bytes, dict[str, np.ndarray]]:
    """A plan with an operator of each kind, and its weights: (3, 6, 6) to (5) and (8, 3, 3)."""
    random = np.random.default_rng(seed)
    stem = random.standard_normal((4, 27)).astype(np.float32) * (random.random((4, 27)) < 0.4)
    weights = {
        "stem": stem,
        "bias": random.standard_normal(4).astype(np.float32),
        "point": random.standard_normal((4, 4)).astype(np.float32),
        "dense": random.standard_normal((5, 72)).astype(np.float32),
    }
    packed = sparse_bytes([{int(k): float(row[k]) for k in np.flatnonzero(row)} for row in stem])
    parts = [packed, *(weights[name].tobytes() for name in ("bias", "point", "dense"))]
    at = np.cumsum([0, *map(len, parts)]).tolist()
    tensors = [(3, 6, 6, 4), (4, 6, 6, 4), (4, 3, 3, 4), (4, 3, 3, 4), (4, 3, 3, 4), (4, 1, 1, 4), (4, 1, 1, 4)]
    tensors += [(4, 3, 3, 4), (8, 3, 3, 4), (72, 1, 1, 2), (5, 1, 1, 2)]
    sixth, half = struct.unpack("<2I", struct.pack("<2f", 1 / 6, 0.5))
    code = [
        conv([0], 1, kernel=3, pad=1, act=RELU, sparse=True, weights=0, bias=at[1], nnz=int(np.count_nonzero(stem))),
        instruction(2, [1], 2, [0, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0]),
        conv([2, 2], 3, sparse=False, weights=at[2], nnz=16),
        instruction(4, [2, 3], 4, RELU),
        instruction(3, [4], 5, [1]),
        instruction(7, [5], 6, (4, sixth, half)),
        instruction(5, [4, 6], 7, NONE),
        instruction(6, [7, 4], 8),
        instruction(8, [8], 9),
        conv([9], 10, sparse=False, weights=at[3], nnz=360),
    ]
    return raw_plan(tensors, [0], [10, 8], code, b"".join(parts)), weights
