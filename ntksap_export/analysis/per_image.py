"""Gradients of a convolution's or a linear layer's weight for each image of a batch, in one backward pass.

Within `PerImage` each such weight is a tensor w_n for each image n, all equal; autograd then sums over nothing. With
the input unfolded to patches u_n (C kh kw, positions) and the gradient g_n (out, positions) that comes from above,

    d / d w_n = g_n u_n^T        one product of matrices an image; each group of a convolution for itself

This holds where the first axis of a layer's input counts the images, and where the weight is used as it stands. Whoever
uses it checks that: a layer that reshapes its input over the batch, or a weight that is normalized first, would not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]


class PerImage(TorchFunctionMode):
    """Within it the layers of the given weights are differentiable by each image's own weight.

    Args:
        leaves: id of a weight -> what stands for it, (N, *shape of the weight), to differentiate by.
    """

    def __init__(self, leaves: Mapping[int, torch.Tensor]) -> None:
        super().__init__()
        self._leaves = leaves

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.conv2d:
            return self._convolve(*args, **kwargs)
        if func is functional.linear:
            return self._multiply(*args, **kwargs)
        return func(*args, **kwargs)

    def _convolve(
        self,
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
    ) -> torch.Tensor:
        leaf = self._leaves.get(id(weight))
        if leaf is None or input.dim() != 4 or len(input) != len(leaf) or isinstance(padding, str):
            return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
        geometry = (_pair(stride), _pair(padding), _pair(dilation), groups)
        output: torch.Tensor = _Convolution.apply(input, leaf, weight, bias, geometry)  # type: ignore[no-untyped-call]
        return output

    def _multiply(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        leaf = self._leaves.get(id(weight))
        if leaf is None or input.dim() < 2 or len(input) != len(leaf):
            return functional.linear(input, weight, bias)
        output: torch.Tensor = _Product.apply(input, leaf, weight, bias)  # type: ignore[no-untyped-call]
        return output


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        leaf: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        geometry: tuple[Pair, Pair, Pair, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.shape = geometry, leaf.shape
        return functional.conv2d(x, weight, bias, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        by_x = by_leaf = None
        if ctx.needs_input_grad[0]:
            by_x = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, stride, padding, dilation, False, (0, 0), groups, (True, False, False)
            )[0]
        if ctx.needs_input_grad[1]:
            if tuple(weight.shape[2:]) == stride == (1, 1) and padding == (0, 0):
                patches = x
            else:
                patches = functional.unfold(x, tuple(weight.shape[2:]), dilation, padding, stride)
            patches = patches.reshape(len(x) * groups, weight[0].numel(), -1)  # (N groups, in kh kw, positions)
            above = gradient.reshape(len(x) * groups, len(weight) // groups, -1)  # (N groups, out, positions)
            by_leaf = (above @ patches.transpose(1, 2)).reshape(ctx.shape)
        return by_x, by_leaf, None, None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, leaf: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = leaf.shape
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        by_x = gradient @ weight if ctx.needs_input_grad[0] else None
        by_leaf = None
        if ctx.needs_input_grad[1]:
            above = gradient.reshape(len(x), -1, len(weight))  # (N, positions, out)
            by_leaf = (above.transpose(1, 2) @ x.reshape(len(x), -1, weight.shape[1])).reshape(ctx.shape)
        return by_x, by_leaf, None, None


def _pair(value: int | Pair) -> Pair:
    first, second = (value, value) if isinstance(value, int) else value
    return first, second
