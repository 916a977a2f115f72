"""torch eager as a `Session`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ntksap_export.errors import FallbackError
from ntksap_export.runtime.session import Closing, Images, Logits, Outputs

_NUMBERS: Final = {"fp32": None, "bf16": torch.bfloat16}  # None: those that the model holds


class TorchSession(Closing):
    """A model in eval mode, called without autograd.

    Args:
        model: moved to `device` in channels_last format and put in eval mode, in place.
        device: `cpu` or `cuda`.
        precision: `fp32`, or `bf16`: weights, statistics of norms and activations are bfloat16, and so are the images.
    """

    def __init__(self, model: nn.Module, device: str = "cpu", precision: str = "fp32") -> None:
        self._device, self._number = torch.device(device), _NUMBERS[precision]
        self._model = model.to(self._device, self._number, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.options: dict[str, Any] = {
            "backend": "torch",
            "device": device,
            "threads": torch.get_num_threads(),
            "precision": precision,
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
        return torch.from_numpy(images).to(self._device, self._number, memory_format=torch.channels_last)

    def close(self) -> None:
        """Free the model."""
        del self._model


def open_session(model: nn.Module, device: str, threads: int, precision: str, streams: int) -> TorchSession:
    """For the table of backends; each Python thread that calls it has `threads` of its own."""
    set_threads(threads)
    session = TorchSession(model, device, precision)
    session.options["streams"] = streams
    return session


def set_threads(threads: int) -> None:
    """Threads of one operator; 0 leaves them.

    Raises:
        FallbackError: torch took another number.
    """
    if threads:
        torch.set_num_threads(threads)
        if torch.get_num_threads() != threads:
            raise FallbackError(f"{threads} threads", f"torch took {torch.get_num_threads()}")
