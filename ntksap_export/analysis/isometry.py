"""Dynamical isometry: the singular values of the Jacobian of the logits by the image (Wang et al., arXiv 2105.05916).

    J(x) = d logits / d image at x, (C, D)        mean JSV = mean of all min(C, D) singular values of all images

A network that is trained easily keeps them near 1 (Saxe et al., ICLR 2014); pruning without recovery sends them to 0.
In eval mode, with the weights as they are, in float64. See docs/analysis-methods.md for what each way costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ntksap_export.analysis.jacobian import Linearized, LogitMap, logit_map
from ntksap_export.analysis.krylov import OVERSAMPLE, lanczos, randomized
from ntksap_export.analysis.memory import amount
from ntksap_export.errors import ConfigError
from ntksap_export.progress import Progress, Silent

Way = Literal["auto", "exact", "lanczos", "randomized"]
WAYS = ("auto", "exact", "lanczos", "randomized")

_EXACT_OUTPUTS = 256  # `auto`: above it, Lanczos
_VALUES = 64  # of an image, where a way that estimates is not told how many


@dataclass(frozen=True, slots=True)
class JacobianValues:
    """Singular values, image by image.

    Attributes:
        values: (N, count), float64, descending in each row, on the CPU.
        weights: (N, count), float64: which share of all an image's singular values each stands for; a row sums to 1.
        rank: how many singular values an image has, min(C, D).
        way: how they were found: `exact`, `lanczos` or `randomized`.
    """

    values: torch.Tensor
    weights: torch.Tensor
    rank: int
    way: str


@dataclass(frozen=True, slots=True)
class Isometry:
    """How far a network is from keeping lengths. 1 everywhere is isometry.

    Attributes:
        mean: of the singular values over values and images: the mean JSV.
        std: their standard deviation, over values and images.
        min: the smallest found.
        max: the largest found.
        condition: mean over the images of largest / smallest; infinite where an image's smallest is 0 (up to rounding).
        spread: mean of (s - 1)^2.
        images: their number, N.
        values: singular values found of each image.
        rank: singular values that each image has; where `values` is less, min and condition speak of those found, and
            mean, std and spread are estimates (`lanczos`) or of the largest alone (`randomized`).
        way: how they were found.
        image_means: the mean of each image.
    """

    mean: float
    std: float
    min: float
    max: float
    condition: float
    spread: float
    images: int
    values: int
    rank: int
    way: str
    image_means: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; None for an infinite condition."""
        return {
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            "condition": self.condition if math.isfinite(self.condition) else None,
            "spread": self.spread,
            "images": self.images,
            "values": self.values,
            "rank": self.rank,
            "way": self.way,
            "image_means": list(self.image_means),
        }


@dataclass(frozen=True, slots=True)
class JacobianPlan:
    """How the values will be found, and the memory that takes, known before.

    Attributes:
        way: `exact`, `lanczos` or `randomized`.
        count: singular values of each image.
        chunk: images at a time.
        bytes: estimated peak beside what is there already.
    """

    way: str
    count: int
    chunk: int
    bytes: int


def jacobian_values(
    model: nn.Module,
    images: torch.Tensor,
    *,
    way: Way = "auto",
    count: int | None = None,
    seed: int = 0,
    memory_bytes: int = 2 << 30,
    progress: Progress | None = None,
) -> JacobianValues:
    """Singular values of d logits / d image, the image flattened, for each image.

    Args:
        model: left untouched; taken in eval mode, with its weights and running statistics as they are.
        images: (N, C, H, W), normalized, on any device.
        way: `exact`: one backward pass per output and a full SVD; `lanczos`: `count` steps of bidiagonalization;
            `randomized`: a random range finder, the `count` largest values; `auto`: exact up to 256 outputs where that
            fits in `memory_bytes`, else lanczos.
        count: values of each image, at most min(C, D), which is also what None means where that is 256 or less, or the
            way is exact; else None is 64. `exact` and `randomized` give the largest.
        seed: of the random vectors.
        memory_bytes: what the peak may grow by; images are taken in chunks that fit.
        progress: where a bar is shown.

    Raises:
        ConfigError: no Jacobian can be formed; not even one image fits in `memory_bytes`.
    """
    network = logit_map(model, images)
    plan = jacobian_plan(network, len(images), way=way, count=count, memory_bytes=memory_bytes)
    device = next(network.model.parameters(), images).device
    generator = torch.Generator(device).manual_seed(seed)
    rank = min(network.outputs, network.inputs)
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    with (progress or Silent()).task(f"Jacobian ({plan.way})", len(images)) as task:
        for part in images.split(plan.chunk):  # type: ignore[no-untyped-call]
            linear = Linearized(network, part.to(device, torch.float64))
            found.append(_values(linear, len(part), plan, rank, generator, device))
            task.advance(len(part))
    values, weights = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return JacobianValues(values, weights, rank, plan.way)


