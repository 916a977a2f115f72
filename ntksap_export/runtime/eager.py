"""torch eager as a `Session`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ntksap_export.runtime.session import Closing, Images, Logits, Outputs


class TorchSession(Closing):
    """A model in eval mode, float32, called without autograd.

    Args:
        model: moved to `device` in channels_last format and put in eval mode, in place.
        device: `cpu` or `cuda`.
    """

    def __init__(self, model: nn.Module, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._model = model.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.options: dict[str, Any] = {
            "backend": "torch",
            "device": device,
            "threads": torch.get_num_threads(),
            "memory_format": "channels_last",
        }

    @property
    def output_names(self) -> tuple[str, ...]:
        """None: a model's outputs have their places only."""
        return ()

    @torch.inference_mode()
    def run(self, images: Images) -> Logits:
        """One call; the result is copied to the host, so that it has really been computed."""
        return np.asarray(self.run_all(images)[0], dtype=np.float32)

    @torch.inference_mode()
    def run_all(self, images: Images) -> Outputs:
        """Every tensor that the model answers with, in the order in which an export has them: tuples and dicts flat."""
        leaves = tree_leaves(self._model(self._moved(images)))
        tensors = (leaf.cpu() for leaf in leaves if isinstance(leaf, torch.Tensor))
        return tuple((item.float() if item.is_floating_point() else item).numpy() for item in tensors)

    def bind(self, images: Images) -> Callable[[], None]:
        """A forward pass over images that are already on the device."""
        tensor = self._moved(images)

        @torch.inference_mode()
        def call() -> None:
            self._model(tensor)

        return call

    def _moved(self, images: Images) -> torch.Tensor:
        return torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)

    def close(self) -> None:
        """Free the model."""
        del self._model


def open_session(model: nn.Module, device: str, threads: int) -> TorchSession:
    """For the table of backends."""
    if threads:
        torch.set_num_threads(threads)
    return TorchSession(model, device)
