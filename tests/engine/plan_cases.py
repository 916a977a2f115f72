"""Plans drawn at random: every operator alone, and small graphs of them. The one home of their Hypothesis strategies.

Shapes, windows and densities are drawn, so that they shrink; the numbers come from a drawn seed. Weights are scaled so
that outputs stay near 1, whatever the number of entries of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from ntksap_export.engine.operators import (
    Act,
    Activate,
    Activation,
    Add,
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
)

BATCHES: Final = (1, 2, 7, 8, 15, 16, 17, 33)
MOST_WORK: Final = 20_000_000  # multiplications of the slow reference in one example
Draw = Callable[[st.SearchStrategy[Any]], Any]
Floats = npt.NDArray[np.float32]


@dataclass
class Case:
    """A plan with inputs of a batch, and how large a difference may be."""

    plan: Plan
    inputs: list[Floats]
    tolerance: float = 2e-5


@dataclass
class Builder:
    """Tensors and operators one after the other; `work` counts multiplications for one image."""

    draw: Draw
    tensors: list[Tensor] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    work: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.draw(st.integers(0, 2**32 - 1)))

    def tensor(self, channels: int, height: int = 1, width: int = 1, rank: int = 4) -> int:
        self.tensors.append(Tensor(channels, height, width, rank))
        return len(self.tensors) - 1

    def like(self, other: int) -> int:
        self.tensors.append(self.tensors[other])
        return len(self.tensors) - 1

    def input(self, channels: int, height: int = 1, width: int = 1) -> int:
        flat = height == width == 1 and self.draw(st.booleans())
        self.inputs.append(self.tensor(channels, height, width, 2 if flat else 4))
        return self.inputs[-1]

    def case(self, outputs: Sequence[int], tolerance: float = 2e-5) -> Case:
        batches = [batch for batch in BATCHES if batch * self.work <= MOST_WORK] or [1]
        batch = self.draw(st.sampled_from(batches))
        shapes = [self.tensors[number] for number in self.inputs]
        inputs = [
            self.random.standard_normal((batch, t.channels, t.height, t.width)[: t.rank]).astype(np.float32)
            for t in shapes
        ]
        plan = Plan(tuple(self.tensors), tuple(self.inputs), tuple(outputs), tuple(self.operators))
        return Case(plan, inputs, tolerance)

    def activation(self) -> Activation:
        low = self.draw(st.sampled_from([0.0, 0.125, 0.3]))
        return Activation(self.draw(st.sampled_from(list(Act))), low, low + self.draw(st.sampled_from([0.0, 0.5, 6.0])))

    def matrix(self, rows: int, columns: int, height: int, width: int, groups: int) -> Weights:
        """Of a density from 0 to 1 and in either form, whatever is smaller."""
        density = self.draw(st.sampled_from([0.4, 1.0, 0.1, 0.75, 0.02, 0.0]))
        kernel = self.random.standard_normal((rows, columns // groups, height, width)).astype(np.float32)
        kernel *= self.random.random(kernel.shape) < density
        kernel /= np.float32(math.sqrt(max(density * kernel[0].size, 1)))
        weights = Weights.of(kernel, groups)
        form = self.draw(st.sampled_from(["smaller", "dense", "sparse"]))
        if form == "smaller":
            return weights
        full = weights.dense()
        if form == "dense":
            return Weights(rows, full.shape[1], full.reshape(-1))
        kept = full != 0
        return Weights(rows, full.shape[1], full[kept], np.count_nonzero(kept, axis=1), np.nonzero(kept)[1])

    def convolution(self, x: int, window: Window, made: Tensor, groups: int, residual: int | None = None) -> int:
        given = self.tensors[x]
        weights = self.matrix(made.channels, given.channels, window.kh, window.kw, groups)
        bias = self.random.standard_normal(made.channels).astype(np.float32) if self.draw(st.booleans()) else None
        self.tensors.append(made)
        inputs = (x,) if residual is None else (x, residual)
        out = len(self.tensors) - 1
        self.operators.append(Conv(inputs, out, window, weights, bias, self.activation()))
        self.work += weights.rows * weights.columns * made.height * made.width
        return out

    def add(self, kind: Callable[..., Operator], inputs: tuple[int, ...], out: int, *more: object) -> int:
        self.operators.append(kind(inputs, out, *more))
        self.work += self.tensors[out].size
        return out


def side(draw: Draw, size: int, most_kernel: int) -> tuple[int, int, int, int, int, int]:
    """Kernel, stride, dilation, padding before and after, and size of the output, along one axis."""
    kernel = draw(st.integers(1, most_kernel))
    dilation = draw(st.sampled_from([1, 1, 1, 2, 3]))
    reach = (kernel - 1) * dilation + 1
    before, after = draw(st.integers(0, reach)), draw(st.integers(0, reach))
    short = max(reach - size - before - after, 0)
    before, after = before + (short + 1) // 2, after + short // 2
    if before > reach or draw(st.booleans()):  # the usual one: the output as large as the input over the stride
        before, after = (reach - 1) // 2, reach - 1 - (reach - 1) // 2
    stride = draw(st.sampled_from([1, 1, 1, 2, 3]))
    return kernel, stride, dilation, before, after, (size + before + after - reach) // stride + 1


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def draw_convolution(b: Builder, x: int, most_channels: int = 40, most_kernel: int = 7) -> tuple[Window, Tensor, int]:
    """A window, the output's shape and groups that fit tensor `x`."""
    given, draw = b.tensors[x], b.draw
    kh, sh, dh, top, _, height = side(draw, given.height, most_kernel)
    kw, sw, dw, left, _, width = side(draw, given.width, most_kernel)
    groups = draw(st.sampled_from(divisors(given.channels)))
    channels = groups * draw(st.integers(1, max(most_channels // groups, 1)))
    return Window(kh, kw, sh, sw, dh, dw, top, left), Tensor(channels, height, width), groups


@st.composite
def convolutions(draw: Draw) -> Case:
    b = Builder(draw)
    channels, height, width = draw(st.integers(1, 40)), draw(st.integers(1, 33)), draw(st.integers(1, 33))
    x = b.input(channels, *((1, 1) if draw(st.integers(0, 7)) == 0 else (height, width)))
    window, made, groups = draw_convolution(b, x)
    if made.height == made.width == 1 and draw(st.booleans()):
        made = Tensor(made.channels, rank=2)
    residual = None
    if draw(st.booleans()):
        b.tensors.append(made)
        b.inputs.append(len(b.tensors) - 1)
        residual = b.inputs[-1]
    return b.case([b.convolution(x, window, made, groups, residual)])


@st.composite
def whole_planes(draw: Draw) -> Case:
    """Convolutions as large as their input: a Flatten and a Gemm together."""
    b = Builder(draw)
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    x = b.input(draw(st.integers(1, 40)), height, width)
    return b.case([b.convolution(x, Window(height, width), Tensor(draw(st.integers(1, 40)), rank=2), 1)])


def pooled_side(draw: Draw, size: int) -> tuple[int, int, int, int, int, int]:
    """As `side`; every window holds something of the input, the last may reach beyond the padding (ceil_mode)."""
    kernel, stride = draw(st.integers(1, min(5, size))), draw(st.integers(1, 4))
    most = (size - 1) // (kernel - 1) if kernel > 1 else 1
    dilation = draw(st.integers(1, max(min(3, most), 1)))
    reach = (kernel - 1) * dilation + 1
    before, after = draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1))
    out = (size + before + after - reach) // stride + 1
    if out * stride < size + before and draw(st.booleans()):
        out += (out - 1) * stride + reach < size + before + after
    return kernel, stride, dilation, before, after, out


@st.composite
def pools(draw: Draw) -> Case:
    b = Builder(draw)
    x = b.input(draw(st.integers(1, 20)), draw(st.integers(1, 33)), draw(st.integers(1, 33)))
    return b.case([pool(b, x)])


def pool(b: Builder, x: int, planes: Sequence[int] = ()) -> int:
    given = b.tensors[x]
    kh, sh, dh, top, bottom, height = pooled_side(b.draw, given.height)
    kw, sw, dw, left, right, width = pooled_side(b.draw, given.width)
    window = Window(kh, kw, sh, sw, dh, dw, top, left, bottom, right)
    mode = b.draw(st.sampled_from(list(PoolMode)))
    b.work += given.size * kh * kw
    return b.add(Pool, (x,), b.tensor(given.channels, height, width), window, mode)


@st.composite
def elementwise(draw: Draw) -> Case:
    """Sums, products, activations, whole-plane pools, concatenations and flattening."""
    b = Builder(draw)
    channels, height, width = draw(st.integers(1, 40)), draw(st.integers(1, 33)), draw(st.integers(1, 33))
    if draw(st.integers(0, 5)) == 0:
        height = width = 1
    x = b.input(channels, height, width)
    match draw(st.sampled_from(["add", "mul", "scale", "act", "global", "concat", "flatten"])):
        case "add":
            out = b.add(Add, (x, second(b, x)), b.like(x), b.activation())
        case "mul":
            out = b.add(Mul, (x, second(b, x)), b.like(x), b.activation())
        case "scale":
            out = b.add(Mul, (x, b.input(channels)), b.like(x), b.activation())
        case "act":
            out = b.add(Activate, (x,), b.like(x), b.activation())
        case "global":
            rank, mode = draw(st.sampled_from([2, 4])), draw(st.sampled_from([PoolMode.MAX, PoolMode.AVERAGE_INSIDE]))
            out = b.add(GlobalPool, (x,), b.tensor(channels, rank=rank), mode)
        case "concat":
            inputs = (x, *(b.input(draw(st.integers(1, 20)), height, width) for _ in range(draw(st.integers(0, 3)))))
            out = b.add(Concat, inputs, b.tensor(sum(b.tensors[i].channels for i in inputs), height, width))
        case _:
            out = b.add(Flatten, (x,), b.tensor(b.tensors[x].size, rank=2))
    return b.case([out])


def second(b: Builder, x: int) -> int:
    """A second input of the same shape, or the first again."""
    if b.draw(st.integers(0, 4)) == 0:
        return x
    b.inputs.append(b.like(x))
    return b.inputs[-1]


@st.composite
def graphs(draw: Draw) -> Case:
    """A few operators that feed each other: neighbours of several shapes, buffers used again, several outputs."""
    b = Builder(draw)
    first = b.input(draw(st.integers(1, 12)), draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    planes, made = [first], []
    for _ in range(draw(st.integers(2, 9))):
        x = draw(st.sampled_from(planes[-3:]))
        out = draw(st.sampled_from([block, block, block, squeeze_excite, join, pool, add_up, point]))(b, x, planes)
        planes.append(out)
        made.append(out)
    if draw(st.booleans()):
        made.append(classifier(b, planes[-1]))
    others = draw(st.lists(st.sampled_from(made), max_size=2)) if len(made) > 1 else []
    return b.case(list(dict.fromkeys([made[-1], *others])), tolerance=1e-4)


def block(b: Builder, x: int, planes: list[int]) -> int:
    window, made, groups = draw_convolution(b, x, 16, 4)
    same = [number for number in planes if b.tensors[number] == made]
    residual = b.draw(st.sampled_from(same)) if same and b.draw(st.booleans()) else None
    return b.convolution(x, window, made, groups, residual)


def point(b: Builder, x: int, planes: list[int]) -> int:
    given = b.tensors[x]
    channels = b.draw(st.sampled_from(sorted({given.channels, 3, 17})))
    made = Tensor(channels, given.height, given.width)
    same = [number for number in planes if b.tensors[number] == made]
    residual = b.draw(st.sampled_from([None, *same]))
    return b.convolution(x, Window(), made, 1, residual)


def add_up(b: Builder, x: int, planes: list[int]) -> int:
    same = [number for number in planes if b.tensors[number] == b.tensors[x]]
    return b.add(Add, (x, b.draw(st.sampled_from(same))), b.like(x), b.activation())


def join(b: Builder, x: int, planes: list[int]) -> int:
    given = b.tensors[x]
    same = [n for n in planes if (b.tensors[n].height, b.tensors[n].width) == (given.height, given.width)]
    inputs = (x, *b.draw(st.lists(st.sampled_from(same), max_size=2)))
    return b.add(Concat, inputs, b.tensor(sum(b.tensors[i].channels for i in inputs), given.height, given.width))


def squeeze_excite(b: Builder, x: int, planes: list[int]) -> int:
    given = b.tensors[x]
    squeezed = b.add(GlobalPool, (x,), b.tensor(given.channels), PoolMode.AVERAGE_INSIDE)
    hidden = b.convolution(squeezed, Window(), Tensor(b.draw(st.integers(1, 8))), 1)
    scale = b.convolution(hidden, Window(), Tensor(given.channels), 1)
    return b.add(Mul, (x, scale), b.like(x), b.activation())


def classifier(b: Builder, x: int) -> int:
    flat = b.add(Flatten, (x,), b.tensor(b.tensors[x].size, rank=2))
    return b.convolution(flat, Window(), Tensor(b.draw(st.integers(1, 20)), rank=2), 1)
