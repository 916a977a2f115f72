"""Several steps into one, where what comes out is the same up to rounding.

    Identity, Dropout                            gone
    Pad -> Conv                                  more padding
    x + 3 -> Clip(0, 6) -> / 6                   HardSigmoid, also with the division behind a product by x
    x * Sigmoid(x), x * HardSigmoid(x)           SiLU, HardSwish
    Conv -> BatchNorm, Mul, Add of constants     folded into weight and bias; what is left a diagonal 1x1 convolution
    Mul by constants -> Conv                     folded into the weight
    Conv -> Add of a value                       the convolution's residual
    Conv, Add, Mul -> activation                 their own
    Flatten -> Gemm                              a convolution with the whole plane as its kernel
    global pool -> Flatten                       the pool makes a row

A value that is read elsewhere, or outside of the region, is never merged away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from ntksap_export.engine.body import Body, is_idle, is_row
from ntksap_export.engine.lower_products import reaches
from ntksap_export.engine.operators import Act, Activation, Window
from ntksap_export.engine.plan_reader import MOST_KERNEL
from ntksap_export.engine.steps import Step, is_uniform


def merged(steps: Iterable[Step], visible: Iterable[str]) -> list[Step]:
    """The steps of a region, with as few left as can be.

    Args:
        steps: in order; changed.
        visible: names of values that are read outside.
    """
    body = Body(steps, visible)
    for rule in (
        _alias, _pad_conv, _hard_sigmoid, _gated, _scale_after, _scale_before, _as_conv, _residual, _activated,
        _flat_conv, _flat_pool,
    ):  # fmt: skip
        body.each(rule)
    return body.steps


def _alias(body: Body, step: Step) -> None:
    if step.kind == "alias":
        body.bypass(step)


def _pad_conv(body: Body, step: Step) -> None:
    """The padding goes into every convolution that can take it; with nobody left to read it, it is gone."""
    if step.kind != "pad":
        return
    for reader in body.readers(step.output):
        window = dataclasses.replace(
            reader.window, top=reader.window.top + step.window.top, left=reader.window.left + step.window.left
        )
        if reader.kind == "conv" and reaches(window, step.given, reader.made):
            reader.window, reader.given = window, step.given
            body.read(reader, [*step.inputs, *reader.inputs[1:]])
    if not body.readers(step.output) and step.output not in body.visible:
        body.remove(step)


def _hard_sigmoid(body: Body, step: Step) -> None:
    """clip(s * x + t, 0, b) / b is clip(s / b * x + t / b, 0, 1)."""
    limits = step.activation
    if step.kind != "act" or limits.act is not Act.CLIP or limits.a != 0 or limits.b <= 0:
        return
    before, after = body.only_maker(step.inputs[0]), body.only_reader(step.output)
    if before is None or before.kind != "scale" or not is_uniform(before) or after is None:
        return
    product = after if after.kind == "mul" and is_idle(after) else None
    if product is not None:
        after = body.only_reader(product.output)
    if after is None or after.kind != "scale" or not is_uniform(after):
        return
    assert before.factor is not None
    assert before.shift is not None
    assert after.factor is not None
    assert after.shift is not None
    factor = float(after.factor[0])
    if after.shift[0] != 0 or abs(factor * limits.b - 1) > 1e-6:
        return
    step.activation = Activation(
        Act.HARD_SIGMOID, float(before.factor[0]) / limits.b, float(before.shift[0]) / limits.b
    )
    body.read(step, list(before.inputs))
    body.remove(before)
    body.take_over(step if product is None else product, after)


def _gated(body: Body, step: Step) -> None:
    """Gates: x * sigmoid(x) and x * hard_sigmoid(x)."""
    if step.kind != "mul" or not is_idle(step):
        return
    for value, gate in (step.inputs, step.inputs[::-1]):
        maker = body.only_maker(gate)
        if maker is None or maker.kind != "act" or maker.inputs != [value]:
            continue
        found = maker.activation
        if found.act is Act.SIGMOID:
            joined = Activation(Act.SILU)
        elif found.act is Act.HARD_SIGMOID and abs(6 * found.a - 1) < 1e-6 and found.b == 0.5:
            joined = Activation(Act.HARD_SWISH)
        else:
            continue
        step.kind, step.activation = "act", joined
        body.read(step, [value])
        body.remove(maker)
        return


def _scale_after(body: Body, step: Step) -> None:
    maker = body.only_maker(step.inputs[0]) if step.kind == "scale" else None
    if maker is not None and maker.kind in ("conv", "scale"):
        assert step.factor is not None
        assert step.shift is not None
        maker.scale_by_(step.factor, step.shift)
        body.take_over(maker, step)


def _scale_before(body: Body, step: Step) -> None:
    if step.kind != "scale" or step.factor is None or step.shift is None or step.shift.any():
        return
    reader = body.only_reader(step.output)
    if reader is not None and reader.kind == "conv" and reader.groups == 1 and reader.kernel is not None:
        wide = reader.kernel.astype(np.float64) * step.factor[None, :, None, None]
        reader.kernel = np.where(reader.kernel == 0, 0, wide).astype(np.float32)
        body.bypass(step)


def _as_conv(_: Body, step: Step) -> None:
    """What is left of scales is a convolution of each channel by itself; of padding, one that moves the plane."""
    if step.kind == "scale":
        assert step.factor is not None
        step.kernel = step.factor.astype(np.float32)[:, None, None, None]
        step.bias = step.shift
        step.kind, step.groups = "conv", step.given.channels
    elif step.kind == "pad":
        # margins may be as wide as the kernel reaches: so it reaches that far, and sees with one position only
        window, channels = step.window, step.given.channels
        down, right = max(window.bottom - 1, 0), max(window.right - 1, 0)
        top, left = window.top + down, window.left + right
        step.window = Window(max(top, down + 1), max(left, right + 1), top=top, left=left)
        step.kernel = np.zeros((channels, 1, step.window.kh, step.window.kw), np.float32)
        step.kernel[:, :, down, right] = 1
        step.kind, step.groups = "conv", channels


def _residual(body: Body, step: Step) -> None:
    """The later of two convolutions takes the sum over: less has to be kept meanwhile."""
    if step.kind != "add":
        return
    able = []
    for name, other in (step.inputs, step.inputs[::-1]):
        maker = body.only_maker(name)
        if maker is not None and maker.kind == "conv" and is_idle(maker) and len(maker.inputs) == 1:
            able.append((maker.weighted, body.steps.index(maker), maker, other))
    if not able:
        return
    *_, maker, other = max(able, key=lambda found: found[:2])
    activation = step.activation
    body.take_over(maker, step)
    maker.activation = activation
    body.read(maker, [*maker.inputs, other])


def _activated(body: Body, step: Step) -> None:
    maker = body.only_maker(step.inputs[0]) if step.kind == "act" else None
    if maker is not None and maker.kind in ("conv", "add", "mul") and is_idle(maker):
        activation = step.activation
        body.take_over(maker, step)
        maker.activation = activation


def _flat_conv(body: Body, step: Step) -> None:
    """A product of a flattened plane, y = W vec(x), is a convolution of output 1 x 1."""
    given = step.given
    if step.kind != "flatten" or step.output in body.visible or max(given.height, given.width) > MOST_KERNEL:
        return
    readers = body.readers(step.output)
    if any(item.kind != "conv" or item.groups != 1 or item.window != Window() for item in readers):
        return
    if any(step.output in item.inputs[1:] for item in readers):
        return
    for reader in readers:
        assert reader.kernel is not None
        reader.kernel = reader.kernel.reshape(-1, given.channels, given.height, given.width)
        reader.window, reader.given = Window(given.height, given.width), given
        body.read(reader, [*step.inputs, *reader.inputs[1:]])
    body.remove(step)


def _flat_pool(body: Body, step: Step) -> None:
    maker = body.only_maker(step.inputs[0]) if step.kind == "flatten" else None
    if maker is not None and maker.kind == "global_pool" and is_row(maker.made):
        body.take_over(maker, step)
