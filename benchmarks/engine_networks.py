"""The networks of engine.py: which, under which masks, and their files.

Weights are drawn, never trained: what a call takes does not depend on their values. Kept weights are scaled by
1 / sqrt(density of their layer), and BatchNorm's statistics and affine parameters are drawn around their neutral
values, so that signals reach the logits and no parameter is trivial.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import profiles
import torch
from torch import nn

from ntksap_export import Budget, Mask, ScoringInputs, engine, make_scorer, networks, prune
from ntksap_export.graph import export, optimize
from ntksap_export.graph.costs import node_costs
from ntksap_export.masks import layer_costs, mask_table

CLASSES = 1000
SCORE_SIZE = 64  # side of the images that NTK-SAP's mask is chosen with, and its rounds: those of profile.txt
ROUNDS = 5


@dataclass(frozen=True)
class Network:
    """One network under one mask.

    Attributes:
        model: as `networks.build` takes it.
        size: side of its images, in pixels.
        mask: in words.
        choose: the mask of a network that was built.
        target: of the issue, times as fast as onnxruntime at batch 1 and 16.
    """

    model: str
    size: int
    mask: str = "dense"
    choose: Callable[[nn.Module], Mask] = Mask.dense
    target: tuple[float, float] | None = None


def uniform(sparsity: float, keep_first: bool = False) -> Callable[[nn.Module], Mask]:
    """Every prunable layer at that sparsity, which weights by chance; the first convolution, too, or whole."""

    def choose(model: nn.Module) -> Mask:
        convolutions = (name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
        keep = [next(convolutions)] if keep_first else []
        inputs = ScoringInputs((3, SCORE_SIZE, SCORE_SIZE))
        return prune(model, make_scorer("random"), inputs, Budget(sparsity), scope="layer", keep_dense=keep)

    return choose


def ntksap(model: nn.Module) -> Mask:  # noqa: ARG001
    """The mask of profiles.py, which builds the same network."""
    return profiles.NETWORKS["90 %"](profiles.Task("resnet50", 224, SCORE_SIZE, ROUNDS)).mask


FIRST = "first convolution dense"
NETWORKS: dict[str, Network] = {
    "resnet50": Network("resnet50", 224, target=(0.9, 0.9)),
    "resnet50-80": Network("resnet50", 224, "uniform 80 %", uniform(0.8), (2.0, 2.5)),
    "resnet50-90": Network("resnet50", 224, "uniform 90 %", uniform(0.9), (3.5, 4.0)),
    "resnet50-95": Network("resnet50", 224, "uniform 95 %", uniform(0.95), (5.5, 6.0)),
    "resnet50-90-first": Network("resnet50", 224, f"uniform 90 %, {FIRST}", uniform(0.9, True), (3.5, 4.0)),
    "resnet50-95-first": Network("resnet50", 224, f"uniform 95 %, {FIRST}", uniform(0.95, True), (5.5, 6.0)),
    "resnet50-ntksap": Network("resnet50", 224, "NTK-SAP 90 %", ntksap, (1.6, 1.7)),
    "mobilenet_v2": Network("mobilenet_v2", 224),
    "mobilenet_v2-90": Network("mobilenet_v2", 224, "uniform 90 %", uniform(0.9)),
    "vgg16": Network("torchvision:vgg16", 224),
    "vgg16-90": Network("torchvision:vgg16", 224, "uniform 90 %", uniform(0.9)),
    "vgg16_bn": Network("vgg16_bn", 32),
    "vgg16_bn-90": Network("vgg16_bn", 32, "uniform 90 %", uniform(0.9)),
    "resnet20": Network("resnet20", 32),
    "resnet20-90": Network("resnet20", 32, "uniform 90 %", uniform(0.9)),
}


def make(name: str, folder: Path) -> dict[str, Any]:
    """Write model.onnx and model.sparse.onnx into the folder; what is to be said of them, a row of the results.

    Raises:
        NtksapError: the network is not there (torchvision), or the engine covers nothing of it.
    """
    start, network = time.perf_counter(), NETWORKS[name]
    model = networks.build(network.model, num_classes=CLASSES, seed=0)
    mask = network.choose(model)
    shape = (3, network.size, network.size)
    table = mask_table(mask, layer_costs(model, shape))
    drawn(model, mask)
    graph = optimize(export(model.eval(), torch.zeros(1, *shape), mask=mask))[0]
    converted = engine.convert(graph)
    folder.mkdir(exist_ok=True)
    files = {"onnxruntime": folder / "model.onnx", "engine": folder / "model.sparse.onnx"}
    for path, made in zip(files.values(), (graph, converted.graph), strict=True):
        made.save(path)
    return {
        "kind": "network",
        "network": name,
        "model": network.model,
        "size": network.size,
        "mask": network.mask,
        "target": network.target,
        "density": table.density,
        "flop_density": table.flop_density,
        "covered": len(converted.covered),
        "left": [str(item) for item in converted.left],
        "regions": converted.regions,
        "file_bytes": {key: path.stat().st_size for key, path in files.items()},
        "layers": [
            [cost.module, cost.nonzero_macs] for cost in node_costs(graph, (1, *shape)) if cost.macs
        ],  # in the graph's order
        "seconds_to_make": round(time.perf_counter() - start, 1),
    }


def drawn(model: nn.Module, mask: Mask) -> None:
    """Values that let signals through; pruned weights become zero."""
    generator = torch.Generator().manual_seed(1)
    mask.apply_(model)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, kept in mask.items():
            weights[name].mul_((kept.numel() / max(int(kept.sum()), 1)) ** 0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for near_one in (module.weight, module.running_var):
                    near_one.uniform_(0.8, 1.2, generator=generator)
                for near_zero in (module.bias, module.running_mean):
                    near_zero.normal_(0.0, 0.1, generator=generator)
