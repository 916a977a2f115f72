"""Edge-popup: a good network inside one that is never trained (Ramanujan et al., CVPR 2020; code: hidden-networks).

    forward:    w * m(s)     m: the k highest |s| of each layer are 1, the others 0;  w stays as it was drawn
    backward:   dL/d|s| = dL/d(w * m) * w        as though m(s) were |s| (straight-through)

Scores are drawn like weights, kaiming_uniform(a = sqrt 5), from the seed, and trained as the run trains: its optimizer,
rate and weight decay, on the scores. Biases, and gamma and beta of norms, stay as they are (the paper's norms have
none); BatchNorm's running statistics follow the network that is left. Each layer keeps the same share, as with
`--scope layer`, whatever the scope; with n:m the n highest of each m may live, with blocks the sum of |s| decides.

The log's accuracy is that of the network with its weights as drawn. The run's own training starts from these weights.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.utils import parametrize

from ntksap_export.masks import Mask, Pattern, split_pattern
from ntksap_export.masks.patterns import Unstructured
from ntksap_export.pruning import Scores, ScoringInputs, left_whole, resolve_layers
from ntksap_export.pruning.distributed import of_main
from ntksap_export.search.choice import Choice, choose
from ntksap_export.search.job import Found, SearchJob
from ntksap_export.search.trainings import search_config, trainings


def edge_popup(job: SearchJob) -> Found:
    """Train scores; see `run_search`."""
    config = search_config(job)
    pattern = split_pattern(job.pattern)[1] or Unstructured()
    scores = draw_scores(job.model, job.seed)
    even = choose(replace(job, scope="layer"), _Given(scores)).mask
    whole = resolve_layers(job.model, job.keep_dense)
    whole |= {f"{layer}.weight" for layer in left_whole(job.model, pattern, whole)}
    counts = {name: int(kept.sum()) // pattern.unit_size for name, kept in even.items() if name not in whole}
    network = with_scores(job.model, scores, counts, pattern)
    with trainings(job) as work:
        work.run("scores", network, Mask({}), config, density=even.density)
    modules = dict(network.named_modules())
    mask = {}
    for name, kept in even.items():
        mask[name] = kept
        if name in counts:
            popup = modules[name.rpartition(".")[0]].parametrizations
            assert isinstance(popup, nn.ModuleDict)
            mask[name] = best(popup["weight"].original, counts[name], pattern)  # type: ignore[arg-type]
    choice = Choice(of_main(Mask(mask)), None)
    return choice.found(_with_statistics(job.model, network), work.log("edge-popup"))


def draw_scores(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """A score for every prunable weight, by parameter name, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for name, kept in Mask.dense(model).items():
        scores[name] = torch.empty(kept.shape)
        nn.init.kaiming_uniform_(scores[name], a=math.sqrt(5), generator=generator)
    return scores


@torch.no_grad()
def best(scores: torch.Tensor, count: int, pattern: Pattern) -> torch.Tensor:
    """The `count` units of the highest |scores| that the pattern lets live, as a mask of a layer."""
    size = scores.abs()
    allowed = pattern.allowed(size, torch.ones_like(size, dtype=torch.bool), 0.0)
    units = pattern.pool(size).masked_fill(pattern.pool(allowed) == 0, -1.0)
    kept = torch.zeros_like(units, dtype=torch.bool)
    kept[units.topk(count, sorted=False).indices] = True
    return pattern.spread(kept, scores.shape)


class StraightThrough(torch.autograd.Function):
    """A mask of `size` forward, `size` itself backward."""

    @staticmethod
    def forward(ctx: object, size: torch.Tensor, count: int, pattern: Pattern) -> torch.Tensor:  # noqa: ARG004
        return best(size, count, pattern).to(size.dtype)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # noqa: ARG004
        return gradient, None, None


class Popup(nn.Module):
    """The weight of a layer as a function of its scores.

    Args:
        weight: as drawn; kept as a buffer.
        count: units to keep.
        pattern: which weights are one.
    """

    def __init__(self, weight: torch.Tensor, count: int, pattern: Pattern) -> None:
        super().__init__()
        self.register_buffer("drawn", weight.detach().clone())
        self._count = count
        self._pattern = pattern

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        kept: torch.Tensor = StraightThrough.apply(scores.abs(), self._count, self._pattern)  # type: ignore[no-untyped-call]
        drawn = self.get_buffer("drawn")
        return drawn * kept


def with_scores(
    model: nn.Module, scores: dict[str, torch.Tensor], counts: dict[str, int], pattern: Pattern
) -> nn.Module:
    """A copy of `model` whose trainable parameters are the scores of the layers in `counts`, by weight name.

    Args:
        model: left untouched.
        scores: of all its prunable weights.
        counts: units that each layer keeps.
        pattern: which weights are one.
    """
    network = copy.deepcopy(model).requires_grad_(False)
    for name, count in counts.items():
        layer = network.get_submodule(name.rpartition(".")[0])
        parametrize.register_parametrization(layer, "weight", Popup(layer.get_parameter("weight"), count, pattern))
        original = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
        original.requires_grad_(True)
        with torch.no_grad():
            original.copy_(scores[name])
    return network


@dataclass(frozen=True, slots=True)
class _Given:
    """Scores that are there already."""

    scores: dict[str, torch.Tensor]
    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Scores:  # noqa: ARG002
        """The sizes of the scores; see `Scorer.score`."""
        return {name: self.scores[name].abs().to(mask[name].device) for name in mask}


def _with_statistics(model: nn.Module, network: nn.Module) -> nn.Module:
    """`model` with the buffers of `network`: running statistics."""
    copied = copy.deepcopy(model)
    own = dict(copied.named_buffers())
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name in own:
                own[name].copy_(buffer)
    return copied
