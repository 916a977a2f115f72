"""Merged steps to a plan: names become numbers, kernels become matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ntksap_export.engine.operators import (
    Activate,
    Add,
    Concat,
    Conv,
    Flatten,
    GlobalPool,
    Mul,
    Operator,
    Plan,
    Pool,
    Tensor,
    Weights,
)
from ntksap_export.engine.steps import Step


def numbered(steps: Sequence[Step], inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Plan:
    """The plan of a region.

    Args:
        steps: in order.
        inputs: name and shape of what comes in, in the order of the plan.
        outputs: names of what goes out, likewise.
    """
    names = {name: number for number, name in enumerate([*inputs, *(step.output for step in steps)])}
    operators = tuple(_operator(step, tuple(names[name] for name in step.inputs), names[step.output]) for step in steps)
    return Plan(
        tensors=(*inputs.values(), *(step.made for step in steps)),
        inputs=tuple(names[name] for name in inputs),
        outputs=tuple(names[name] for name in outputs),
        operators=operators,
    )


def _operator(step: Step, inputs: tuple[int, ...], output: int) -> Operator:
    match step.kind:
        case "conv":
            assert step.kernel is not None
            weights = Weights.of(step.kernel, step.groups)
            bias = None if step.bias is None else step.bias.astype(np.float32)
            return Conv(inputs, output, step.window, weights, bias, step.activation)
        case "pool":
            return Pool(inputs, output, step.window, step.mode)
        case "global_pool":
            return GlobalPool(inputs, output, step.mode)
        case "add":
            return Add(inputs, output, step.activation)
        case "mul":
            return Mul(inputs, output, step.activation)
        case "concat":
            return Concat(inputs, output)
        case "act":
            return Activate(inputs, output, step.activation)
        case "flatten":
            return Flatten(inputs, output)
        case kind:
            raise AssertionError(f"{kind} is merged into others before")
