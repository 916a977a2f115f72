"""What a node's kernel, strides, padding and dilations come to: a window and the size of the output.

reach = (kernel - 1) * dilation + 1
NOTSET, VALID    out = floor or ceil((in + before + after - reach) / stride) + 1
SAME_*           out = ceil(in / stride), before + after = (out - 1) * stride + reach - in, at least 0
"""

from __future__ import annotations

from collections.abc import Sequence

from ntksap_export.engine.look import Look
from ntksap_export.engine.operators import Tensor, Window
from ntksap_export.engine.plan_reader import MOST_DILATION, MOST_KERNEL, MOST_STRIDE
from ntksap_export.engine.steps import UncoveredError


def window_of(look: Look, at: int, given: Tensor, kernel: Sequence[int]) -> Window:
    """The window of a convolution or a pool over the planes of `given`."""
    if len(kernel) != 2:
        raise UncoveredError("only two-dimensional windows are covered")
    strides = _pair(look, at, "strides", 1)
    dilations = _pair(look, at, "dilations", 1)
    for what, sizes, most in (
        ("kernel", kernel, MOST_KERNEL), ("stride", strides, MOST_STRIDE), ("dilation", dilations, MOST_DILATION),
    ):  # fmt: skip
        if not all(1 <= size <= most for size in sizes):
            raise UncoveredError(f"its {what} is {' x '.join(map(str, sizes))}, the engine's limit {most}")
    top, left, bottom, right = _pads(look, at, given, kernel, strides, dilations)
    if min(top, left, bottom, right) < 0:
        raise UncoveredError("its padding is negative")
    (kh, kw), (sh, sw), (dh, dw) = kernel, strides, dilations
    return Window(kh, kw, sh, sw, dh, dw, top, left, bottom, right)


def out_size(window: Window, given: Tensor, ceil: bool = False) -> tuple[int, int]:
    """Height and width of what the window makes; with `ceil`, windows that begin behind the plane do not count."""
    sides = (
        (given.height, window.top, window.bottom, window.reach[0], window.sh),
        (given.width, window.left, window.right, window.reach[1], window.sw),
    )
    made = []
    for size, before, after, reach, stride in sides:
        room = size + before + after - reach
        count = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (count - 1) * stride >= size + before:
            count -= 1
        if count < 1:
            raise UncoveredError("its kernel is larger than the plane")
        made.append(count)
    return made[0], made[1]


def _pads(
    look: Look, at: int, given: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, int, int, int]:
    how = look.attribute(at, "auto_pad", "NOTSET")
    if how in ("NOTSET", ""):
        pads = look.attribute(at, "pads", [0, 0, 0, 0])
        if len(pads) != 4:
            raise UncoveredError("only two-dimensional windows are covered")
        return pads[0], pads[1], pads[2], pads[3]
    if how == "VALID":
        return 0, 0, 0, 0
    if how not in ("SAME_UPPER", "SAME_LOWER"):
        raise UncoveredError(f"its auto_pad is {how}")
    if tuple(dilations) != (1, 1):
        raise UncoveredError(f"runtimes disagree on what {how} means under dilations")
    before, after = [], []
    for size, reach, stride in zip((given.height, given.width), kernel, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if how == "SAME_UPPER" else large)
        after.append(large if how == "SAME_UPPER" else small)
    return before[0], before[1], after[0], after[1]


def _pair(look: Look, at: int, name: str, default: int) -> tuple[int, int]:
    sizes = look.attribute(at, name) or [default, default]
    if len(sizes) != 2:
        raise UncoveredError("only two-dimensional windows are covered")
    return sizes[0], sizes[1]
