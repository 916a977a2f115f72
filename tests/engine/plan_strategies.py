"""Hypothesis strategies for plans: every operator, shapes that fit each other, densities from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
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

_KINDS = (Conv, Conv, Conv, Pool, GlobalPool, Add, Mul, Concat, Activate, Flatten)


@st.composite
def plans(draw: st.DrawFn, most_operators: int = 6, most_side: int = 9) -> Plan:
    """A plan with one or two inputs; all that nothing reads are outputs."""
    side = st.integers(1, most_side)
    inputs = [Tensor(draw(st.integers(1, 5)), draw(side), draw(side)) for _ in range(draw(st.integers(1, 2)))]
    growing = _Growing(draw, list(inputs))
    for _ in range(draw(st.integers(1, most_operators))):
        growing.grow(draw(st.sampled_from(_KINDS)))
    if not growing.operators:
        growing.grow(Activate)
    read = {number for operator in growing.operators for number in operator.inputs}
    made = range(len(inputs), len(growing.tensors))
    outputs = tuple(number for number in made if number not in read)
    return Plan(tuple(growing.tensors), tuple(range(len(inputs))), outputs, tuple(growing.operators))


@dataclass
class _Growing:
    draw: Any
    tensors: list[Tensor]
    operators: list[Operator] = field(default_factory=list)

    def grow(self, kind: Any) -> None:
        """One operator more, where there is something that it takes."""
        first = self.draw(st.integers(0, len(self.tensors) - 1))
        given = self.tensors[first]
        if kind is Conv:
            self._conv(first, given)
        elif kind is Pool and given.rank == 4:
            self._pool(first, given)
        elif kind is GlobalPool and given.rank == 4:
            mode = self.draw(st.sampled_from([PoolMode.MAX, PoolMode.AVERAGE_INSIDE]))
            self._note(GlobalPool((first,), len(self.tensors), mode), Tensor(given.channels, rank=self.draw(ranks)))
        elif kind is Flatten:
            self._note(Flatten((first,), len(self.tensors)), Tensor(given.size, rank=2))
        elif kind is Activate:
            self._note(Activate((first,), len(self.tensors), self.draw(activations)), given)
        elif kind is Concat:
            self._concat(first, given)
        elif kind is Add:
            self._note(Add((first, self._like(given)), len(self.tensors), self.draw(activations)), given)
        elif kind is Mul:
            narrow = Tensor(given.channels, 1, 1, given.rank)
            others = [number for number, item in enumerate(self.tensors) if item in (given, narrow)]
            second = self.draw(st.sampled_from(others))
            self._note(Mul((first, second), len(self.tensors), self.draw(activations)), given)

    def _conv(self, first: int, given: Tensor) -> None:
        window = self._window(given, pads=4)
        padded = (given.height + window.top, given.width + window.left)
        made = Tensor(
            self.draw(st.integers(1, 5)),
            self.draw(st.integers(1, padded[0] // window.sh + 1)),
            self.draw(st.integers(1, padded[1] // window.sw + 1)),
        )
        if made.height == made.width == 1:
            made = Tensor(made.channels, rank=self.draw(ranks))
        same = [number for number, item in enumerate(self.tensors) if item == made]
        inputs = (first, self.draw(st.sampled_from(same))) if same and self.draw(st.booleans()) else (first,)
        columns = given.channels * window.kh * window.kw
        draw = np.random.default_rng(self.draw(st.integers(0, 99)))
        density = self.draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
        kernel = draw.standard_normal((made.channels, columns, 1, 1)) / np.sqrt(columns)
        weights = Weights.of(np.where(draw.random(kernel.shape) < density, kernel, 0))
        bias = draw.standard_normal(made.channels).astype(np.float32) if self.draw(st.booleans()) else None
        self._note(Conv(inputs, len(self.tensors), window, weights, bias, self.draw(activations)), made)

    def _pool(self, first: int, given: Tensor) -> None:
        window = self._window(given, pads=2)
        window = Window(
            window.kh, window.kw, window.sh, window.sw, 1, 1, min(window.top, window.kh - 1),
            min(window.left, window.kw - 1), self.draw(st.integers(0, window.kh - 1)),
            self.draw(st.integers(0, window.kw - 1)),
        )  # fmt: skip
        room = (
            given.height + window.top + window.bottom - window.kh,
            given.width + window.left + window.right - window.kw,
        )
        if min(room) < 0:
            return
        made = Tensor(given.channels, room[0] // window.sh + 1, room[1] // window.sw + 1)
        self._note(Pool((first,), len(self.tensors), window, self.draw(st.sampled_from(PoolMode))), made)

    def _window(self, given: Tensor, pads: int) -> Window:
        sizes = [self.draw(st.integers(1, most)) for most in (4, 4, 3, 3, 3, 3)]
        reach = Window(*sizes).reach
        return Window(*sizes, *(self.draw(st.integers(0, min(pads, most))) for most in reach))

    def _concat(self, first: int, given: Tensor) -> None:
        plane = (given.height, given.width, given.rank)
        fits = [number for number, item in enumerate(self.tensors) if (item.height, item.width, item.rank) == plane]
        inputs = (first, *self.draw(st.lists(st.sampled_from(fits), max_size=3)))
        made = Tensor(sum(self.tensors[number].channels for number in inputs), *plane)
        self._note(Concat(inputs, len(self.tensors)), made)

    def _like(self, given: Tensor) -> int:
        return int(self.draw(st.sampled_from([at for at, item in enumerate(self.tensors) if item == given])))

    def _note(self, operator: Operator, made: Tensor) -> None:
        self.operators.append(operator)
        self.tensors.append(made)


ranks = st.sampled_from([2, 4])
_numbers = st.floats(-2, 2, width=32)
activations = st.builds(Activation, st.sampled_from(Act), _numbers, _numbers)
