"""The first node where a graph and its model part, or a graph and its optimized self.

The model is run with a hook on each module that has no parts. A node that reads the initializer `NAME.weight` computes
what module NAME does, or that and the BatchNorm after it, which the export folds in; such nodes are where values can be
compared. Between two of them the place is known as a range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ntksap_export.errors import NtksapError
from ntksap_export.graph import Graph, Step, exposed, steps
from ntksap_export.graph.naming import module_of
from ntksap_export.runtime.divergence import Divergence
from ntksap_export.runtime.eager import TorchSession
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.parity import Limits, difference
from ntksap_export.runtime.session import Images, Outputs

_WEIGHTED = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu"}
    | {f"{kind}Normalization" for kind in ("Batch", "Layer", "Group", "Instance")}
)
Values = Mapping[str, NDArray[Any]]


def locate(
    model: nn.Module, graph: Graph, images: Images, limits: Limits, optimization: str = "off"
) -> Divergence | None:
    """Name the first node whose value differs by more than `limits` allow at the scale of that value.

    Args:
        model: what the graph was made of; on the CPU.
        graph: run by onnxruntime.
        images: a batch on which they disagree.
        limits: `atol` and `rtol` count.
        optimization: `off`: the graph is compared with the model; `all`: with itself run with optimization off.

    Returns:
        None where no node can be named: onnxruntime does not run the graph with its values exposed.
    """
    order = steps(graph)
    try:
        if optimization != "off":
            return _against_itself(graph, order, images, limits)
        values = _values(graph, order, images, "off")
    except NtksapError:
        return None
    return _against_model(model, order, values, images, limits, tuple(item.name for item in graph.proto.graph.output))


def _values(graph: Graph, order: Sequence[Step], images: Images, optimization: str) -> dict[str, NDArray[Any]]:
    wider = exposed(graph, (name for step in order for name in step.outputs))
    with OrtSession(wider.to_bytes(), optimization=optimization) as session:
        found = dict(zip(session.output_names, session.run_all(images), strict=True))
    inputs = {item.name for item in graph.proto.graph.input}
    return {**dict.fromkeys(inputs, images), **{name: np.asarray(value) for name, value in found.items()}}


def _against_itself(graph: Graph, order: Sequence[Step], images: Images, limits: Limits) -> Divergence | None:
    """First with all values exposed; a fault of a fusion vanishes by that, and is then looked for one by one."""
    plain = _values(graph, order, images, "off")
    fast = _values(graph, order, images, "all")
    for step in order:
        if any(not _agree(fast[name], plain[name], limits) for name in step.outputs):
            return _itself(step, fast, plain)
    low, high = 0, len(order) - 1  # the first of two neighbours agrees and the second does not
    while low < high:
        middle = (low + high) // 2
        name = order[middle].outputs[0]
        if _agree(_one(graph, name, images), plain[name], limits):
            low = middle + 1
        else:
            high = middle
    step = order[low]
    return _itself(step, {step.outputs[0]: _one(graph, step.outputs[0], images)}, plain)


def _one(graph: Graph, name: str, images: Images) -> NDArray[Any]:
    with OrtSession(exposed(graph, (name,)).to_bytes(), optimization="all") as session:
        return np.asarray(session.run_all(images)[session.output_names.index(name)])


def _itself(step: Step, fast: Values, plain: Values) -> Divergence:
    name = max((name for name in step.outputs if name in fast), key=lambda each: difference(fast[each], plain[each])[0])
    return _part(step, None, None, None, (fast[name], plain[name]), "onnxruntime (off) and (all)")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a module: what it was given, and what may stand in the graph as its result."""

    given: NDArray[Any]
    results: tuple[NDArray[Any], ...]


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A node, its place, the module it computes, and that module's call."""

    index: int
    module: str
    call: _Call
    values: tuple[str, ...]


