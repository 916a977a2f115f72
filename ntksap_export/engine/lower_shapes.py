"""What moves values without changing them: joining channels, flattening, other names for the same."""

from __future__ import annotations

import math

from ntksap_export.engine.look import Batch, Look
from ntksap_export.engine.lower_elementwise import check_batches
from ntksap_export.engine.operators import Tensor
from ntksap_export.engine.steps import Step, UncoveredError


def concat(look: Look, at: int) -> Step:
    """Concat along the channels."""
    node = look.index.nodes[at]
    parts = [look.tensor(name) for name in node.input]
    first = parts[0]
    if look.attribute(at, "axis", 1) % first.rank != 1:
        raise UncoveredError("it joins another axis than the channels")
    if any((part.height, part.width, part.rank) != (first.height, first.width, first.rank) for part in parts):
        raise UncoveredError("its operands have different planes")
    check_batches(*(look.batch(name) for name in node.input))
    made = Tensor(sum(part.channels for part in parts), first.height, first.width, first.rank)
    return Step("concat", list(node.input), node.output[0], first, made)


def flatten(look: Look, at: int) -> Step:
    """Flatten of all axes but the batch."""
    given = look.tensor(look.operand(at, 0))
    if look.attribute(at, "axis", 1) not in (1, 1 - given.rank):
        raise UncoveredError("it flattens the batch, too")
    return _moved(look, at, (given.size,))


def reshape(look: Look, at: int) -> Step:
    """Reshape that keeps the batch and makes one axis of the others, or puts axes of size 1 behind them."""
    node = look.index.nodes[at]
    given = look.tensor(node.input[0])
    target = look.constant(look.operand(at, 1))
    if target is None:
        shape = look.inferred(node.output[0])
        if shape is None:
            raise UncoveredError(look.index.why_not_constant(node.input[1]))
        return _moved(look, at, tuple(size if isinstance(size, int) else -1 for size in shape[1:]))
    old = (look.batch(node.input[0]), given.channels, given.height, given.width)[: given.rank]
    keeps = not look.attribute(at, "allowzero", 0)
    sizes: list[Batch] = [
        old[place] if size == 0 and keeps and place < len(old) else size for place, size in enumerate(target.tolist())
    ]
    if -1 in sizes[1:]:  # what is left over is one image's only where the batch is kept
        if sizes[0] != old[0]:
            raise UncoveredError(f"it makes the shape {target.tolist()}: not one row for each image")
        known = math.prod(size for size in sizes[1:] if isinstance(size, int) and size != -1)
        sizes = [given.size // max(known, 1) if size == -1 else size for size in sizes]
    return _moved(look, at, tuple(size if isinstance(size, int) else -1 for size in sizes[1:]))


def squeeze(look: Look, at: int) -> Step:
    """Squeeze of a plane of one position."""
    given = look.tensor(look.operand(at, 0))
    if given.rank != 4 or sorted(axis % 4 for axis in _axes(look, at)) != [2, 3]:
        raise UncoveredError("it drops other axes than those of a plane of one position")
    return _moved(look, at, (given.channels,))


def unsqueeze(look: Look, at: int) -> Step:
    """Unsqueeze to a plane of one position."""
    given = look.tensor(look.operand(at, 0))
    if given.rank != 2 or sorted(axis % 4 for axis in _axes(look, at)) != [2, 3]:
        raise UncoveredError("it adds other axes than those of a plane of one position")
    return _moved(look, at, (given.channels, 1, 1))


def same(look: Look, at: int) -> Step:
    """Identity, and Dropout outside training."""
    node = look.index.nodes[at]
    if look.operand(at, 2) and look.needed(look.operand(at, 2)).any():
        raise UncoveredError("it is in training form")
    given = look.tensor(node.input[0])
    return Step("alias", [node.input[0]], node.output[0], given, given)


def _axes(look: Look, at: int) -> list[int]:
    if look.operand(at, 1):
        return [int(axis) for axis in look.needed(look.operand(at, 1)).tolist()]
    return list(look.attribute(at, "axes", []))


def _moved(look: Look, at: int, sizes: tuple[int, ...]) -> Step:
    """A step to a value whose axes behind the batch have these sizes."""
    node = look.index.nodes[at]
    given = look.tensor(node.input[0])
    if len(sizes) not in (1, 3) or math.prod(sizes) != given.size or min(sizes) < 1:
        raise UncoveredError(f"it makes the shape (N, {', '.join(map(str, sizes))}) of {given.size} numbers")
    made = Tensor.of(sizes)
    if made == given:
        return Step("alias", [node.input[0]], node.output[0], given, made)
    if made.height != 1 or made.width != 1:
        raise UncoveredError(f"it makes planes of {made.height} x {made.width} out of others")
    return Step("flatten", [node.input[0]], node.output[0], given, made)
