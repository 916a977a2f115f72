"""Plans as bytes, as the engine's library reads them; little endian, the format stands in docs/engine-plan.md.

    header | tensors | inputs | outputs | code | zeros | blob (weights and biases)

Equal plans give equal bytes. A matrix or a bias that several operators use lies in the blob once.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from ntksap_export.engine.operators import (
    Activate,
    Activation,
    Add,
    Array,
    Concat,
    Conv,
    Flatten,
    GlobalPool,
    Mul,
    Operator,
    Plan,
    Pool,
    PoolMode,
    Weights,
    Window,
)

MAGIC: Final = b"NTKSPLN1"
VERSION: Final = 1
HEADER: Final = struct.Struct("<8s6I4Q")
ALIGNED: Final = 64  # bytes; the blob, and each matrix and bias in it
NO_BIAS: Final = 2**64 - 1
LONGEST_GAP: Final = 2**16 - 1
KINDS: Final[dict[type[Any], int]] = {
    Conv: 1, Pool: 2, GlobalPool: 3, Add: 4, Mul: 5, Concat: 6, Activate: 7, Flatten: 8,
}  # fmt: skip


def plan_to_bytes(plan: Plan) -> bytes:
    """The plan as the library reads it."""
    blob = _Blob()
    code = [word for operator in plan.operators for word in _instruction(operator, blob)]
    tensors = [number for item in plan.tensors for number in (item.channels, item.height, item.width, item.rank)]
    words = np.array([*tensors, *plan.inputs, *plan.outputs, *code], "<u4").tobytes()
    code_offset = HEADER.size + len(words) - 4 * len(code)
    blob_offset = _up(HEADER.size + len(words))
    head = HEADER.pack(
        MAGIC, VERSION, len(plan.tensors), len(plan.inputs), len(plan.outputs), len(plan.operators), len(code),
        code_offset, blob_offset, blob.size, 0,
    )  # fmt: skip
    return b"".join([head, words, bytes(blob_offset - HEADER.size - len(words)), *blob.parts])


class _Blob:
    """The arrays one after the other, each at a multiple of `ALIGNED`."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self._known: dict[bytes, int] = {}

    def add(self, data: bytes) -> int:
        """Where `data` lie, from the start of the blob."""
        if data not in self._known:
            gap = _up(self.size) - self.size
            self._known[data] = self.size + gap
            self.parts += [bytes(gap), data]
            self.size += gap + len(data)
        return self._known[data]


def _instruction(operator: Operator, blob: _Blob) -> list[int]:
    params = _params(operator, blob)
    inputs = operator.inputs
    return [KINDS[type(operator)], len(inputs), *inputs, operator.output, len(params), *params]


def _params(operator: Operator, blob: _Blob) -> list[int]:
    match operator:
        case Conv():
            encoding, data, entries = pack_weights(operator.weights)
            where = blob.add(data)
            bias = NO_BIAS if operator.bias is None else blob.add(np.asarray(operator.bias, "<f4").tobytes())
            places = (*_wide(where), *_wide(bias), *_wide(entries))
            return [*_window(operator.window)[:8], *_activation(operator.activation), encoding, *places]
        case Pool():
            return [int(operator.mode), *_window(operator.window)]
        case GlobalPool():
            return [int(operator.mode is not PoolMode.MAX)]
        case Add() | Mul() | Activate():
            return _activation(operator.activation)
        case _:
            return []


def pack_weights(weights: Weights) -> tuple[int, bytes, int]:
    """Encoding (0 dense, 1 sparse), bytes and number of stored values of a matrix."""
    if weights.counts is None or weights.places is None:
        return 0, np.ascontiguousarray(weights.values, "<f4").tobytes(), weights.values.size
    counts = np.asarray(weights.counts, np.int64)
    values, deltas = weights.values, _gaps(counts, weights.places)
    if deltas.size and int(deltas.max()) > LONGEST_GAP:
        bridges = deltas >> 16  # entries of value 0 before an entry; each leads 2**16 columns on
        row = np.repeat(np.arange(weights.rows), counts)
        counts = counts + np.bincount(row, weights=bridges, minlength=weights.rows).astype(np.int64)
        last = np.cumsum(bridges + 1) - 1  # where each entry itself comes to stand
        wide_values, wide_deltas = np.zeros(last[-1] + 1, np.float32), np.full(last[-1] + 1, LONGEST_GAP)
        wide_values[last], wide_deltas[last] = values, deltas & LONGEST_GAP
        values, deltas = wide_values, wide_deltas
    parts = (counts.astype("<u4"), np.asarray(values, "<f4"), deltas.astype("<u2"), np.zeros(values.size % 2, "<u2"))
    return 1, b"".join(part.data for part in parts), values.size


def _gaps(counts: Array, places: Array) -> Array:
    """Columns left out before each entry of a row."""
    gaps = np.empty_like(places)
    np.subtract(places[1:], places[:-1], out=gaps[1:])
    gaps -= 1
    first = (np.cumsum(counts) - counts)[counts > 0]
    gaps[first] = places[first]
    return gaps


def _window(window: Window) -> list[int]:
    return [
        window.kh, window.kw, window.sh, window.sw, window.dh, window.dw,
        window.top, window.left, window.bottom, window.right,
    ]  # fmt: skip


def _activation(activation: Activation) -> list[int]:
    a, b = struct.unpack("<2I", struct.pack("<2f", activation.a, activation.b))
    return [int(activation.act), a, b]


def _wide(number: int) -> tuple[int, int]:
    return number & 0xFFFFFFFF, number >> 32


def _up(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
