"""torch.compile (inductor) as a `Session`."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from ntksap_export.errors import ExportError
from ntksap_export.quoting import first_line
from ntksap_export.runtime.eager import TorchSession, set_threads
from ntksap_export.runtime.session import Images, Outputs


class CompiledSession(TorchSession):
    """A model compiled whole, anew for each size of batch; the first call of each takes seconds to minutes.

    What cannot be compiled whole is an error: torch would run those parts eagerly without a word.

    Args:
        model: as `TorchSession`.
        device: as `TorchSession`.
        precision: as `TorchSession`.
    """

    def __init__(self, model: nn.Module, device: str = "cpu", precision: str = "fp32") -> None:
        super().__init__(model, device, precision)
        self._model = torch.compile(self._model, fullgraph=True, dynamic=False)
        self.options |= {"backend": "torch-compile", "fullgraph": True, "dynamic": False}

    def run_all(self, images: Images) -> Outputs:
        """As `TorchSession`.

        Raises:
            ExportError: the model cannot be compiled.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of its own internals while it compiles
                return super().run_all(images)
        except Exception as error:  # dynamo and inductor raise many kinds
            raise ExportError(f"torch.compile cannot compile the model: {_reason(error)}") from error

    def bind(self, images: Images) -> Callable[[], None]:
        """As `TorchSession`; compiled before it returns."""
        self.run_all(images)
        return super().bind(images)


def open_session(model: nn.Module, device: str, threads: int, precision: str, streams: int) -> CompiledSession:
    """For the table of backends."""
    set_threads(threads)
    session = CompiledSession(model, device, precision)
    session.options["streams"] = streams
    return session


def _reason(error: Exception) -> str:
    """What inductor raised, where dynamo only says that it did."""
    inner = getattr(error, "inner_exception", None)
    return first_line(inner if isinstance(inner, Exception) else error)
