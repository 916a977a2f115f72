"""PHEW: keep paths of higher-edge weights, found by random walks (Patil & Dovrolis, ICML 2021).

    from unit i to unit j with probability   ||w_ij||_1 / sum over j of ||w_ij||_1,   w_ij the kernel between them
    then to one weight of that kernel with probability   |w_ijk| / ||w_ij||_1

Walks go from input to output and from output to input in turn; each begins at the next input channel or class. A walk
from the output reads the same formula with i and j exchanged. The weights that are met are kept, in the order in which
they are met, until the budget is full.

    score = 1 / (1 + t)     t the time, in walks, at which the weight is met first

A scorer is told no budget, so the walks go on until they have met every weight, find next to nothing new, or have
crossed 3 weights for every one there is: they meet some 60 % of a ResNet's or a VGG's. The others score below, by the
chance that a walk through their layer would take them, |w| / (sum of |w| in the layer); a budget that keeps more than
was met is filled with these, which is no longer PHEW. A layer that is on no path from the image to the logits scores 0.

Needs no data; reads the weights that are there. One shot; more rounds walk anew on what is left.

Where it differs from the reference code:
- Paths are read off the network (see `units.py`), not off the order and the shapes of its parameters. Where a channel
  goes several ways, a walk takes each with equal chance, as there between a block and its 1x1 shortcut; here an
  identity shortcut is such a way too, there no walk ever takes it.
- Biases are not pruned.
- The count is exact: the walk that fills the budget is cut off there, where the reference finishes it. A walk that ends
  at a unit without weights (all zero, or all pruned in an earlier round) leaves nothing; there it goes on by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, initial_weights
from ntksap_export.pruning.units import Hop, UnitGraph, unit_graph

Which = torch.Tensor | slice  # of some walks: their places

_CROSSINGS_PER_WEIGHT = 3
_NEW_PER_WALK = 0.01  # fewer new weights than this end the walks
_BATCH = (64, 2**18)  # walks at once, at least and at most


@dataclass(frozen=True, slots=True)
class Phew:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:
        """Score every weight of `mask`; see `Scorer.score`.

        Raises:
            ConfigError: the paths of the model cannot be followed; says where.
        """
        sizes = {name: weight.cpu().abs() * mask[name].cpu() for name, weight in initial_weights(model, mask).items()}
        graph = unit_graph(model, inputs.shape)
        walker = _Walker(graph, sizes, inputs.generator(torch.device("cpu"), round_index))
        met = walker.walk()
        scores = {}
        for name, size in sizes.items():
            nowhere = torch.zeros(size.numel(), dtype=torch.float64)
            flat = _scores(met[name], size.flatten(), walker.walks) if name in met else nowhere
            scores[name] = flat.view(size.shape).to(mask[name].device)
        return scores


def _scores(met: torch.Tensor, sizes: torch.Tensor, walks: int) -> torch.Tensor:
    """Of one layer, flat: by the time of the first visit, and below all those by the chance of one."""
    chance = sizes.double() / sizes.sum(dtype=torch.float64).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where(met.isfinite(), 1 / (1 + met), chance / (2 + walks))


@dataclass(frozen=True, slots=True)
class _Crossings:
    """Weights that walks crossed on one hop: which (flat index), by which walk, at which step of it."""

    layer: str
    weights: torch.Tensor
    walks: torch.Tensor
    step: int


class _Walker:
    """Random walks over a graph of units, many at a time.

    Attributes:
        walks: how many have been taken.
    """

    def __init__(self, graph: UnitGraph, sizes: Tensors, generator: torch.Generator) -> None:
        self.walks = 0
        self._generator = generator
        self._units = graph.units
        self._out: list[list[Hop]] = [[] for _ in graph.units]
        self._into: list[list[Hop]] = [[] for _ in graph.units]
        self._layers: dict[tuple[str, int], _Layer] = {}
        for hop in graph.hops:
            self._out[hop.source].append(hop)
            self._into[hop.target].append(hop)
            if hop.layer is not None and (hop.layer, hop.groups) not in self._layers:
                self._layers[hop.layer, hop.groups] = _Layer(sizes[hop.layer], hop.groups)
        self._met = {
            name: torch.full((sizes[name].numel(),), torch.inf, dtype=torch.float64) for name, _ in self._layers
        }
        self._weights = sum(int(torch.count_nonzero(sizes[name])) for name in self._met)

    def walk(self) -> Tensors:
        """When each weight was met first, in walks (the fraction is the step); infinite where never. Flat tensors."""
        crossed = found = 0
        batch = min(max(self._weights // 16 * 2, _BATCH[0]), _BATCH[1])  # even: one half goes forward
        while found < self._weights and crossed < _CROSSINGS_PER_WEIGHT * self._weights:
            walks = torch.arange(self.walks, self.walks + batch)
            for crossings in (*self._batch(walks[::2], True), *self._batch(walks[1::2], False)):
                time = crossings.walks.double() + crossings.step / len(self._units)
                self._met[crossings.layer].scatter_reduce_(0, crossings.weights, time, "amin")
                crossed += len(time)
            self.walks += batch
            before, found = found, sum(int(torch.count_nonzero(met.isfinite())) for met in self._met.values())
            if found - before < _NEW_PER_WALK * batch:
                break
        return self._met

    def _batch(self, walks: torch.Tensor, forward: bool) -> list[_Crossings]:
        """Take these walks, from the image to the logits or back; what those crossed that arrived."""
        places = range(len(self._units)) if forward else range(len(self._units) - 1, -1, -1)
        start, end = places[0], places[-1]
        waiting: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in places]
        waiting[start].append((walks, (walks // 2) % self._units[start]))
        crossings = []
        for step, place in enumerate(places):
            if place == end or not waiting[place]:
                continue
            here, units = (_joined(parts) for parts in zip(*waiting[place], strict=True))
            waiting[place].clear()
            hops = self._out[place] if forward else self._into[place]
            for hop, chosen in zip(hops, self._choose(hops, units, forward), strict=True):
                going, unit = here[chosen], units[chosen]
                if hop.layer is not None:
                    layer = self._layers[hop.layer, hop.groups]
                    unit, weights, alive = layer.cross(unit, forward, self._generator)
                    going = going[alive]
                    crossings.append(_Crossings(hop.layer, weights, going, step))
                elif (hop.repeat, hop.offset) != (1, 0):
                    unit = self._flattened(unit, hop) if forward else (unit - hop.offset) // hop.repeat
                waiting[hop.target if forward else hop.source].append((going, unit))
        arrived = torch.zeros(int(walks[-1]) + 1 - self.walks, dtype=torch.bool)
        for going, _ in waiting[end]:
            arrived[going - self.walks] = True
        if bool(arrived[walks - self.walks].all()):
            return crossings
        return [_only(each, arrived, self.walks) for each in crossings]

    def _flattened(self, units: torch.Tensor, hop: Hop) -> torch.Tensor:
        position = torch.randint(hop.repeat, (len(units),), generator=self._generator)
        return units * hop.repeat + position + hop.offset

    def _choose(self, hops: Sequence[Hop], units: torch.Tensor, forward: bool) -> list[Which]:
        """For each hop, which of the walks take it: by chance, or the one by which a unit was concatenated."""
        widths = [self._units[hop.target if hop.layer else hop.source] * hop.repeat for hop in hops]
        if not forward and min(widths) < self._units[hops[0].target]:
            inside = [
                (units >= hop.offset) & (units < hop.offset + width) for hop, width in zip(hops, widths, strict=True)
            ]
            return [_where(each) for each in inside]
        if len(hops) == 1:
            return [slice(None)]
        taken = torch.randint(len(hops), (len(units),), generator=self._generator)
        return [_where(taken == index) for index in range(len(hops))]


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _where(chosen: torch.Tensor) -> Which:
    """The places of what is chosen; a slice, which copies nothing, where all is."""
    return slice(None) if bool(chosen.all()) else chosen.nonzero().squeeze(1)


def _only(crossings: _Crossings, arrived: torch.Tensor, first: int) -> _Crossings:
    kept = arrived[crossings.walks - first]
    return _Crossings(crossings.layer, crossings.weights[kept], crossings.walks[kept], crossings.step)


class _Layer:
    """A weight's two sides: its entries in the order of their output units, and of their input units."""

    def __init__(self, sizes: torch.Tensor, groups: int) -> None:
        outputs, self._inputs = sizes.shape[:2]  # of one group, the inputs
        self._outputs = outputs // groups
        self._kernel = sizes[0, 0].numel()
        by_output = sizes.reshape(groups, self._outputs, self._inputs, self._kernel)
        self._back = _sums(by_output)
        self._forward = _sums(by_output.transpose(1, 2))

    def cross(
        self, units: torch.Tensor, forward: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, Which]:
        """From each unit through one of its weights: the units reached, the weights' flat indices, who could cross.

        The first two are of those only that could: whose unit has a weight that is not zero.
        """
        sums = self._forward if forward else self._back
        width = (self._outputs if forward else self._inputs) * self._kernel
        low, high = sums[units * width], sums[(units + 1) * width]
        alive = _where(high > low)
        units, low, high = units[alive], low[alive], high[alive]
        share = torch.rand(len(units), dtype=torch.float64, generator=generator)
        point = torch.minimum(low + share * (high - low), torch.nextafter(high, low))
        # An entry holds what is between two sums; one of size zero holds nothing and is never found.
        # Looked up in ascending order, which the caches like: half the time.
        order = torch.from_numpy(point.numpy().argsort())
        entry = torch.empty_like(order).scatter_(0, order, torch.searchsorted(sums, point[order], right=True) - 1)
        far, kernel = (entry - units * width) // self._kernel, entry % self._kernel
        if not forward:
            return units // self._outputs * self._inputs + far, entry, alive
        group, column = units // self._inputs, units % self._inputs
        reached = group * self._outputs + far
        return reached, (reached * self._inputs + column) * self._kernel + kernel, alive


def _sums(sizes: torch.Tensor) -> torch.Tensor:
    """0 and the running sums of the entries, in float64."""
    flat = sizes.reshape(-1)
    return torch.cat((torch.zeros(1, dtype=torch.float64), flat.cumsum(0, dtype=torch.float64)))
