"""How NTK-SAP runs its two networks: shared statistics, values in float32, gradients in bf16 where that is fast.

The logits of both networks are subtracted, and a rounding that differs between the networks drowns the difference, so
every value stays in float32. A gradient is linear in what comes from above: rounding it (and the x, w and ReLU signs
that it meets) to bf16 moves no ReLU and stays a relative error. So the way back takes the bf16 instructions.

With constant statistics BatchNorm is a scale and a shift per channel, and a convolution with the norm behind it is one
linear function of the input and one of the weight:

    z = (conv(x, w) - mean) * s + beta        s = gamma / sqrt(var + eps), of shape (out,)
    dz/dx: g -> conv_x^T(g, w * s)            dz/dw: g -> conv_w^T(x, g) * s

Convolution (with its norm), ReLU and addition have functions of their own here. Everything else keeps its ordinary
derivative in float32, and autograd casts between the two: the gradient of a tensor has the dtype that the tensor had
when it was made. So each function makes an empty tensor of the gradients' dtype, and its data are replaced afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair, int]
Statistics = tuple[torch.Tensor, torch.Tensor]

_RELU = {functional.relu, torch.relu, torch.Tensor.relu}
_RELU_ = {torch.relu_, torch.Tensor.relu_}
_ADD = {torch.add, torch.Tensor.add, torch.Tensor.__add__}
_ADD_ = {torch.Tensor.add_, torch.Tensor.__iadd__}


class TwoPasses(TorchFunctionMode):
    """Within it, call the model with one set of weights, then `repeat()`, then call it with the other.

    In the first call each BatchNorm that has running statistics measures its input's mean and unbiased variance and
    normalizes with them as constants; in the second call it takes what it measured in the first. Modules, buffers and
    parameters are neither read for statistics nor written.

    Args:
        gradients: the dtype of gradients, float32 or bfloat16.
    """

    def __init__(self, gradients: torch.dtype) -> None:
        super().__init__()
        self._gradients = gradients
        self._measured: list[Statistics] = []
        self._calls: int | None = None
        self._last: _Convolved | None = None

    def repeat(self) -> None:
        """From here on norms take, call by call, what they measured so far."""
        self._calls = 0
        self._last = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.conv2d:
            return self._convolve(*args, **kwargs)
        if func is functional.batch_norm:
            return self._normalize(*args, **kwargs)
        if func in _RELU or func in _RELU_:
            in_place = func in _RELU_ or kwargs.get("inplace", False)
            if _ours(args[0], in_place):
                return self._relu(args[0], in_place)
        if (func in _ADD or func in _ADD_) and len(args) == 2 and not kwargs:
            left, right = args
            if _ours(left, func in _ADD_) and _ours(right) and left.shape == right.shape and left is not right:
                return self._add(left, right, func in _ADD_)
        if func is torch.Tensor.view and not args[0].is_contiguous():
            # A model written for contiguous images may flatten with view; ours are channels-last.
            return func(args[0].contiguous(), *args[1:], **kwargs)
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
        if input.dim() != 4 or not input.dtype == weight.dtype == torch.float32 or isinstance(padding, str):
            return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
        geometry = (_pair(stride), _pair(padding), _pair(dilation), groups)
        with torch.no_grad():
            value = functional.conv2d(input, weight, bias, *geometry)
        read = self._rounded(input)
        output = _made(_Convolution, value, input, weight, read, None, geometry, value.shape)
        self._last = _Convolved(output, output._version, input, input._version, weight, read, geometry)
        return output

    def _normalize(
        self,
        input: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if training or running_mean is None:
            return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        mean, var = self._statistics(input)
        last, self._last = self._last, None
        if last is None or not last.made(input):
            return functional.batch_norm(input, mean, var, weight, bias, False, 0.0, eps)
        with torch.no_grad():
            scale = (var + eps).rsqrt() if weight is None else weight * (var + eps).rsqrt()
            value = functional.batch_norm(input, mean, var, weight, bias, False, 0.0, eps)
        return _made(_Convolution, value, last.input, last.weight, last.read, scale, last.geometry, value.shape)

    def _relu(self, x: torch.Tensor, in_place: bool) -> torch.Tensor:
        value = x.detach().relu_() if in_place else x.detach().relu()
        read = value.to(self._gradients)
        if in_place:
            x.data = torch.empty_like(read)
        output = _made(_ReLUInPlace if in_place else _ReLU, value, x, read)
        # The convolution that comes next reads the same rounded values.
        output._ntksap_rounded = (output._version, read)  # type: ignore[attr-defined]
        return output

    def _add(self, left: torch.Tensor, right: torch.Tensor, in_place: bool) -> torch.Tensor:
        value = left.detach().add_(right.detach()) if in_place else left.detach() + right.detach()
        if in_place:
            left.data = torch.empty_like(value, dtype=self._gradients)
            return _made(_AdditionInPlace, value, left, right)
        return _made(_Addition, value, left, right, self._gradients)

    def _rounded(self, x: torch.Tensor) -> torch.Tensor:
        """`x` in the gradients' dtype; the same tensor if it was made already and `x` did not change since."""
        version, known = getattr(x, "_ntksap_rounded", (None, None))
        return known if known is not None and version == x._version else x.detach().to(self._gradients)

    def _statistics(self, x: torch.Tensor) -> Statistics:
        if self._calls is not None:
            self._calls += 1
            return self._measured[self._calls - 1]
        self._measured.append(mean_and_variance(x.detach()))
        return self._measured[-1]


