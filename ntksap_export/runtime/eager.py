"""torch eager as a `Session`."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ntksap_export.runtime.session import Images, Logits


class TorchSession:
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

    @torch.inference_mode()
    def run(self, images: Images) -> Logits:
        """One call; the result is copied to the host, so that it has really been computed."""
        tensor = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
        return np.asarray(self._model(tensor).float().cpu().numpy())

    def bind(self, images: Images) -> Callable[[], None]:
        """A forward pass over images that are already on the device."""
        tensor = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)

        @torch.inference_mode()
        def call() -> None:
            self._model(tensor)

        return call

    def close(self) -> None:
        """Free the model."""
        del self._model

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
