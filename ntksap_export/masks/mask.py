"""Which weights live. A `Mask` is data: no hook, no buffer, nothing on the model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from ntksap_export.errors import CheckpointError


def prunable_names(model: nn.Module) -> tuple[str, ...]:
    """Parameter names of all Conv2d and Linear weights, in the model's order. Biases and norms are never pruned."""
    parameters = dict(model.named_parameters())  # a weight shared by two layers has one name here
    names = []
    for prefix, module in model.named_modules():
        name = f"{prefix}.weight" if prefix else "weight"
        if isinstance(module, nn.Conv2d | nn.Linear) and name in parameters:
            names.append(name)
    return tuple(names)


class Mask(Mapping[str, torch.Tensor]):
    """An immutable mapping from parameter name to a bool tensor of the parameter's shape; True is kept."""

    __slots__ = ("_tensors",)

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if tensor.dtype != torch.bool:
                raise TypeError(f"mask of '{name}' must be bool; got {tensor.dtype}")
        self._tensors = dict(tensors)

    @classmethod
    def dense(cls, model: nn.Module) -> Mask:
        """The mask that keeps every prunable weight, on the weights' device."""
        parameters = dict(model.named_parameters())
        return cls({name: torch.ones_like(parameters[name], dtype=torch.bool) for name in prunable_names(model)})

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Mask({len(self)} tensors, kept {self.kept:,} of {self.total:,}, density {self.density:.4f})"

    @property
    def kept(self) -> int:
        """Number of weights that live."""
        return sum(int(tensor.sum()) for tensor in self._tensors.values())

    @property
    def total(self) -> int:
        """Number of prunable weights."""
        return sum(tensor.numel() for tensor in self._tensors.values())

    @property
    def density(self) -> float:
        """Kept / total, in [0, 1]."""
        return self.kept / self.total

    @property
    def sparsity(self) -> float:
        """1 - density."""
        return 1.0 - self.density

    def to(self, device: torch.device | str) -> Mask:
        """The same mask with its tensors on `device`."""
        return Mask({name: tensor.to(device) for name, tensor in self._tensors.items()})

    def same_as(self, other: Mask) -> bool:
        """Whether both keep exactly the same weights of the same names."""
        return set(self) == set(other) and all(torch.equal(self[name].cpu(), other[name].cpu()) for name in self)

    def digest(self) -> str:
        """SHA-256 over names, shapes and bits, in hexadecimal; equal masks have equal digests on any machine."""
        state = hashlib.sha256()
        for name in sorted(self._tensors):
            tensor = self._tensors[name]
            state.update(f"{name}{tuple(tensor.shape)}".encode())
            state.update(tensor.cpu().contiguous().numpy().tobytes())
        return state.hexdigest()

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set every pruned weight of `model` to exactly zero, in place.

        Raises:
            CheckpointError: a name or a shape of the mask is not the model's.
        """
        self.check_fits(model)
        parameters = dict(model.named_parameters())
        for name, kept in self._tensors.items():
            parameters[name].masked_fill_(~kept.to(parameters[name].device), 0.0)

    def check_fits(self, model: nn.Module) -> None:
        """Check that each tensor of the mask has a parameter of its name and shape.

        Raises:
            CheckpointError: names the first difference.
        """
        parameters = dict(model.named_parameters())
        for name, kept in self._tensors.items():
            if name not in parameters:
                raise CheckpointError(f"the mask has '{name}', which the model has not; was it made for another model?")
            if parameters[name].shape != kept.shape:
                raise CheckpointError(
                    f"the mask's '{name}' has shape {tuple(kept.shape)}, the model's {tuple(parameters[name].shape)}; "
                    "was it made for another width or class count?"
                )
