"""What each function does to counts of paths; tables by the function's name, without the underscores around it.

Conv2d, Linear                  sum over the weights that are kept; a bias carries nothing
norms, activations, dropout     the unit itself: what a LayerNorm mixes by its statistics is not counted
pooling, means                  sum over the window: with max-pooling, too, any of its units may win
a + b, a * b, a / b             both ways: the gate of a squeeze-and-excite is a way, too
cat, pad, reshape, ...          what they are; constants carry nothing
matmul, softmax, attention      sums over all that is looked at; a constant factor counts as full

What is in none of them cannot be followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch.nn import functional

ASIS: Final = frozenset(
    {
        *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish"),
        *(
            "hardsigmoid",
            "hardtanh",
            "sigmoid",
            "logsigmoid",
            "tanh",
            "softplus",
            "softsign",
            "tanhshrink",
            "threshold",
        ),
        *("softshrink", "hardshrink", "clamp", "clip", "clamp_min", "clamp_max", "abs", "neg", "exp", "log"),
        *("log1p", "sqrt", "rsqrt", "square", "pow", "reciprocal", "erf", "sin", "cos", "nan_to_num", "masked_fill"),
        *("batch_norm", "group_norm", "layer_norm", "instance_norm", "rms_norm", "local_response_norm", "normalize"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout"),
        *("feature_alpha_dropout", "contiguous", "clone", "detach", "to", "float", "double", "half", "bfloat16"),
        *("type", "type_as", "cpu", "cuda", "requires_grad"),
    }
)
BOTH: Final = frozenset(
    {
        *("add", "radd", "iadd", "sub", "rsub", "isub", "subtract", "mul", "rmul", "imul", "multiply", "div", "rdiv"),
        *("idiv", "divide", "truediv", "rtruediv", "itruediv", "true_divide", "maximum", "minimum", "fmax", "fmin"),
    }
)
MOVED: Final = frozenset(
    {
        *(
            "view",
            "reshape",
            "flatten",
            "unflatten",
            "ravel",
            "permute",
            "transpose",
            "swapaxes",
            "movedim",
            "moveaxis",
        ),
        *("squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to", "view_as", "reshape_as", "getitem"),
        *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "cat", "concat", "concatenate", "stack"),
        *(
            "hstack",
            "roll",
            "flip",
            "narrow",
            "select",
            "index_select",
            "gather",
            "repeat",
            "repeat_interleave",
            "tile",
        ),
        *("sum", "cumsum", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "unfold"),
        *("interpolate", "upsample", "vstack", "t"),
    }
)
NEW: Final = frozenset(
    {
        *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
        *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
    }
)


def _convolution(call: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def summed(
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: object = None,  # noqa: ARG001
        *rest: Any,
        **options: Any,
    ) -> torch.Tensor:
        return call(input, weight, None, *rest, **options)

    return summed


def _max_pool2d(
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,  # noqa: ARG001
) -> torch.Tensor:
    like = functional.max_pool2d(input.detach(), kernel_size, stride, padding, dilation, ceil_mode)
    kernel, step, border, spread = (_pair(each) for each in (kernel_size, stride or kernel_size, padding, dilation))
    sides: list[int] = []  # left, right, top, bottom
    for axis in (1, 0):
        reach = (like.shape[2 + axis] - 1) * step[axis] + spread[axis] * (kernel[axis] - 1) + 1
        sides += [border[axis], max(reach - input.shape[2 + axis] - border[axis], 0)]
    channels = input.shape[1]
    window = torch.ones(channels, 1, *kernel, dtype=input.dtype, device=input.device)
    padded = functional.pad(input, sides)
    return functional.conv2d(padded, window, None, step, 0, spread, channels)[:, :, : like.shape[2], : like.shape[3]]


def _avg_pool2d(
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,  # noqa: ARG001
    divisor_override: int | None = None,  # noqa: ARG001
) -> torch.Tensor:
    return functional.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, True, 1)


def _adaptive_pool2d(
    input: torch.Tensor,
    output_size: Any,
    return_indices: bool = False,  # noqa: ARG001
) -> torch.Tensor:
    wanted = _pair(output_size)
    rows, columns = (
        _windows(size, size if want is None else want, input)
        for size, want in zip(input.shape[-2:], wanted, strict=True)
    )
    return torch.einsum("oh,nchw,pw->ncop", rows, input, columns)


def _windows(size: int, wanted: int, like: torch.Tensor) -> torch.Tensor:
    """(wanted, size), 1 where an adaptive pool's window has the place."""
    windows = torch.zeros(wanted, size, dtype=like.dtype, device=like.device)
    for place in range(wanted):
        windows[place, place * size // wanted : -(-(place + 1) * size // wanted)] = 1
    return windows


def _total(
    input: torch.Tensor,
    dim: Any = None,
    keepdim: bool = False,
    **_: object,
) -> torch.Tensor:
    return input.sum(tuple(range(input.dim())) if dim is None else dim, keepdim)


def _everywhere(
    input: torch.Tensor,
    dim: int = -1,
    *_: object,
    **__: object,
) -> torch.Tensor:
    return input.sum(dim, keepdim=True).expand_as(input)


def _gated_half(input: torch.Tensor, dim: int = -1) -> torch.Tensor:
    half, gate = input.chunk(2, dim)
    return half + gate


def _padded(
    input: torch.Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: object = None,  # noqa: ARG001
) -> torch.Tensor:
    return functional.pad(input, list(pad), mode)


def product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Both ways to a matrix product; a factor that is constant is 0."""
    return first @ torch.ones_like(second) + torch.ones_like(first) @ second


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    return product(_everywhere(product(query, key.transpose(-2, -1))), value)


def _pair(value: Any) -> tuple[Any, Any]:
    if isinstance(value, int) or value is None:
        return value, value
    return (value[0], value[-1])


SUMS: Final[dict[str, Callable[..., Any]]] = {
    "conv1d": _convolution(torch.conv1d),
    "conv2d": _convolution(torch.conv2d),
    "conv3d": _convolution(torch.conv3d),
    "conv_transpose2d": _convolution(torch.conv_transpose2d),
    "linear": _convolution(functional.linear),
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_pool2d,
    "adaptive_max_pool2d": _adaptive_pool2d,
    "mean": _total,
    "amax": _total,
    "softmax": _everywhere,
    "log_softmax": _everywhere,
    "glu": _gated_half,
    "pad": _padded,
}
PRODUCTS: Final[dict[str, Callable[..., torch.Tensor]]] = {
    "matmul": product,
    "rmatmul": lambda first, second: product(second, first),
    "bmm": product,
    "mm": product,
    "scaled_dot_product_attention": _attention,
}
