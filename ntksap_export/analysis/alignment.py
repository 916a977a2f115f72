"""How near a masked network's kernel is to the dense one's: in its directions, and in its eigenvalues.

Centered kernel alignment (Cortes, Mohri & Rostamizadeh, JMLR 2012), with H = I - 1 1^T / n:

    A(K, L) = <H K H, H L H>_F / (||H K H||_F ||H L H||_F)      in [0, 1]; a kernel's scale does not matter
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ntksap_export.analysis.spectrum import Spectrum
from ntksap_export.errors import ConfigError

_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, slots=True)
class SpectrumDistance:
    """How far one spectrum is from another of the same length.

    Attributes:
        log10: root of the mean over ranks i of (log10 a_i - log10 b_i)^2: 1 says an order of magnitude apart. An
            eigenvalue below the rounding of the larger spectrum (n * 2^-52 * the largest of both) counts as that.
        relative: ||a - b|| / ||b||, of the eigenvalues themselves: what the largest of them say; inf where only b is 0.
    """

    log10: float
    relative: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite distance is None."""
        return {"log10": self.log10, "relative": None if math.isinf(self.relative) else self.relative}


def alignment(a: torch.Tensor, b: torch.Tensor) -> float:
    """Centered kernel alignment, in [0, 1]; 0 where a kernel is constant, so that nothing is left to compare.

    Args:
        a: (n, n), or blocks (classes, n, n): then the mean over the blocks' alignments.
        b: of the same shape, on the same images in the same order.

    Raises:
        ConfigError: the shapes differ, or are not those of kernels.
    """
    if a.shape != b.shape or a.dim() not in (2, 3) or a.shape[-1] != a.shape[-2] or not a.numel():
        raise ConfigError(
            "kernels to compare must be of one shape, (n, n) or (classes, n, n); "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    pairs = zip(_blocks(a), _blocks(b), strict=True)
    values = [_alignment(one, other) for one, other in pairs]
    return math.fsum(values) / len(values)


def spectrum_distance(a: Spectrum, b: Spectrum) -> SpectrumDistance:
    """How far `a` is from `b`, the reference: both by orders of magnitude and plainly.

    Raises:
        ConfigError: they have different numbers of eigenvalues.
    """
    if len(a.eigenvalues) != len(b.eigenvalues):
        raise ConfigError(
            f"spectra to compare must be of one length; got {len(a.eigenvalues)} and {len(b.eigenvalues)} eigenvalues"
        )
    ours, theirs = (torch.tensor(spectrum.eigenvalues, dtype=torch.float64) for spectrum in (a, b))
    top = max(float(ours.max()), float(theirs.max()))
    if top == 0:
        return SpectrumDistance(log10=0.0, relative=0.0)
    floor = len(ours) * _EPS * top
    apart = ours.clamp(min=floor).log10() - theirs.clamp(min=floor).log10()
    length = float(theirs.norm())
    return SpectrumDistance(
        log10=float(apart.square().mean().sqrt()),
        relative=float((ours - theirs).norm()) / length if length else math.inf,
    )


def _blocks(kernel: torch.Tensor) -> torch.Tensor:
    return kernel.detach().to("cpu", torch.float64).reshape(-1, *kernel.shape[-2:])


def _alignment(a: torch.Tensor, b: torch.Tensor) -> float:
    ours, theirs = _centered(a), _centered(b)
    lengths = float(ours.norm()) * float(theirs.norm())
    return min(1.0, max(0.0, float((ours * theirs).sum()) / lengths)) if lengths else 0.0


def _centered(kernel: torch.Tensor) -> torch.Tensor:
    """H K H; exactly zero where only rounding is left."""
    centered = kernel - kernel.mean(0, keepdim=True)
    centered = centered - centered.mean(1, keepdim=True)
    noise = len(kernel) * _EPS * float(kernel.norm())
    return centered if float(centered.norm()) > noise else torch.zeros_like(centered)
