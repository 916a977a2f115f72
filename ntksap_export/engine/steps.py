"""Between ONNX and a plan: one step for each covered node, whose values still have names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ntksap_export.engine.operators import Activation, Array, PoolMode, Tensor, Window

# scale: factor * x + shift per channel; pad: zeros around the plane; alias: the same value under another name
Kind = Literal["conv", "scale", "pad", "pool", "global_pool", "add", "mul", "concat", "act", "flatten", "alias"]


class UncoveredError(Exception):
    """A node that stays with onnxruntime; the message is the reason, in a few words. Never leaves this room."""


@dataclass(slots=True, eq=False)
class Step:
    """One node, or what became of several.

    Attributes:
        kind: which of the fields below count.
        inputs: names of what it reads; a convolution's second is its residual.
        output: name of what it makes.
        given: shape of the first input.
        made: shape of the output.
        kernel: (out, in / groups, kh, kw) of a convolution.
        bias: float64 (out,).
        factor: float64 (C,) of a scale.
        shift: likewise.
        weighted: whether it is a convolution or a product of the graph: a region without any is not worth a call.
    """

    kind: Kind
    inputs: list[str]
    output: str
    given: Tensor
    made: Tensor
    window: Window = field(default_factory=Window)
    kernel: Array | None = None
    groups: int = 1
    bias: Array | None = None
    factor: Array | None = None
    shift: Array | None = None
    mode: PoolMode = PoolMode.MAX
    activation: Activation = field(default_factory=Activation)
    weighted: bool = False

    def scale_by_(self, factor: Array, shift: Array) -> None:
        """Let a convolution, or a scale, give factor * y + shift in place of y."""
        if self.kernel is not None:
            wide = self.kernel.astype(np.float64) * factor[:, None, None, None]
            self.kernel = np.where(self.kernel == 0, 0, wide).astype(np.float32)
            bias = np.zeros_like(shift) if self.bias is None else self.bias
            self.bias = bias * factor + shift
            return
        assert self.factor is not None
        assert self.shift is not None
        self.factor, self.shift = self.factor * factor, self.shift * factor + shift


def is_uniform(step: Step) -> bool:
    """Whether a scale does the same to every channel."""
    assert step.factor is not None
    assert step.shift is not None
    return bool((step.factor == step.factor[0]).all() and (step.shift == step.shift[0]).all())
