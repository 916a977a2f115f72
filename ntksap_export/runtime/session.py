"""The contract of everything that runs a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ntksap_export.errors import ConfigError

Images = NDArray[Any]  # float32 (N, C, H, W), or whatever the graph takes
Logits = NDArray[np.float32]
Outputs = tuple[NDArray[Any], ...]


class Session(Protocol):
    """Images (N, C, H, W) float32 -> logits (N, classes) float32. It does not time itself."""

    @property
    def options(self) -> dict[str, Any]:
        """Backend, device, threads and settings, as recorded beside every measurement."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs in order, the logits first; empty where they have none (a torch model)."""

    def run(self, images: Images) -> Logits:
        """One call; returns when the result is there."""

    def run_all(self, images: Images) -> Outputs:
        """One call; every output in order, the logits first."""

    def bind(self, images: Images) -> Callable[[], None]:
        """A call of its own to be timed: the input is already where the network is, the output stays there.

        Several bound calls may run at once, each in a thread of its own. On a GPU it returns before the work is done;
        whoever times it synchronizes.
        """

    def close(self) -> None:
        """Free what it holds."""


class GraphSession(Session, Protocol):
    """One over an ONNX graph, which knows its input."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the single input; see `image_shape`."""


def image_shape(inputs: Sequence[Sequence[object]]) -> tuple[int, int, int]:
    """(C, H, W) out of the shapes of a graph's inputs, in which a side that is no number is open.

    Raises:
        ConfigError: several inputs, or an axis other than the batch that is not fixed.
    """
    if len(inputs) != 1:
        raise ConfigError(f"the graph has {len(inputs)} inputs; only graphs with one image input are supported")
    match list(inputs[0]):
        case [_, int(channels), int(height), int(width)]:
            return channels, height, width
    raise ConfigError(f"the graph's input is {list(inputs[0])}; give the side of the image with --image-size")


class Closing:
    """What `with` needs of a session."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
