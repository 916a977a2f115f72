"""onnxruntime as a `Session`. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ntksap_export.errors import ExportError, FallbackError, UnavailableError
from ntksap_export.quoting import first_line
from ntksap_export.runtime.engine import give_engine
from ntksap_export.runtime.session import Closing, Images, Logits, Outputs, image_shape

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# TensorFloat-32 keeps 10 bits of a float32's 23, and onnxruntime takes it by itself.
_SETTINGS: dict[str, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [("CUDAExecutionProvider", {"use_tf32": "0"})],
    "tensorrt": ["TensorrtExecutionProvider", ("CUDAExecutionProvider", {"use_tf32": "0"})],
}
_ADVICE = {"tensorrt": "install onnxruntime-gpu in its place, and TensorRT"}
_NUMBERS = {"tensor(float16)": np.float16}
LEVELS = {
    "off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def provider_reason(device: str) -> str | None:
    """Why onnxruntime cannot run on `device` (`cpu`, `cuda`, `tensorrt`) here, or None if it can."""
    if _PROVIDERS[device] in onnxruntime.get_available_providers():
        return None
    advice = _ADVICE.get(device, "install onnxruntime-gpu in its place")
    return f"this onnxruntime has no {_PROVIDERS[device]}; {advice}"


class OrtSession(Closing):
    """A graph in onnxruntime; one with nodes of the sparse engine gets the engine's library.

    Args:
        graph: a path, or the bytes of a model.
        provider: `cpu`, `cuda` or `tensorrt`; a session that would fall back to another one is refused.
        threads: of one operator; 0 leaves it to onnxruntime.
        optimization: `all`, or `off` for a reference.
        streams: how many Python threads will call it at once; its pool then has threads for all of them.
        trace: a folder into which it writes the profile that `end_trace` reads; None: it is not watched.
        memory_pattern: whether all values of a call get their places in one block.

    Raises:
        ExportError: not a graph that onnxruntime can load.
        UnavailableError: the provider is not there, or the engine that the graph needs.
        FallbackError: it took another provider or number of threads.
    """

    def __init__(
        self,
        graph: Path | bytes,
        provider: str = "cpu",
        threads: int = 0,
        optimization: str = "all",
        streams: int = 1,
        *,
        trace: Path | None = None,
        memory_pattern: bool = True,
    ) -> None:
        if reason := provider_reason(provider):
            raise UnavailableError(reason)
        settings = onnxruntime.SessionOptions()
        # The caller computes too: n callers and n * (threads - 1) of the pool they share are n * threads.
        pool = threads and 1 + streams * (threads - 1)
        settings.intra_op_num_threads = pool
        settings.inter_op_num_threads = 1
        settings.graph_optimization_level = LEVELS[optimization]
        settings.log_severity_level = 3
        settings.enable_mem_pattern = memory_pattern
        if trace is not None:
            settings.enable_profiling = True
            settings.profile_file_prefix = str(trace / "profile")
        give_engine(settings, graph, provider)
        wanted = _PROVIDERS[provider]
        source = str(graph) if isinstance(graph, Path) else graph
        try:
            self._session = onnxruntime.InferenceSession(source, settings, providers=_SETTINGS[provider])
        except Exception as error:  # onnxruntime's own exception classes have no common public base
            raise ExportError(f"onnxruntime cannot load the graph: {_why(error)}") from error
        if (got := self._session.get_providers()[0]) != wanted:
            raise FallbackError(wanted, f"onnxruntime fell back to {got}")
        if (got := self._session.get_session_options().intra_op_num_threads) != pool:
            raise FallbackError(f"{pool} threads", f"onnxruntime took {got}")
        self._device = "cpu" if provider == "cpu" else "cuda"
        self.options: dict[str, Any] = {
            "backend": "tensorrt" if provider == "tensorrt" else "onnxruntime",
            "device": self._device,
            "provider": wanted,
            "threads": threads,
            "streams": streams,
            "graph_optimization": optimization,
            "arena": settings.enable_cpu_mem_arena,
            "memory_pattern": settings.enable_mem_pattern,
            "spinning": True,  # onnxruntime's default: its threads wait busily for the next operator
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
        """(C, H, W) of the single input, whatever its layout; see `image_shape`."""
        sides = [item.shape for item in self._session.get_inputs()]
        if self.input_layout == "NHWC" and len(sides) == 1:
            sides = [[sides[0][0], sides[0][3], sides[0][1], sides[0][2]]]
        return image_shape(sides)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return tuple(item.name for item in self._session.get_outputs())

    def run(self, images: Images) -> Logits:
        """One call of the graph's first output."""
        return np.asarray(self._call(images, self.output_names[:1])[0], dtype=np.float32)

    def run_all(self, images: Images) -> Outputs:
        """One call of every output."""
        return tuple(np.asarray(value) for value in self._call(images, self.output_names))

    def _call(self, images: Images, names: Sequence[str]) -> list[Any]:
        try:
            return list(self._session.run(list(names), self._feed(images)))
        except Exception as error:  # as above
            raise ExportError(f"onnxruntime cannot run the graph on {images.shape}: {first_line(error)}") from error

    def bind(self, images: Images) -> Callable[[], None]:
        """A call with its input fixed, on a GPU in its memory, where the answers stay too."""
        feed, session = self._feed(images), self._session
        if self._device == "cuda":
            binding = session.io_binding()
            for name, values in feed.items():
                binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
            for name in self.output_names:
                binding.bind_output(name, "cuda")
            return lambda: session.run_with_iobinding(binding)  # waits for the device

        def call() -> None:
            session.run(None, feed)

        return call

    def _feed(self, images: Images) -> dict[str, Any]:
        """The images as the graph's input; one of fp16 gets them rounded."""
        asked = self._session.get_inputs()[0]
        return {asked.name: np.ascontiguousarray(images, _NUMBERS.get(asked.type))}

    def end_trace(self) -> list[dict[str, Any]]:
        """The events of the calls so far, as onnxruntime writes them; from now on it is not watched any more."""
        events: list[dict[str, Any]] = json.loads(Path(self._session.end_profiling()).read_text())
        return events

    def close(self) -> None:
        """Free the session."""
        del self._session


def open_session(graph: Path | bytes, device: str, threads: int, precision: str, streams: int) -> OrtSession:
    """For the table of backends."""
    return _as_asked(OrtSession(graph, device, threads, streams=streams), precision)


def open_tensorrt(graph: Path | bytes, device: str, threads: int, precision: str, streams: int) -> OrtSession:
    """For the table of backends."""
    if device != "cuda":
        raise UnavailableError(f"TensorRT runs on CUDA devices only; got {device}")
    return _as_asked(OrtSession(graph, "tensorrt", threads, streams=streams), precision)


def _as_asked(session: OrtSession, precision: str) -> OrtSession:
    """A graph runs in its own numbers; bf16 would be another graph."""
    if precision == "bf16":
        raise FallbackError("bf16", f"{session.options['backend']} runs the graph in its own numbers")
    session.options["precision"] = precision
    return session


def _why(error: Exception) -> str:
    """What it says, without its codes and the path of a file that may be there for a moment only."""
    said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?", "", str(error))
    return first_line(RuntimeError(said))
