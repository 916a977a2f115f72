"""OrthP: make what pruning left of each layer orthogonal again (Wang, Qin, Bai & Fu, arXiv 2105.05916, 2021).

    W: (out, rest), transposed if out < rest;   W = Q R;   Q <- Q * sign(diag R);   W <- gain * Q, transposed back

All rows (columns, where there are more rows) become orthonormal times the gain; the signs make Q depend on W without
jumps. Biases and norms stay. Defined where whole filters and channels were removed: with single weights missing Q would
fill them. For those see `isometry`.

Where it differs from the reference code (TPP, smilelogging): the gain is each layer's own (see `gains`) instead of one
for the network, and a grouped convolution is one matrix per group; read as one, its filters would be made orthogonal to
filters that read other channels, and those of a depthwise convolution would shrink.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ntksap_export.recovery.layers import layers_of


@torch.no_grad()
def orthp_(model: nn.Module, gains: Mapping[str, float]) -> None:
    """Make every Conv2d and Linear weight of `model` orthogonal, in place, from what it is.

    Args:
        model: biases, norms and buffers stay.
        gains: weight's name -> gain; see `layer_gains`.
    """
    for layer in layers_of(model):
        made = orthogonal(layer.matrices(layer.weight.double())) * gains[layer.name]
        layer.weight.copy_(made.reshape(layer.weight.shape))


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The orthogonal factor of `matrices` (..., rows, columns): orthonormal along the smaller of both sides.

    Of normally distributed entries it is uniformly distributed (Mezzadri 2007, math-ph/0609050).
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        return orthogonal(matrices.mT).mT
    q, r = torch.linalg.qr(matrices)
    # A column of zeros has 0 on the diagonal; its q is a unit vector all the same.
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q)
    signed: torch.Tensor = q * signs.unsqueeze(-2)
    return signed
