"""Carry out a plan: cut weights, constants along channels and the shapes that name them; move constants into biases."""

from __future__ import annotations

import numpy as np

from ntksap_export.graph.channels.layers import Layer, axes_of
from ntksap_export.graph.channels.plan import Plan


def apply_plan_(plan: Plan) -> bool:
    """Change the model that the plan is of; whether anything was to do."""
    channels, index = plan.channels, plan.channels.index
    changed = {name for name, value in channels.values.items() if not plan.kept(value).all()}
    if not changed:
        return False
    for layer in channels.layers:
        if layer.source in changed or layer.target in changed:
            _cut_layer(plan, layer)
    for at, place, axis in channels.along:
        target = index.nodes[at].output[0]
        if target in changed:
            constant = index.constant(index.nodes[at].input[place])
            assert constant is not None
            index.write(at, place, np.compress(plan.kept(channels.values[target]), constant, axis=axis))
    for at in channels.reshapes:
        target = index.nodes[at].output[0]
        shape = index.constant(index.nodes[at].input[1])
        if target in changed and shape is not None and shape[1] > 0:
            shape = shape.copy()
            shape[1] = int(plan.kept(channels.values[target]).sum())
            index.write(at, 1, shape)
    index.sweep(changed)
    return True


def _cut_layer(plan: Plan, layer: Layer) -> None:
    index, node = plan.channels.index, plan.channels.index.nodes[layer.at]
    source, target = plan.channels.values[layer.source], plan.channels.values[layer.target]
    inputs, outputs = plan.kept(source), plan.kept(target)
    weight = index.constant(layer.name)
    assert weight is not None
    out_axis, in_axis = axes_of(index, layer.at)
    weight = np.compress(outputs, weight, axis=out_axis)
    bias = layer.bias
    if layer.groups == 1:
        weight = np.compress(inputs, weight, axis=in_axis)
        moved = np.where(inputs | np.isnan(source.constant), 0, source.constant)
        bias = bias + (np.where(layer.read & (moved != 0), layer.sums, 0) * moved).sum(axis=1)
    else:
        kept = int(inputs.reshape(layer.groups, -1)[:, 0].sum())
        next(item for item in node.attribute if item.name == "group").i = kept
    index.write(layer.at, 1, weight)
    same = outputs.all() and np.array_equal(bias, layer.bias)
    bias = bias[outputs]
    if not same and (index.operand(layer.at, 2) or bias.any()):
        if node.op_type == "MatMul":  # which has no bias; of two matrices it is the same
            node.op_type = "Gemm"
        old = index.constant(index.operand(layer.at, 2)) if index.operand(layer.at, 2) else None
        typed = bias.astype(layer.weight.dtype)
        index.write(layer.at, 2, typed[None] if old is not None and old.ndim == 2 else typed)