def _against_model(
    model: nn.Module, order: Sequence[Step], values: Values, images: Images, limits: Limits, outputs: Sequence[str]
) -> Divergence | None:
    between = "torch and onnxruntime (off)"
    calls, answers = _trace(model, images)
    known: set[str] = set()  # values that agree
    last: str | None = None
    for anchor in _anchors(order, calls):
        step, results = order[anchor.index], anchor.call.results
        pairs = [(values[name], right) for name in anchor.values for right in results]
        pairs = [pair for pair in pairs if pair[0].shape == pair[1].shape]
        if not pairs:
            continue  # of other shape on purpose: channels were removed
        if good := {name for name in anchor.values if any(_agree(values[name], each, limits) for each in results)}:
            known |= good
            last = anchor.module
            continue
        given = values.get(step.inputs[0]) if step.inputs else None
        before = _leading_to(order, step.inputs, known)
        if given is None or not before or _agree(given, anchor.call.given, limits):
            return _part(step, None, anchor.module, last, min(pairs, key=lambda pair: difference(*pair)), between)
        return _part(before[0], before[-1], anchor.module, last, (given, anchor.call.given), between)
    for name, right in zip(outputs, answers, strict=False):
        if not _agree(values[name], right, limits):
            rest = _leading_to(order, (name,), known) or [step for step in order if name in step.outputs]
            return _part(rest[0], rest[-1], None, last, (values[name], right), between)
    return None


def _part(
    step: Step, last: Step | None, module: str | None, after: str | None, pair: tuple[Any, Any], between: str
) -> Divergence:
    actual, right = pair
    finite = right[np.isfinite(right)] if right.size else right
    return Divergence(
        node=step.name,
        op_type=step.op_type,
        value=step.outputs[0],
        until=None if last is None or last is step else last.name,
        module=module,
        after=after,
        max_abs=difference(actual, right)[0],
        scale=float(np.abs(finite).max(initial=0)),
        between=between,
    )


def _agree(actual: NDArray[Any], right: NDArray[Any], limits: Limits) -> bool:
    if right.size and not np.isfinite(right).all():
        return bool(np.array_equal(actual, right, equal_nan=right.dtype.kind == "f"))
    return difference(actual, right)[0] <= limits.atol + limits.rtol * float(np.abs(right).max(initial=0))


def _leading_to(order: Sequence[Step], wanted: Sequence[str], known: set[str]) -> list[Step]:
    """The nodes that `wanted` are computed from, in order, back to values that are known to be right."""
    needed, found = set(wanted) - known, []
    for step in reversed(order):
        if needed & set(step.outputs):
            needed |= set(step.inputs) - known
            found.append(step)
    return found[::-1]


def _anchors(order: Sequence[Step], calls: Mapping[str, Sequence[_Call]]) -> Iterator[_Anchor]:
    """A module that is called several times has a node for each call, in the same order."""
    seen: dict[str, int] = {}
    for index, step in enumerate(order):
        names = [name for each in step.parameters if (name := module_of(each))]
        if step.op_type not in _WEIGHTED or len(names) != 1 or names[0] not in calls:
            continue
        turn = seen.get(names[0], 0)
        seen[names[0]] = turn + 1
        if turn < len(calls[names[0]]):
            yield _Anchor(index, names[0], calls[names[0]][turn], _results(order, index))


def _results(order: Sequence[Step], index: int) -> tuple[str, ...]:
    """The node's value, and what an addition of a bias right after makes of it."""
    name = order[index].outputs[0]
    readers = [step for step in order[index + 1 :] if name in step.inputs]
    added = readers[0].outputs if len(readers) == 1 and readers[0].op_type == "Add" and readers[0].parameters else ()
    return (name, *added)


def _trace(model: nn.Module, images: Images) -> tuple[dict[str, list[_Call]], Outputs]:
    """The calls of each module without parts, by name, and the model's outputs."""
    made: list[tuple[str, nn.Module, torch.Tensor, torch.Tensor, NDArray[Any], NDArray[Any]]] = []
    given: dict[str, NDArray[Any]] = {}
    handles = []

    def before(name: str, _: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], torch.Tensor):
            given[name] = _copied(args[0])

    def after(name: str, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        if name in given and isinstance(result, torch.Tensor):
            made.append((name, module, args[0], result, given.pop(name), _copied(result)))

    for name, module in model.named_modules():
        if next(module.children(), None) is None:
            handles.append(module.register_forward_pre_hook(partial(before, name)))
            handles.append(module.register_forward_hook(partial(after, name)))
    try:
        answers = TorchSession(model).run_all(images)
    finally:
        for handle in handles:
            handle.remove()
    calls: dict[str, list[_Call]] = {}
    for name, _, _, result, start, end in made:
        norms = [row[5] for row in made if row[2] is result and isinstance(row[1], _BatchNorm)]
        calls.setdefault(name, []).append(_Call(start, (end, *norms)))
    return calls, answers


def _copied(tensor: torch.Tensor) -> NDArray[Any]:
    """Its values now: what follows may change them in place."""
    return np.array(tensor.detach().cpu().numpy(), order="C", copy=True)
