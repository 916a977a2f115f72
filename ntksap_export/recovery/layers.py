"""The matrices of a network: what "orthogonal" is said of.

A weight (out, in / groups, kh, kw) or (out, in) is read as one matrix per group, (groups, out / groups, rest): the
groups of a convolution read different channels, and their rows meet nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export.masks import prunable_names


@dataclass(frozen=True, slots=True)
class Layer:
    """One prunable layer: the name of its weight, the weight itself, and the groups of a convolution (else 1)."""

    name: str
    weight: nn.Parameter
    groups: int

    def matrices(self, values: torch.Tensor) -> torch.Tensor:
        """`values`, of the weight's shape, as (groups, out / groups, rest)."""
        return values.reshape(self.groups, values.shape[0] // self.groups, -1)


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """Every Conv2d and Linear of `model`, in its order; a weight that two of them share is there once."""
    parameters = dict(model.named_parameters())
    groups = {id(module.weight): module.groups for module in model.modules() if isinstance(module, nn.Conv2d)}
    return tuple(Layer(name, parameters[name], groups.get(id(parameters[name]), 1)) for name in prunable_names(model))


def gram(matrices: torch.Tensor) -> torch.Tensor:
    """W W^T of matrices (..., rows, columns), or W^T W where there are more rows than columns: the smaller of both."""
    wide = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT
    return wide @ wide.mT


def deviation(matrices: torch.Tensor) -> float:
    """How far `matrices` are from isometries: || gram - I ||_F / || I ||_F, 0 for an isometry, 1 for no weights."""
    product = gram(matrices.double())
    identity = torch.eye(product.shape[-1], dtype=product.dtype, device=product.device)
    return float((product - identity).norm() / identity.expand_as(product).norm())


def lost_values(kept: torch.Tensor) -> int:
    """Singular values of bool matrices that are 0 whatever the kept entries are, since rows or columns keep none.

    At least so many: those that keep some may still be too few for each other.
    """
    rows, columns = kept.any(-1).sum(-1), kept.any(-2).sum(-1)
    return int((min(kept.shape[-2:]) - torch.minimum(rows, columns)).sum())