def _values(
    linear: Linearized, images: int, plan: JacobianPlan, rank: int, generator: torch.Generator, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    if plan.way == "lanczos":
        values, weights = lanczos(linear, images, plan.count, generator, device)
        return values, weights if plan.count < rank else torch.full_like(values, 1 / rank)
    if plan.way == "randomized":
        values = randomized(linear, images, plan.count, generator, device)
    else:
        values = torch.linalg.svdvals(linear.matrix())[:, : plan.count]
    return values, torch.full_like(values, 1 / plan.count)


def jacobian_plan(
    network: LogitMap, images: int, *, way: Way = "auto", count: int | None = None, memory_bytes: int = 2 << 30
) -> JacobianPlan:
    """Choose the way and the chunk; nothing is computed. Arguments and errors are those of `jacobian_values`."""
    rank = min(network.outputs, network.inputs)
    if way not in WAYS:
        raise ConfigError(f"way must be one of {', '.join(WAYS)}; got '{way}'")
    if count is not None and not 1 <= count <= rank:
        raise ConfigError(f"the count of singular values must be from 1 to {rank}, the smaller side of J; got {count}")
    if way == "auto":
        fits = network.model_bytes + _image_bytes(network, "exact", rank) <= memory_bytes
        way = "exact" if network.outputs <= _EXACT_OUTPUTS and fits else "lanczos"
    number = count or (rank if way == "exact" or rank <= _EXACT_OUTPUTS else _VALUES)
    one = _image_bytes(network, way, number)
    chunk = min((memory_bytes - network.model_bytes) // one, images)
    if chunk < 1:
        raise ConfigError(_too_much(network, way, network.model_bytes + one, memory_bytes))
    return JacobianPlan(way, number, chunk, network.model_bytes + chunk * one)


def _image_bytes(network: LogitMap, way: str, count: int) -> int:
    """Estimated for one image: vectors of float64, and what a pass holds, forward and backward together."""
    rows, columns = network.outputs, network.inputs
    if way == "exact":
        numbers, passes = 2 * rows * columns + min(rows, columns) ** 2, 2  # J, and the SVD's copy of it
    elif way == "lanczos":
        numbers, passes = count * (rows + columns) + 3 * count**2, 4  # two bases; a J v beside the graph of J^T u
    else:
        width = min(count + OVERSAMPLE, rows, columns)
        numbers, passes = 3 * width * (rows + columns), 4
    return 8 * (numbers + 4 * (rows + columns)) + passes * network.saved_bytes + 2 * network.unfolded_bytes


def _too_much(network: LogitMap, way: str, needed: int, allowed: int) -> str:
    size = f"J of one image, {network.outputs} x {network.inputs}, needs {amount(needed)} ({way})"
    cheaper = way != "lanczos" and _image_bytes(network, "lanczos", 1) + network.model_bytes <= allowed
    hint = ", or take --way lanczos, which never holds J" if cheaper else ""
    return f"{size}; --memory allows {amount(allowed)}. Raise it{hint}; fewer --images do not help"


def isometry_of(found: JacobianValues) -> Isometry:
    """Sum the values up."""
    values, weights = found.values, found.weights / len(found.values)
    means = (found.weights * found.values).sum(1)
    mean = float((weights * values).sum())
    largest, smallest = values.amax(1), values.amin(1)
    # What rounding leaves of a singular value that is 0.
    smallest = smallest.where(smallest > largest * found.rank * torch.finfo(torch.float64).eps, 0.0)
    return Isometry(
        mean=mean,
        std=math.sqrt(float((weights * (values - mean).square()).sum())),
        min=float(smallest.min()),
        max=float(largest.max()),
        condition=float((largest / smallest).nan_to_num(nan=math.inf, posinf=math.inf).mean()),
        spread=float((weights * (values - 1).square()).sum()),
        images=len(values),
        values=values.shape[1],
        rank=found.rank,
        way=found.way,
        image_means=tuple(means.tolist()),
    )