def mean_and_variance(x: torch.Tensor) -> Statistics:
    """Mean and unbiased variance of each channel of `x` (N, C, ...), of shape (C,)."""
    count = x.numel() // x.shape[1]
    if x.device.type == "cpu" and count > 1:
        # What torch.var_mean gives, up to the order of the sums; that takes about 15 times as long here.
        mean, biased, *_ = torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)
        return mean, biased * (count / (count - 1))
    var, mean = torch.var_mean(x, dim=[axis for axis in range(x.dim()) if axis != 1], correction=1)
    return mean, var


@dataclass(frozen=True, slots=True)
class _Convolved:
    """The latest convolution, and what it read: a norm that follows at once is merged with it."""

    output: torch.Tensor
    output_version: int
    input: torch.Tensor
    input_version: int
    weight: torch.Tensor
    read: torch.Tensor
    geometry: Geometry

    def made(self, x: torch.Tensor) -> bool:
        """Whether `x` is its output, and neither that nor what it read was changed in place since."""
        same = x is self.output and x._version == self.output_version
        return same and self.input._version == self.input_version


class _Convolution(torch.autograd.Function):
    """conv(x, w) * scale: its derivatives by x and w in the dtype of `read`, which is x rounded. Makes no values."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,  # noqa: ARG004
        w: torch.Tensor,
        read: torch.Tensor,
        scale: torch.Tensor | None,
        geometry: Geometry,
        shape: torch.Size,
    ) -> torch.Tensor:
        ctx.save_for_backward(read, w, scale)
        ctx.geometry = geometry
        return read.new_empty(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, w, scale = ctx.saved_tensors
        per_filter = 1.0 if scale is None else scale.view(-1, 1, 1, 1)
        stride, padding, dilation, groups = ctx.geometry
        scaled = (w * per_filter).to(x.dtype)
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False)
        by_x, by_w, _ = torch.ops.aten.convolution_backward(
            gradient, x, scaled, None, stride, padding, dilation, False, (0, 0), groups, wanted
        )
        return by_x, None if by_w is None else by_w * per_filter, None, None, None, None


class _ReLU(torch.autograd.Function):
    """Passes on the gradient where `read`, the rounded output, is above 0. Makes no values."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, read: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        ctx.save_for_backward(read)
        return torch.empty_like(read)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return torch.ops.aten.threshold_backward(gradient, ctx.saved_tensors[0], 0), None


class _ReLUInPlace(_ReLU):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(read)
        ctx.mark_dirty(x)
        return x


class _Addition(torch.autograd.Function):
    """Passes on the gradient to both. Makes no values."""

    @staticmethod
    def forward(ctx: Any, left: torch.Tensor, right: torch.Tensor, gradients: torch.dtype) -> torch.Tensor:  # noqa: ARG004
        return torch.empty_like(left, dtype=gradients)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # noqa: ARG004
        return gradient, gradient, None


class _AdditionInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        ctx.mark_dirty(left)
        return left

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # noqa: ARG004
        return gradient, gradient


def _made(function: Any, value: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """`value` with the history that `function` gives it."""
    made: torch.Tensor = function.apply(*arguments)
    made.data = value
    return made


def _ours(x: Any, in_place: bool = False) -> bool:
    """Whether the functions here apply; in place they do only on what is neither a leaf nor a view."""
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32 or not x.requires_grad:
        return False
    return not in_place or (not x.is_leaf and x._base is None)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value
