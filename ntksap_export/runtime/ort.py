"""onnxruntime as a `Session`. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime

from ntksap_export.errors import ConfigError, ExportError, UnavailableError
from ntksap_export.runtime.session import Images, Logits

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def provider_reason(device: str) -> str | None:
    """Why onnxruntime cannot run on `device` here, or None if it can."""
    if _PROVIDERS[device] in onnxruntime.get_available_providers():
        return None
    return f"this onnxruntime has no {_PROVIDERS[device]}; install onnxruntime-gpu in its place"


class OrtSession:
    """A graph in onnxruntime.

    Args:
        graph: a path, or the bytes of a model.
        provider: `cpu` or `cuda`; a session that would fall back to another one is refused.
        threads: of one operator; 0 leaves it to onnxruntime.
        optimization: `all`, or `off` for a reference.

    Raises:
        ExportError: not a graph that onnxruntime can load.
        UnavailableError: the provider is not there.
    """

    def __init__(self, graph: Path | bytes, provider: str = "cpu", threads: int = 0, optimization: str = "all") -> None:
        if reason := provider_reason(provider):
            raise UnavailableError(reason)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.graph_optimization_level = _LEVELS[optimization]
        settings.log_severity_level = 3
        wanted = _PROVIDERS[provider]
        source = str(graph) if isinstance(graph, Path) else graph
        try:
            self._session = onnxruntime.InferenceSession(source, settings, providers=[wanted])
        except Exception as error:  # onnxruntime's own exception classes have no common public base
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"onnxruntime cannot load the graph: {reason}") from error
        if self._session.get_providers()[0] != wanted:
            raise UnavailableError(f"onnxruntime fell back from {wanted} to {self._session.get_providers()[0]}")
        self.options: dict[str, Any] = {
            "backend": "onnxruntime",
            "device": provider,
            "provider": wanted,
            "threads": threads,
            "graph_optimization": optimization,
            "arena": True,
        }

    @property
    def input_dtype(self) -> str:
        """`float32` or `uint8`: what the first input takes."""
        return "uint8" if self._session.get_inputs()[0].type == "tensor(uint8)" else "float32"

    @property
    def input_layout(self) -> str:
        """`NCHW`, or `NHWC` where the graph's metadata say so or only its last axis can be that of the channels."""
        try:
            told = json.loads(self._session.get_modelmeta().custom_metadata_map["ntksap.preprocessing"])["layout"]
        except (KeyError, TypeError, ValueError):
            shape = self._session.get_inputs()[0].shape
            return "NHWC" if len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
        return "NHWC" if told == "NHWC" else "NCHW"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the single input, whatever its layout.

        Raises:
            ConfigError: several inputs, or an axis other than the batch that is not fixed.
        """
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ConfigError(f"the graph has {len(inputs)} inputs; only graphs with one image input are supported")
        shape = inputs[0].shape
        if len(shape) != 4 or not all(isinstance(side, int) for side in shape[1:]):
            raise ConfigError(f"the graph's input is {shape}; give the side of the image with --image-size")
        return (shape[1], shape[2], shape[3]) if self.input_layout == "NCHW" else (shape[3], shape[1], shape[2])

    def run(self, images: Images) -> Logits:
        """One call of the graph's first output."""
        name = self._session.get_inputs()[0].name
        result = self._session.run(None, {name: np.ascontiguousarray(images)})[0]
        return np.asarray(result, dtype=np.float32)

    def bind(self, images: Images) -> Callable[[], None]:
        """A call with its input fixed; copies to and from a GPU are part of it."""
        feed = {self._session.get_inputs()[0].name: np.ascontiguousarray(images)}
        session = self._session

        def call() -> None:
            session.run(None, feed)

        return call

    def close(self) -> None:
        """Free the session."""
        del self._session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
