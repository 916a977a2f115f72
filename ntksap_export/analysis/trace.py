"""The trace of a tangent kernel that is too big to be formed (Hutchinson, 1989).

    trace K = E ||J^T v||^2,   v in {-1, +1}^(N * classes), each sign with probability 1/2

One backward pass of all images for each v. The estimate has no bias; its variance for one v is
2 (||K||_F^2 - sum_i K_ii^2), so that a kernel with few large eigenvalues needs more of them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn

from ntksap_export.analysis.differentiable import Differentiable, Parameters
from ntksap_export.analysis.memory import DEFAULT_BYTES, amount
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.progress import Progress, Silent


class TraceEstimate(NamedTuple):
    """`mean` of the probes, and its `standard_error` (from their spread, ddof 1)."""

    mean: float
    standard_error: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self._asdict()


def hutchinson_trace(
    model: nn.Module,
    images: torch.Tensor,
    probes: int,
    seed: int,
    mask: Mask | None = None,
    *,
    parameters: Parameters = "prunable",
    dtype: torch.dtype = torch.float64,
    memory_bytes: int = DEFAULT_BYTES,
    progress: Progress | None = None,
) -> TraceEstimate:
    """The trace of the full kernel, which is the sum of the traces of its classes' blocks.

    Args:
        model: left untouched; differentiated in eval mode, as by `ntk`.
        images: (N, C, H, W).
        probes: vectors v, at least 2.
        seed: of the vectors; the same on every device.
        mask: pruned weights are zero and do not count.
        parameters: which count.
        dtype: of the gradients.
        memory_bytes: limit of the peak on the model's device: how many images pass at once follows from it.
        progress: shows how far it is.

    Raises:
        CheckpointError: the mask does not fit the model.
        ConfigError: too few probes, too little memory, or a network that cannot be differentiated.
    """
    if probes < 2:
        raise ConfigError(f"a trace's error needs at least 2 probes; got {probes}")
    work = Differentiable(model, parameters, mask, dtype)
    found = work.footprint(images.shape[1:])
    fixed = work.stored_bytes * 4  # the copy, two sets of gradients, their squares
    one = dtype.itemsize * (2 * found.saved + found.unfolded + images[0].numel())
    if fixed + one > memory_bytes:
        raise ConfigError(
            f"one image needs {amount(fixed + one)}; --memory allows {amount(memory_bytes)}. Raise --memory"
        )
    chunks = images.split(min(len(images), (memory_bytes - fixed) // one))  # type: ignore[no-untyped-call]
    generator = torch.Generator().manual_seed(seed)
    squares = []
    with (progress or Silent()).task("NTK trace", probes * len(images)) as task:
        for _ in range(probes):
            sums: dict[str, torch.Tensor] = {}
            for some in chunks:
                signs = torch.randint(2, (len(some), found.outputs), generator=generator) * 2 - 1
                pulled = work.pull(some.to(work.device, dtype), signs.to(work.device, dtype))
                sums = {name: sums[name].add_(g) if sums else g for name, g in pulled.items()}
                task.advance(len(some))
            squares.append(math.fsum(float(total.double().square().sum()) for total in sums.values()))
    values = torch.tensor(squares, dtype=torch.float64)
    return TraceEstimate(float(values.mean()), float(values.std()) / math.sqrt(probes))
