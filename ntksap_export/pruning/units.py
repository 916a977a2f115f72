"""How units are connected: which channel of one layer feeds which channels of the next, shortcuts included.

A place is a tensor of the network; its units are its channels, or the features of a flat one. A hop leads from a place
to a later one: through the weights of a Conv2d or Linear, or straight on where a channel stays what it is (norms,
activations, pooling, sums). Read off a torch.fx trace that is run once without arithmetic, on the meta device.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from ntksap_export.errors import ConfigError

_BATCH = 97  # images in the trace: a number that no axis of channels is likely to have
_CATS = frozenset({torch.cat, torch.concat, torch.concatenate})
_PERMUTES = frozenset({"permute", "transpose", "swapaxes"})
_RESHAPES = frozenset({"flatten", "reshape", "view", "squeeze", "unsqueeze", "Flatten", "Unflatten"})
_MIXERS: frozenset[object] = frozenset(
    {
        *(torch.matmul, torch.bmm, torch.einsum, operator.matmul, "matmul", "bmm", "__matmul__"),
        *(functional.linear, functional.conv2d, functional.scaled_dot_product_attention),
    }
)


@dataclass(frozen=True, slots=True)
class Hop:
    """One way from a place to a later one.

    Attributes:
        source: a place.
        target: a later place.
        layer: parameter name of the weight it passes through; None where unit u goes straight on, to the units from
            `u * repeat + offset` on, `repeat` of them.
        groups: of a grouped convolution.
        repeat: positions that flattening makes units of, for each channel.
        offset: where the source's units begin in a concatenation.
    """

    source: int
    target: int
    layer: str | None = None
    groups: int = 1
    repeat: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class UnitGraph:
    """The places on paths from the image to the logits, in the order in which they are computed.

    Attributes:
        units: for each place its number of units; place 0 is the image, the last one the logits.
        hops: the ways between them; each lies on a path from the first place to the last.
    """

    units: tuple[int, ...]
    hops: tuple[Hop, ...]


def unit_graph(model: nn.Module, input_shape: tuple[int, ...]) -> UnitGraph:
    """Follow the channels of `model`.

    Args:
        model: left untouched; traced in eval mode.
        input_shape: (C, H, W).

    Raises:
        ConfigError: the model cannot be traced, or mixes channels in a way that is not known; names the place.
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    try:
        graph = _Tracer().trace(ghost)
    except Exception as error:  # a model may fail in any way when it is called with something that is no tensor
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ConfigError(
            f"the paths of {type(model).__name__} cannot be traced: {reason}; choose another --method"
        ) from error
    shapes = _Shapes(ghost, graph=graph)
    with torch.no_grad():
        shapes.run(torch.empty(_BATCH, *input_shape, device="meta"))
    follower = _Follower(ghost, shapes.found, _layer_names(model))
    for node in graph.nodes:
        follower.visit(node)
    return follower.between_image_and_logits()


def _layer_names(model: nn.Module) -> dict[str, str]:
    """Module name -> parameter name of its weight; two layers that share a weight have one."""
    owners = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        prefix: owners[id(module.weight)]
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and id(module.weight) in owners
    }


class _Tracer(fx.Tracer):
    """Looks into every module that has a prunable layer in it, torch's own ones too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Conv2d | nn.Linear):
            return True
        inside = any(isinstance(part, nn.Conv2d | nn.Linear) for part in m.modules())
        return not inside and super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs the trace and notes what every node gave: a shape, or the name of the type of what was no tensor."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.found: dict[fx.Node, torch.Size | str] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.found[n] = result.shape
        elif isinstance(result, tuple | list) and any(isinstance(part, torch.Tensor) for part in result):
            self.found[n] = type(result).__name__
        return result


@dataclass(frozen=True, slots=True)
class _Place:
    """A node's units, and the axis of its tensor along which they stand."""

    units: int
    axis: int


