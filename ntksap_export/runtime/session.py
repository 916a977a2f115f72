"""The contract of everything that runs a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Logits = NDArray[np.float32]


class Session(Protocol):
    """Images (N, C, H, W) float32 -> logits (N, classes) float32. It does not time itself."""

    @property
    def options(self) -> dict[str, Any]:
        """Backend, device, threads and settings, as recorded beside every measurement."""

    def run(self, images: Images) -> Logits:
        """One call; returns when the result is there."""

    def bind(self, images: Images) -> Callable[[], None]:
        """A call of its own to be timed: the input is already where the network is, the output stays there.

        On a GPU it returns before the work is done; whoever times it synchronizes.
        """

    def close(self) -> None:
        """Free what it holds."""
