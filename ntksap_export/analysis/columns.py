"""Which columns of a Jacobian by weights are held at once, and how they are taken out of gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Piece:
    """Columns of J that belong to one parameter: `index` says which elements, flat, int64; None: all of them."""

    name: str
    index: torch.Tensor | None


def flat(gradients: Tensors) -> Tensors:
    return {name: gradient.flatten() for name, gradient in gradients.items()}


def picked(gradients: Tensors, part: tuple[Piece, ...]) -> torch.Tensor:
    """Columns of the part, of gradients (..., elements of a parameter)."""
    pairs = [(gradients[piece.name], piece.index) for piece in part]
    return torch.cat([values if index is None else values[..., index] for values, index in pairs], dim=-1)


def width(piece: Piece, weights: Tensors) -> int:
    return weights[piece.name].numel() if piece.index is None else len(piece.index)
