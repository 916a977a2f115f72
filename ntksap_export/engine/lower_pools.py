"""Pools, reductions to one number for each channel, and padding."""

from __future__ import annotations

import numpy as np

from ntksap_export.engine.look import Look
from ntksap_export.engine.lower_windows import out_size, window_of
from ntksap_export.engine.operators import PoolMode, Tensor, Window
from ntksap_export.engine.plan_reader import MOST_KERNEL
from ntksap_export.engine.steps import Step, UncoveredError


def max_pool(look: Look, at: int) -> Step:
    """MaxPool without its indices."""
    return _pool(look, at, PoolMode.MAX)


def average_pool(look: Look, at: int) -> Step:
    """AveragePool over what lies inside, or over the padded plane."""
    return _pool(look, at, PoolMode(1 + look.attribute(at, "count_include_pad", 0)))


def global_max(look: Look, at: int) -> Step:
    """GlobalMaxPool."""
    return _global(look, at, PoolMode.MAX, rank=4)


def global_average(look: Look, at: int) -> Step:
    """GlobalAveragePool."""
    return _global(look, at, PoolMode.AVERAGE_INSIDE, rank=4)


def reduce_mean(look: Look, at: int) -> Step:
    """ReduceMean over the plane, or over the channels, which is a convolution with 1 / C everywhere."""
    node = look.index.nodes[at]
    given = look.tensor(node.input[0])
    axes, keeps = _axes(look, at, given)
    if axes == [1] and keeps:
        kernel = np.full((1, given.channels, 1, 1), 1 / given.channels, np.float32)
        made = Tensor(1, given.height, given.width, given.rank)
        return Step("conv", [node.input[0]], node.output[0], given, made, kernel=kernel)
    return _reduced(look, at, PoolMode.AVERAGE_INSIDE, axes, keeps)


def reduce_max(look: Look, at: int) -> Step:
    """ReduceMax over the plane."""
    axes, keeps = _axes(look, at, look.tensor(look.operand(at, 0)))
    return _reduced(look, at, PoolMode.MAX, axes, keeps)


def pad(look: Look, at: int) -> Step:
    """Pad with zeros around the plane."""
    node = look.index.nodes[at]
    given = look.tensor(node.input[0])
    filled = look.attribute(at, "value", 0.0)
    if look.operand(at, 2):
        filled = look.needed(node.input[2]).item()
    if look.attribute(at, "mode", "constant") != "constant" or filled != 0:
        raise UncoveredError("it pads with something else than zeros")
    stored = look.needed(node.input[1]).tolist() if look.operand(at, 1) else look.attribute(at, "pads", [])
    axes = look.needed(node.input[3]).tolist() if look.operand(at, 3) else list(range(given.rank))
    sides = dict.fromkeys(range(4), (0, 0))
    for place, axis in enumerate(axes):
        sides[axis % given.rank] = (stored[place], stored[place + len(axes)])
    (top, bottom), (left, right) = sides[2], sides[3]
    if any(sides[0] + sides[1]) or min(top, bottom, left, right) < 0 or given.rank != 4:
        raise UncoveredError(f"it pads by {stored}: not around the plane alone")
    made = Tensor(given.channels, given.height + top + bottom, given.width + left + right)
    window = Window(top=top, left=left, bottom=bottom, right=right)
    if max(top + bottom, left + right) > MOST_KERNEL:
        raise UncoveredError(f"its padding is wider than {MOST_KERNEL}")
    return Step("pad", [node.input[0]], node.output[0], given, made, window=window)


def _pool(look: Look, at: int, mode: PoolMode) -> Step:
    node = look.index.nodes[at]
    given = look.tensor(node.input[0])
    if given.rank != 4:
        raise UncoveredError("only two-dimensional windows are covered")
    window = window_of(look, at, given, look.attribute(at, "kernel_shape", []))
    if max(window.top, window.bottom) > window.reach[0] or max(window.left, window.right) > window.reach[1]:
        raise UncoveredError("its padding is wider than its kernel")
    height, width = out_size(window, given, bool(look.attribute(at, "ceil_mode", 0)))
    _check_filled(window, given, height, width)
    made = Tensor(given.channels, height, width)
    return Step("pool", [node.input[0]], node.output[0], given, made, window=window, mode=mode)


def _check_filled(window: Window, given: Tensor, height: int, width: int) -> None:
    """A window with nothing of the input in it has no largest value and no mean."""
    sides = (
        (given.height, height, window.sh, window.top, window.kh, window.dh),
        (given.width, width, window.sw, window.left, window.kw, window.dw),
    )
    for size, count, stride, before, kernel, dilation in sides:
        starts = np.arange(count)[:, None] * stride - before + np.arange(kernel) * dilation
        if not ((starts >= 0) & (starts < size)).any(axis=1).all():
            raise UncoveredError("one of its windows sees nothing but padding")


def _global(look: Look, at: int, mode: PoolMode, rank: int) -> Step:
    node = look.index.nodes[at]
    given = look.tensor(node.input[0])
    if given.rank != 4:
        raise UncoveredError("it has no plane")
    return Step("global_pool", [node.input[0]], node.output[0], given, Tensor(given.channels, rank=rank), mode=mode)


def _axes(look: Look, at: int, given: Tensor) -> tuple[list[int], bool]:
    axes = look.attribute(at, "axes", [])
    if look.operand(at, 1):
        axes = look.needed(look.operand(at, 1)).tolist()
    return sorted(axis % given.rank for axis in axes), bool(look.attribute(at, "keepdims", 1))


def _reduced(look: Look, at: int, mode: PoolMode, axes: list[int], keeps: bool) -> Step:
    if axes != [2, 3]:
        raise UncoveredError(f"it reduces {f'the axes {axes}' if axes else 'all axes'}; the plane's are [2, 3]")
    return _global(look, at, mode, rank=4 if keeps else 2)
