"""The numbers of one network: its kernel, its Jacobian, its layers, as plain JSON values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ntksap_export.analysis.alignment import alignment, spectrum_distance
from ntksap_export.analysis.isometry import isometry_of, jacobian_plan, jacobian_values
from ntksap_export.analysis.jacobian import logit_map
from ntksap_export.analysis.layers import layer_isometry
from ntksap_export.analysis.ntk import ntk, ntk_memory
from ntksap_export.analysis.settled import settled
from ntksap_export.analysis.spectrum import Spectrum, spectrum_of
from ntksap_export.analysis.trace import hutchinson_trace
from ntksap_export.masks import Mask
from ntksap_export.pipeline.analysing.asked import Asked
from ntksap_export.progress import Progress

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A tangent kernel and its eigenvalues."""

    matrix: torch.Tensor
    spectrum: Spectrum


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Numbers of one network at one draw; `settled` says whether its BatchNorm statistics are those of the images."""

    numbers: Json
    kernel: Kernel | None
    settled: bool


def look_at(
    model: nn.Module,
    mask: Mask | None,
    images: torch.Tensor,
    asked: Asked,
    seed: int,
    dense: Kernel | None,
    progress: Progress,
) -> Measured:
    """Measure what is asked for of one network.

    Args:
        model: on any device, its pruned weights not yet zero; changed: masked, and in eval mode.
        mask: of its weights; None is dense.
        images: (N, C, H, W), on the model's device.
        asked: which parts.
        seed: of random vectors.
        dense: the dense network's kernel, to compare with; None: this one is the dense network.
        progress: where bars are shown.

    Raises:
        ConfigError: it cannot be differentiated, or the memory does not suffice.
    """
    if mask is not None:
        mask.apply_(model)
    fresh = never_ran(model)
    model = settled(model, images) if fresh else model.eval()
    numbers: Json = {}
    kernel = None
    if asked.wants("ntk"):
        matrix = ntk(model, images, form=asked.form, mask=mask, memory_bytes=asked.memory_bytes, progress=progress)
        kernel = Kernel(matrix, spectrum_of(matrix))
        numbers["ntk"] = _kernel_numbers(kernel, dense or kernel)
    if asked.wants("trace"):
        estimate = hutchinson_trace(
            model, images, asked.probes, seed, mask, memory_bytes=asked.memory_bytes, progress=progress
        )
        numbers["trace"] = {**estimate.to_json(), "probes": asked.probes}
    if asked.wants("isometry"):
        values = jacobian_values(
            model, images, way=asked.way, seed=seed, memory_bytes=asked.memory_bytes, progress=progress
        )
        layers = layer_isometry(model, images, seed=seed, memory_bytes=asked.memory_bytes, progress=progress)
        numbers["isometry"] = {**isometry_of(values).to_json(), "layers": [layer.to_json() for layer in layers]}
    return Measured(numbers, kernel, fresh)


def check_memory(model: nn.Module, shape: tuple[int, int, int], asked: Asked) -> dict[str, int]:
    """Estimate what each part will take of memory, by the dense network, which takes the most; nothing is computed.

    Returns:
        Part -> bytes, of those whose estimate is known.

    Raises:
        ConfigError: a part does not fit into the memory; names the flag that helps. Or the network cannot be
            differentiated.
    """
    found = {}
    if asked.wants("ntk"):
        found["ntk"] = ntk_memory(model, shape, asked.images, asked.form, memory_bytes=asked.memory_bytes).bytes
    if asked.wants("isometry"):
        trial = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        plan = jacobian_plan(logit_map(model, trial), asked.images, way=asked.way, memory_bytes=asked.memory_bytes)
        found["isometry"] = plan.bytes
    return found


def never_ran(model: nn.Module) -> bool:
    """Whether the model has running statistics, and all of them are still those that a BatchNorm is made with."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    return bool(norms) and all(_untouched(norm) for norm in norms)


def _untouched(norm: _BatchNorm) -> bool:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return not bool(norm.running_mean.any()) and bool((norm.running_var == 1).all())


def _kernel_numbers(own: Kernel, dense: Kernel) -> Json:
    distance = spectrum_distance(own.spectrum, dense.spectrum)
    return {
        **own.spectrum.to_json(),
        "top": own.spectrum.eigenvalues[0],
        "alignment": alignment(own.matrix, dense.matrix),
        "distance_log10": distance.log10,
        "distance_relative": distance.to_json()["relative"],
    }