class _Follower:
    """Builds the graph node by node."""

    def __init__(self, ghost: nn.Module, shapes: dict[fx.Node, torch.Size | str], layers: dict[str, str]) -> None:
        self._modules = dict(ghost.named_modules())
        self._shapes = shapes
        self._layers = layers
        self._places: dict[fx.Node, _Place] = {}
        self._numbers: dict[fx.Node, int] = {}
        self._hops: list[Hop] = []
        self._logits: fx.Node | None = None

    def visit(self, node: fx.Node) -> None:
        """Add the node's place and the hops to it; nodes that do not depend on the image are passed over."""
        sources = [source for source in node.all_input_nodes if source in self._places]
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node) or not sources:
                _lost(node, "the model must answer with one tensor that depends on the image")
            self._logits = sources[0]
        elif node.op == "placeholder" and not self._places:
            self._add(node, _Place(self._shape(node)[1], 1))
        elif sources and node in self._shapes:
            self._connect(node, sources)

    def between_image_and_logits(self) -> UnitGraph:
        """What lies on a path from the first place to the last, renumbered."""
        assert self._logits is not None
        needed = {self._numbers[self._logits]}
        for hop in reversed(self._hops):  # hops stand in the order of their targets
            if hop.target in needed:
                needed.add(hop.source)
        order = {number: place for place, number in enumerate(sorted(needed))}
        units = [place.units for place in self._places.values()]
        return UnitGraph(
            tuple(units[number] for number in order),
            tuple(
                replace(hop, source=order[hop.source], target=order[hop.target])
                for hop in self._hops
                if hop.target in needed
            ),
        )

    def _connect(self, node: fx.Node, sources: Sequence[fx.Node]) -> None:
        module = self._modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d | nn.Linear):
            self._through_layer(node, sources[0], module)
        elif node.target in _MIXERS or isinstance(module, _ConvNd):
            _lost(node, "it mixes channels and is no Conv2d or Linear")
        elif node.target in _CATS:
            self._concatenate(node)
        else:
            name = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
            self._straight(node, sources, name)

    def _through_layer(self, node: fx.Node, source: fx.Node, module: nn.Conv2d | nn.Linear) -> None:
        before = self._places[source]
        axis = 1 if isinstance(module, nn.Conv2d) else len(self._shape(node)) - 1
        width = module.in_channels if isinstance(module, nn.Conv2d) else module.in_features
        if before != _Place(width, axis):
            _lost(node, "its input channels do not stand where it reads them")
        if str(node.target) not in self._layers:
            _lost(node, "its weight is no parameter but is computed from others")
        self._add(node, _Place(self._shape(node)[axis], axis))
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        self._hop(source, node, layer=self._layers[str(node.target)], groups=groups)

    def _concatenate(self, node: fx.Node) -> None:
        parts: Any = node.args[0] if node.args else node.kwargs["tensors"]
        shape = self._shape(node)
        dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        axes = {self._places[part].axis for part in parts if part in self._places}
        if len(axes) > 1:
            _lost(node, "its inputs have their channels on different axes")
        (axis,) = axes
        if dim % len(shape) != axis:
            self._straight(node, [part for part in parts if part in self._places], "cat")
            return
        self._add(node, _Place(shape[axis], axis))
        offset = 0
        for part in parts:
            if part in self._places:
                self._hop(part, node, offset=offset)
            offset += self._shape(part)[axis]

    def _straight(self, node: fx.Node, sources: Sequence[fx.Node], name: str) -> None:
        shape = self._shape(node)
        found = []
        for source in sources:
            before, place = self._shape(source), self._places[source]
            if name in _PERMUTES:
                moved, repeat = _permuted(node, name, len(before)).index(place.axis), 1
            elif name in _RESHAPES:
                moved, repeat = _reshaped(before, shape, place.axis)
            else:
                moved, repeat = _kept(before, shape, place)
            found.append((source, moved, repeat))
        axes = {moved for _, moved, _ in found}
        if len(axes) > 1 or min(axes) < 0:
            _lost(node, f"{' and '.join(str(tuple(self._shape(source))) for source in sources)} -> {tuple(shape)}")
        (axis,) = axes
        self._add(node, _Place(shape[axis], axis))
        for source, _, repeat in found:
            self._hop(source, node, repeat=repeat)

    def _shape(self, node: fx.Node) -> torch.Size:
        shape = self._shapes[node]
        if isinstance(shape, str):
            _lost(node, f"a {shape} of tensors")
        return shape

    def _add(self, node: fx.Node, place: _Place) -> None:
        self._numbers[node] = len(self._places)
        self._places[node] = place

    def _hop(self, source: fx.Node, target: fx.Node, **how: Any) -> None:
        self._hops.append(Hop(self._numbers[source], self._numbers[target], **how))


def _lost(node: fx.Node, reason: str) -> NoReturn:
    raise ConfigError(f"the paths through '{node.name}' cannot be followed: {reason}; choose another --method")


def _permuted(node: fx.Node, name: str, dims: int) -> list[int]:
    """For each axis of the result, the axis that it was."""
    rest: Any = node.args[1:] or tuple(node.kwargs[key] for key in node.kwargs if key not in ("input", "self"))
    numbers = [number % dims for number in (rest[0] if isinstance(rest[0], tuple | list) else rest)]
    if name == "permute":
        return numbers
    axes = list(range(dims))
    axes[numbers[0]], axes[numbers[1]] = numbers[1], numbers[0]
    return axes


def _reshaped(before: torch.Size, after: torch.Size, axis: int) -> tuple[int, int]:
    """Where a reshape puts the units, and how many positions it makes units of; axis -1 if it takes them apart."""
    lead = math.prod(before[:axis])
    merged = {math.prod(before[axis + 1 : end]) for end in range(axis + 1, len(before) + 1)}
    for place, size in enumerate(after):
        repeat, rest = divmod(size, before[axis])
        if math.prod(after[:place]) == lead and rest == 0 and repeat in merged:
            return place, repeat
    return -1, 1


def _kept(before: torch.Size, after: torch.Size, place: _Place) -> tuple[int, int]:
    """Where anything else leaves the units: on their axis, or on the last one; axis -1 if their number changed."""
    if place.axis < len(after) and after[place.axis] == place.units:
        return place.axis, 1
    last = place.axis == len(before) - 1 and len(after) > 0 and after[-1] == place.units
    return (len(after) - 1 if last else -1), 1
