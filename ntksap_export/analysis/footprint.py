"""What a network holds in memory while it is differentiated: watched during one forward pass."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


class Footprint:
    """A context manager; what runs in it with autograd is watched.

    Args:
        model: left as it was afterwards.

    Attributes:
        saved_bytes: what autograd keeps between forward and backward, beside the model's own parameters and buffers.
        unfolded_bytes: the largest convolution's input unfolded to patches, which a convolution may hold beside.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
        self._saved: dict[int, int] = {}
        self._hooks: list[RemovableHandle] = []
        self._watch: Any = None
        self.unfolded_bytes = 0

    @property
    def saved_bytes(self) -> int:
        return sum(self._saved.values())

    def __enter__(self) -> Footprint:
        layers = (module for module in self._model.modules() if isinstance(module, nn.Conv2d))
        self._hooks = [layer.register_forward_hook(self._measure) for layer in layers]
        self._watch = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)
        for hook in self._hooks:
            hook.remove()

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own:
            self._saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def _measure(self, layer: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        if output.numel():
            patch = layer.weight[0].numel() * layer.groups
            size = patch * (output.numel() // output.shape[-3]) * output.element_size()
            self.unfolded_bytes = max(self.unfolded_bytes, size)
