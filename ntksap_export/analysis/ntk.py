"""The empirical neural tangent kernel of a network, exact up to rounding (Jacot, Gabriel & Hongler, NeurIPS 2018).

With J[(i, c), p] = d f_c(x_i) / d w_p over the weights w that count (for a masked network: that are kept),

    full      K[(i, c), (j, d)] = sum_p J[(i, c), p] J[(j, d), p]                (N classes, N classes)
    classes   K_c[i, j] = K[(i, c), (j, c)]                                      (classes, N, N)
    sum       K[i, j] = sum_cd K[(i, c), (j, d)], the kernel of sum_c f_c        (N, N)

Rows of J are made by torch.func for a few images and some weights at a time, so that the peak stays within a limit that
is estimated first (memory.py); products are summed in float64. Contracting J costs N^2 P products, far less than the
N^2 forward passes of kernel-vector products by jvp and vjp.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import nn

from ntksap_export.analysis.columns import Piece
from ntksap_export.analysis.differentiable import Differentiable, Parameters
from ntksap_export.analysis.memory import DEFAULT_BYTES, Estimate, Form, amount, estimate, kernel_shape
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.progress import Progress, Silent, Task

_COLUMNS: Final = 8192  # of float32 rows, made float64 at once for the product


def ntk(
    model: nn.Module,
    images: torch.Tensor,
    *,
    form: Form = "sum",
    parameters: Parameters = "prunable",
    mask: Mask | None = None,
    dtype: torch.dtype = torch.float64,
    memory_bytes: int = DEFAULT_BYTES,
    progress: Progress | None = None,
) -> torch.Tensor:
    """The kernel of `images`, float64 on the CPU: how alike two images pull at the weights.

    Args:
        model: left untouched; a copy in eval mode is differentiated, so its BatchNorms' running statistics count:
            settle an untrained network first.
        images: (N, C, H, W), as the model takes them, on any device.
        form: `sum` (N, N), `classes` (classes, N, N) or `full` (N * classes, N * classes), image by image.
        parameters: `prunable`, weights of Conv2d and Linear, or `all`.
        mask: pruned weights are zero and do not count; weights of `parameters` that it does not name count all.
        dtype: of the gradients: float64; float32 takes half the memory.
        memory_bytes: limit of the peak on the model's device; smaller is slower, and gives the same but for rounding.
        progress: shows the memory and how far it is.

    Raises:
        CheckpointError: the mask does not fit the model.
        ConfigError: the memory does not suffice, or the network cannot be differentiated on such images.
    """
    if images.dim() < 2 or not len(images) or not images.is_floating_point():
        raise ConfigError(f"images must be floats (N, C, H, W); got {images.dtype} {tuple(images.shape)}")
    progress = progress or Silent()
    work = Differentiable(model, parameters, mask, dtype)
    found = work.footprint(images.shape[1:])
    way = estimate(work, found, len(images), images[0].numel(), form, memory_bytes)
    progress.say(
        f"NTK of {len(images)} images by {work.columns:,} weights (form {form}): {amount(way.bytes)} at most, "
        f"{way.passes} {'pass' if way.passes == 1 else 'passes'}"
    )
    weighing = torch.eye(found.outputs, dtype=dtype, device=work.device)
    if form == "sum":
        weighing = weighing.sum(0, keepdim=True)
    kernel = torch.zeros(kernel_shape(len(images), found.outputs, form), dtype=torch.float64)
    images = images.to(work.device, dtype)
    chunks = weighing.split(way.outputs)  # type: ignore[no-untyped-call]
    with progress.task("NTK", way.passes * len(chunks) * len(images)) as task:
        for number, outputs in enumerate(chunks):
            # (products, rows, rows): one product for each class, or one for all.
            target = kernel[number * way.outputs :][: len(outputs)] if form == "classes" else kernel[None]
            block = target.to(work.device)
            for part in work.parts(way.weights):
                _contract_(block, work, images, outputs, part, way, task)
            target.copy_(block)
    if not bool(kernel.isfinite().all()):
        raise ConfigError("the NTK has NaN or infinite values; are the images and the network's weights finite?")
    return kernel


def ntk_memory(
    model: nn.Module,
    shape: Sequence[int],
    images: int,
    form: Form = "sum",
    *,
    parameters: Parameters = "prunable",
    mask: Mask | None = None,
    dtype: torch.dtype = torch.float64,
    memory_bytes: int = DEFAULT_BYTES,
) -> Estimate:
    """What `ntk` would take, and how it would go about it; costs one forward pass of one image.

    Args:
        model: as of `ntk`, and all else that has the same name.
        shape: (C, H, W) of an image.
        images: their number.
        form: of the kernel.
        parameters: which count.
        mask: which weights are kept.
        dtype: of the gradients.
        memory_bytes: what may be used.

    Raises:
        CheckpointError: the mask does not fit the model.
        ConfigError: even the smallest steps do not fit: says what they need, and which flag helps.
    """
    work = Differentiable(model, parameters, mask, dtype)
    return estimate(work, work.footprint(shape), images, torch.Size(shape).numel(), form, memory_bytes)


def ntk_along(
    models: Iterable[nn.Module],
    images: torch.Tensor,
    *,
    form: Form = "sum",
    mask: Mask | None = None,
    memory_bytes: int = DEFAULT_BYTES,
    progress: Progress | None = None,
) -> tuple[torch.Tensor, ...]:
    """The kernel along training: `ntk` of each model, on the same images.

    Args:
        models: of one network at different epochs; may be a generator, so that one at a time is held.
        images: as of `ntk`, and all else that has the same name.
        form: of the kernels.
        mask: that of the training.
        memory_bytes: limit for each.
        progress: shows each.
    """
    return tuple(
        ntk(model, images, form=form, mask=mask, memory_bytes=memory_bytes, progress=progress) for model in models
    )


def _contract_(
    block: torch.Tensor,
    work: Differentiable,
    images: torch.Tensor,
    outputs: torch.Tensor,
    part: tuple[Piece, ...],
    way: Estimate,
    task: Task,
) -> None:
    """Add to `block` what one part of the weights gives: J J^T of their columns."""
    axis = 0 if len(block) < len(outputs) else 1  # of the images: full has each image with its outputs
    rows: torch.Tensor | None = None
    done = 0
    for some in images.split(way.images):  # type: ignore[no-untyped-call]
        made = work.rows(some, outputs, part)  # (sums, some, columns)
        if axis == 0:
            made = made.transpose(0, 1)
        if rows is None:
            shape = list(made.shape)
            shape[axis] = len(images)
            rows = made.new_empty(shape)
        rows.narrow(axis, done, len(some)).copy_(made)
        del made
        done += len(some)
        task.advance(len(some))
    assert rows is not None
    matrix = rows.reshape(len(block), -1, rows.shape[-1])
    for columns in matrix.split(matrix.shape[-1] if matrix.dtype == torch.float64 else _COLUMNS, dim=-1):  # type: ignore[no-untyped-call]
        exact = columns.double()
        block.baddbmm_(exact, exact.transpose(1, 2))
