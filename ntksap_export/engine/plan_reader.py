"""Bytes back to a plan, for inspection and tests; nothing in them is believed.

The checks are those of the engine's library: sizes against the bytes that are there, numbers against the limits, each
tensor written once before it is read, and shapes that fit each other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np

from ntksap_export.engine.operators import (
    Act,
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
    Tensor,
    Weights,
    Window,
    column_type,
)
from ntksap_export.engine.plan_bytes import HEADER, KINDS, LONGEST_GAP, MAGIC, NO_BIAS, VERSION
from ntksap_export.errors import CheckpointError

MOST: Final = 65536  # tensors, operators
MOST_CHANNELS: Final = 2**20
MOST_SIDE: Final = 2**14
MOST_SIZE: Final = 2**28  # channels * height * width
MOST_KERNEL, MOST_STRIDE, MOST_DILATION = 64, 16, 64
_TYPES: Final = {number: kind for kind, number in KINDS.items()}
_PARAMS: Final = {Conv: 18, Pool: 11, GlobalPool: 1, Add: 3, Mul: 3, Concat: 0, Activate: 3, Flatten: 0}
_TAKES: Final = {Conv: (1, 2), Pool: (1,), GlobalPool: (1,), Add: (2,), Mul: (2,), Activate: (1,), Flatten: (1,)}


def plan_from_bytes(data: bytes) -> Plan:
    """Read a plan.

    Raises:
        CheckpointError: the bytes are no plan of this version, or contradict themselves.
    """
    if len(data) < HEADER.size:
        _refuse(f"{len(data)} bytes are too few for a header")
    magic, version, n_tensors, n_inputs, n_outputs, n_ops, n_words, code_at, blob_at, blob_size, zero = (
        HEADER.unpack_from(data)
    )
    if magic != MAGIC or version != VERSION:
        _refuse(f"it begins with {magic!r} version {version}; expected {MAGIC!r} version {VERSION}")
    if n_tensors > MOST or n_ops > MOST or not 1 <= n_inputs <= n_tensors or not 1 <= n_outputs <= n_tensors:
        _refuse(f"{n_tensors} tensors, {n_inputs} inputs, {n_outputs} outputs, {n_ops} operators")
    tables = HEADER.size + 4 * (4 * n_tensors + n_inputs + n_outputs)
    end = tables + 4 * n_words
    if code_at != tables or zero or blob_at % 64 or not end <= blob_at < end + 64 or blob_at + blob_size != len(data):
        _refuse(f"its parts do not fit its {len(data)} bytes")
    if any(data[end:blob_at]):
        _refuse("the bytes before the blob are not zero")
    words = np.frombuffer(data, "<u4", (end - HEADER.size) // 4, HEADER.size).tolist()
    shapes, rest = words[: 4 * n_tensors], words[4 * n_tensors :]
    tensors = tuple(_tensor(*shapes[at : at + 4]) for at in range(0, len(shapes), 4))
    code = _Code(rest[n_inputs + n_outputs :], tensors, data[blob_at:])
    inputs, outputs = tuple(rest[:n_inputs]), tuple(rest[n_inputs : n_inputs + n_outputs])
    for number in inputs:
        code.write(number)
    operators = tuple(code.operator() for _ in range(n_ops))
    if code.at != n_words:
        _refuse(f"{n_words - code.at} words are left behind its last instruction")
    for number in outputs:
        code.read(number)
    if len({*inputs, *outputs}) != len(inputs) + len(outputs):
        _refuse("an output is an input or another output as well")
    if len(code.written) != n_tensors:
        _refuse(f"{n_tensors - len(code.written)} tensors are never written")
    return Plan(tensors, inputs, outputs, operators)


def _refuse(reason: str) -> NoReturn:
    raise CheckpointError(f"malformed plan: {reason}; export the graph again")


def _tensor(channels: int, height: int, width: int, rank: int) -> Tensor:
    sides = max(height, width) <= MOST_SIDE and min(channels, height, width) >= 1
    if rank not in (2, 4) or not sides or channels > MOST_CHANNELS or channels * height * width > MOST_SIZE:
        _refuse(f"a tensor has shape ({channels}, {height}, {width}) and rank {rank}")
    if rank == 2 and (height, width) != (1, 1):
        _refuse(f"a tensor of rank 2 has height {height} and width {width}")
    return Tensor(channels, height, width, rank)


@dataclass
class _Code:
    """The instructions, read one after the other."""

    words: list[int]
    tensors: tuple[Tensor, ...]
    blob: bytes
    at: int = 0

    def __post_init__(self) -> None:
        self.written: set[int] = set()

    def take(self, count: int) -> list[int]:
        if count > len(self.words) - self.at:
            _refuse("an instruction goes beyond the code")
        self.at += count
        return self.words[self.at - count : self.at]

    def read(self, number: int) -> None:
        if number not in self.written:
            _refuse(f"tensor {number} is read before it is written")

    def write(self, number: int) -> None:
        if number >= len(self.tensors) or number in self.written:
            _refuse(f"tensor {number} is written twice or does not exist")
        self.written.add(number)

    def operator(self) -> Operator:
        number, n_in = self.take(2)
        kind = _TYPES.get(number)
        if kind is None:
            _refuse(f"no operator has the number {number}")
        if n_in not in _TAKES.get(kind, (n_in,)) or n_in < 1:
            _refuse(f"{kind.__name__} has {n_in} inputs")
        inputs = tuple(self.take(n_in))
        for item in inputs:
            self.read(item)
        output, n_params = self.take(2)
        self.write(output)
        if n_params != _PARAMS[kind]:
            _refuse(f"{kind.__name__} has {n_params} parameters; expected {_PARAMS[kind]}")
        return self._made(kind, inputs, output, self.take(n_params))

    def _made(self, kind: type[Operator], inputs: tuple[int, ...], output: int, params: list[int]) -> Operator:
        given, made = [self.tensors[item] for item in inputs], self.tensors[output]
        if not _fits(kind, given, made):
            _refuse(f"{kind.__name__} makes {made} of {', '.join(map(str, given))}")
        if kind is Conv:
            window = _window([*params[:8], 0, 0])
            if not _conv_fits(window, given[0], made):
                _refuse(f"Conv makes {made} of {given[0]} with {window}")
            weights = self._weights(made.channels, given[0].channels * window.kh * window.kw, params[11:])
            bias_at = params[14] | params[15] << 32
            bias = None if bias_at == NO_BIAS else self._array(bias_at, "<f4", made.channels)
            return Conv(inputs, output, window, weights, bias, _activation(params[8:11]))
        if kind is Pool:
            window, mode = _window(params[1:]), params[0]
            if mode > 2:
                _refuse(f"a pool has the mode {mode}")
            if not _pool_fits(window, PoolMode(mode), given[0], made):
                _refuse(f"Pool makes {made} of {given[0]} with {window}")
            return Pool(inputs, output, window, PoolMode(mode))
        if kind is GlobalPool:
            if params[0] > 1:
                _refuse(f"a global pool has the mode {params[0]}")
            return GlobalPool(inputs, output, PoolMode(params[0]))
        if kind is Add or kind is Mul or kind is Activate:
            return kind(inputs, output, _activation(params))
        return Concat(inputs, output) if kind is Concat else Flatten(inputs, output)

    def _weights(self, rows: int, columns: int, params: list[int]) -> Weights:
        encoding, start, stored = params[0], params[1] | params[2] << 32, params[5] | params[6] << 32
        if encoding == 0 and stored == rows * columns:
            return Weights(rows, columns, self._array(start, "<f4", stored))
        if encoding != 1:
            _refuse(f"a matrix of {rows} x {columns} has {stored} values in encoding {encoding}")
        counts = self._array(start, "<u4", rows).astype(np.int64)
        if int(counts.sum()) != stored:
            _refuse(f"the rows of a matrix have {int(counts.sum())} entries; it says {stored}")
        values = self._array(start + 4 * rows, "<f4", stored)
        deltas = self._array(start + 4 * rows + 4 * stored, "<u2", stored).astype(np.int64)
        return _without_bridges(rows, columns, counts, values, deltas)

    def _array(self, start: int, kind: str, count: int) -> Array:
        size = count * np.dtype(kind).itemsize
        if start % 4 or start + size + (-size % 4) > len(self.blob):
            _refuse(f"{size} bytes at {start} go beyond the blob of {len(self.blob)} or are not aligned")
        return np.frombuffer(self.blob, kind, count, start)


def _without_bridges(rows: int, columns: int, counts: Array, values: Array, deltas: Array) -> Weights:
    total = np.cumsum(deltas + 1)
    before = np.concatenate([[0], total])[np.cumsum(counts) - counts]  # sum of all rows before
    places = total - np.repeat(before, counts) - 1
    if places.size and int(places.max()) >= columns:
        _refuse(f"an entry lies in column {int(places.max())} of {columns}")
    places = places.astype(column_type(columns))
    real = (values != 0) | (deltas != LONGEST_GAP)
    if real.all():
        return Weights(rows, columns, values, counts, places)
    row = np.repeat(np.arange(rows), counts)[real]
    return Weights(rows, columns, values[real], np.bincount(row, minlength=rows), places[real])


def _window(params: list[int]) -> Window:
    window = Window(*params)
    kernel = (
        (window.kh, window.kw, MOST_KERNEL),
        (window.sh, window.sw, MOST_STRIDE),
        (window.dh, window.dw, MOST_DILATION),
    )
    if any(not 1 <= size <= most for *sizes, most in kernel for size in sizes):
        _refuse(f"a window is {window}")
    if max(window.top, window.bottom) > window.reach[0] or max(window.left, window.right) > window.reach[1]:
        _refuse(f"the padding is wider than the kernel reaches: {window}")
    return window


def _conv_fits(window: Window, given: Tensor, made: Tensor) -> bool:
    """Whether the output ends at most one reach of the kernel behind the input."""
    down = (made.height - 1) * window.sh <= given.height + window.top
    return down and (made.width - 1) * window.sw <= given.width + window.left


def _pool_fits(window: Window, mode: PoolMode, given: Tensor, made: Tensor) -> bool:
    """Whether every window holds something: of the input, or, where padding counts, of the padded plane."""
    sides = (
        (given.height, made.height, window.sh, window.top, window.bottom, window.kh, window.dh),
        (given.width, made.width, window.sw, window.left, window.right, window.kw, window.dw),
    )
    for size, count, stride, before, after, kernel, dilation in sides:
        padded = size + before + after
        if (count - 1) * stride + (kernel - 1) * dilation + 1 > padded + stride - 1:
            return False
        low, high = (0, padded) if mode is PoolMode.AVERAGE_PADDED else (before, before + size)
        for start in range(0, count * stride, stride):
            first = max(0, -((start - low) // dilation))  # of its positions at or behind `low`
            if first >= kernel or start + first * dilation >= high:
                return False
    return True


def _activation(params: list[int]) -> Activation:
    if params[0] > max(Act):
        _refuse(f"no activation has the number {params[0]}")
    a, b = struct.unpack("<2f", struct.pack("<2I", *params[1:]))
    return Activation(Act(params[0]), a, b)


def _fits(kind: type[Operator], given: list[Tensor], made: Tensor) -> bool:
    first = given[0]
    if kind is Conv:
        return len(given) == 1 or given[1] == made
    if kind is Pool:
        return (first.channels, first.rank, made.rank) == (made.channels, 4, 4)
    if kind is GlobalPool:
        return first.channels == made.channels and (made.height, made.width) == (1, 1)
    if kind is Mul:
        each = Tensor(first.channels, 1, 1, first.rank)
        return made == first and given[1] in (first, each)
    if kind is Concat:
        planes = {(item.height, item.width, item.rank) for item in (*given, made)}
        return len(planes) == 1 and sum(item.channels for item in given) == made.channels
    if kind is Flatten:
        flat = made.rank == 2 or (made.height, made.width) == (1, 1)
        return flat and made.channels == first.size
    return all(item == made for item in given)
