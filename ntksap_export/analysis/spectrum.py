"""What the eigenvalues of a kernel say: how fast training learns each direction, and how many it learns at all.

With eigenvalues l_1 >= ... >= l_n of a positive semidefinite kernel and p_i = l_i / sum_j l_j,

    condition        l_1 / l_n
    effective rank   exp(-sum_i p_i log p_i), between 1 and n    (Roy & Vetterli, EUSIPCO 2007)
    top share        p_1
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ntksap_export.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The eigenvalues of a kernel, and what follows from them.

    Attributes:
        eigenvalues: descending; those that rounding cannot tell from zero are 0.
        trace: their sum.
        condition: largest / smallest; inf where the smallest is 0.
        effective_rank: exp of the entropy of the normalized eigenvalues; 0 for a kernel of zeros.
        top_share: the largest / trace; 0 for a kernel of zeros.
    """

    eigenvalues: tuple[float, ...]
    trace: float
    condition: float
    effective_rank: float
    top_share: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite condition is None."""
        return {
            "eigenvalues": list(self.eigenvalues),
            "trace": self.trace,
            "condition": None if math.isinf(self.condition) else self.condition,
            "effective_rank": self.effective_rank,
            "top_share": self.top_share,
        }


def spectrum_of(kernel: torch.Tensor) -> Spectrum:
    """The spectrum of a symmetric kernel, in float64.

    Args:
        kernel: (n, n); or blocks (classes, n, n), which count as one matrix with these blocks on its diagonal.

    Raises:
        ConfigError: it is not square, empty, or has NaN or infinite values.
    """
    if kernel.dim() not in (2, 3) or kernel.shape[-1] != kernel.shape[-2] or not kernel.numel():
        raise ConfigError(f"a kernel must be (n, n) or (classes, n, n); got {tuple(kernel.shape)}")
    blocks = kernel.detach().to("cpu", torch.float64).reshape(-1, *kernel.shape[-2:])
    if not bool(blocks.isfinite().all()):
        raise ConfigError("a kernel has NaN or infinite values; are the images and the network's weights finite?")
    values = torch.cat([torch.linalg.eigvalsh((block + block.T) / 2) for block in blocks])
    values = values.sort(descending=True).values
    # What eigvalsh gets wrong is at most about this much, whatever the eigenvalue.
    values[values <= len(values) * torch.finfo(torch.float64).eps * float(values[0])] = 0.0
    return _described(values)


def _described(values: torch.Tensor) -> Spectrum:
    trace, smallest = float(values.sum()), float(values[-1])
    shares = values[values > 0] / trace
    return Spectrum(
        eigenvalues=tuple(values.tolist()),
        trace=trace,
        condition=float(values[0]) / smallest if smallest > 0 else math.inf,
        effective_rank=math.exp(-float((shares * shares.log()).sum())) if len(shares) else 0.0,
        top_share=float(shares[0]) if len(shares) else 0.0,
    )
