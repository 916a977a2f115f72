"""Networks as they are deployed: pruned under a pattern, with norms that have seen images; graphs by precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from ntksap_export import networks
from ntksap_export.graph import Graph, export, optimize
from ntksap_export.graph.precision import named
from ntksap_export.masks import Mask, parse_pattern
from ntksap_export.pipeline.precisions import LIMITS
from ntksap_export.pruning import Budget, ChannelPlan, ScoringInputs, make_scorer, prune, prune_channels
from ntksap_export.runtime.half import to_fp16
from ntksap_export.runtime.parity import Limits
from ntksap_export.runtime.quantize import calibrate, quantize

CLASSES = 10
# name -> side of the image
TEN = {
    "resnet20": 32,
    "vgg16_bn": 32,
    "resnet50": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_large": 64,
    "torchvision:resnet18": 64,
    "torchvision:densenet121": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:squeezenet1_1": 64,
    "torchvision:shufflenet_v2_x1_0": 64,
}
PATTERNS = ("dense", "unstructured", "2:4", "channel")


@dataclass(frozen=True)
class Deployed:
    """A network, what it keeps, and its float32 graph. `plan` is there where channels are gone."""

    model: nn.Module
    mask: Mask
    plan: ChannelPlan | None
    graph: Graph
    size: int

    def images(self, count: int = 7, seed: int = 1) -> np.ndarray:
        """Images like those that its norms have seen."""
        shape = (count, 3, self.size, self.size)
        return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# precision -> how its graph is made of the float32 one, and how far it may be from the model
PRECISIONS: dict[str, tuple[Callable[[Deployed], Graph], Limits]] = {
    "fp32": (lambda case: case.graph, Limits(atol=1e-5, rtol=1e-4)),
    "fp16": (lambda case: to_fp16(named(case.graph)), LIMITS["fp16"]),
    "int8": (lambda case: _int8(case), LIMITS["int8"]),
}


def _int8(case: Deployed) -> Graph:
    graph = named(case.graph)
    batches = np.split(case.images(64, seed=3), 8)
    return quantize(graph, calibrate(graph, batches, "percentile"))


@cache
def deployed(name: str, pattern: str = "unstructured", opset: int = 20) -> Deployed:
    """The network without 90 % of each layer by magnitude; 2:4 and `channel` without half. Not to be changed."""
    size = TEN[name]
    model = networks.build(name, CLASSES, seed=0)
    inputs, scorer, plan = ScoringInputs((3, size, size), batch_size=2), make_scorer("magnitude"), None
    if pattern == "dense":
        mask = Mask.dense(model)
    elif pattern == "channel":
        plan = prune_channels(model, scorer, inputs, Budget(sparsity=0.5), rounds=1)
        model = plan.apply(model)
        mask = Mask.dense(model)
    else:
        budget = None if pattern == "2:4" else Budget(sparsity=0.9)
        mask = prune(model, scorer, inputs, budget, pattern=parse_pattern(pattern), scope="layer", rounds=1)
    mask.apply_(model)
    _settle_(model, mask, size)
    sample = torch.zeros(1, 3, size, size)
    graph, _ = optimize(export(model, sample, mask=mask, opset=opset))
    return Deployed(model, mask, plan, graph, size)


def _settle_(model: nn.Module, mask: Mask, size: int) -> None:
    """Weights to the fan-in that is left, norms to what they see, as training does: else logits vanish with depth."""
    weights = dict(model.named_parameters())
    for name, kept in mask.items():
        weights[name].data *= float(kept.float().mean()) ** -0.5
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches
    generator = torch.Generator().manual_seed(2)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(8, 3, size, size, generator=generator))
    model.eval()
