"""OpenVINO as a `Session`. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ntksap_export.errors import ExportError, UnavailableError
from ntksap_export.quoting import first_line
from ntksap_export.runtime.session import Closing, Images, Logits, Outputs, image_shape

try:
    import openvino
except ImportError as missing:
    raise UnavailableError(
        f"openvino does not load: {first_line(missing)}; pip install 'ntksap-export[openvino]'"
    ) from missing


@dataclass(frozen=True, slots=True)
class Counter:
    """What OpenVINO says of a node that ran.

    Attributes:
        name: its own, unique.
        op: its word for it.
        origin: names of the graph's nodes in it, with commas between; empty where it made the node itself.
        mean_us: microseconds, the mean over all calls since the graph was compiled.
        moved_bytes: of inputs, constants and outputs; None where a shape is open.
        constant_bytes: of these, the constants.
    """

    name: str
    op: str
    origin: str
    mean_us: float
    moved_bytes: int | None
    constant_bytes: int


class OpenVinoSession(Closing):
    """A graph in OpenVINO on the CPU.

    It computes in float32: by itself OpenVINO takes bfloat16 where the CPU is fast at it (AMX), whose answers differ by
    half a percent and whose times compare with nobody's float32. Quantized nodes stay int8.

    Args:
        graph: a path, or the bytes of a model.
        threads: of the one stream; 0 leaves it to OpenVINO.
        counters: time each node, for `counters`.

    Raises:
        ExportError: not a graph that OpenVINO can load.
        UnavailableError: it would not compute in float32.
    """

    def __init__(self, graph: Path | bytes, threads: int = 0, *, counters: bool = False) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",  # a measuring process pins itself
            "PERF_COUNT": "YES" if counters else "NO",
        }
        core = openvino.Core()
        try:
            read = core.read_model(str(graph)) if isinstance(graph, Path) else core.read_model(graph, b"")
            self._compiled: Any = core.compile_model(read, "CPU", settings)
        except Exception as error:  # OpenVINO raises RuntimeError for all
            raise ExportError(f"openvino cannot load the graph: {_reason(error)}") from error
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if precision != "f32":
            raise UnavailableError(f"openvino computes in {precision} here; float32 was asked for")
        self._request = self._compiled.create_infer_request()
        self.options: dict[str, Any] = {
            "backend": "openvino",
            "device": "cpu",
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            "streams": 1,
            "precision": precision,
        }

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return tuple(port.get_any_name() for port in self._compiled.outputs)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the single input; see `image_shape`."""
        ports = (port.get_partial_shape() for port in self._compiled.inputs)
        return image_shape([[side.get_length() if side.is_static else None for side in shape] for shape in ports])

    def run(self, images: Images) -> Logits:
        """One call of the graph's first output."""
        return np.asarray(self.run_all(images)[0], dtype=np.float32)

    def run_all(self, images: Images) -> Outputs:
        """One call of every output."""
        self._check(images)
        try:
            self._request.infer({0: np.ascontiguousarray(images)})
        except Exception as error:  # as above
            raise ExportError(f"openvino cannot run the graph on {images.shape}: {_reason(error)}") from error
        return tuple(
            np.array(self._request.get_output_tensor(index).data) for index in range(len(self._compiled.outputs))
        )

    def bind(self, images: Images) -> Callable[[], None]:
        """A call over images in OpenVINO's own memory, where its answers stay too."""
        self._check(images)
        # a copy of its own: later calls of `run` write into the tensor that is set here
        self._request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(images), shared_memory=False))
        request = self._request

        def call() -> None:
            request.infer()

        return call

    def counters(self) -> tuple[Counter, ...]:
        """The nodes that ran in the last call, in order; needs `counters`."""
        times = {
            each.node_name: each.real_time / timedelta(microseconds=1)
            for each in self._request.get_profiling_info()
            if each.status == openvino.ProfilingInfo.Status.EXECUTED
        }
        nodes = {node.get_friendly_name(): node for node in self._compiled.get_runtime_model().get_ordered_ops()}
        return tuple(_counter(nodes[name], us) for name, us in times.items() if name in nodes)

    def _check(self, images: Images) -> None:
        """OpenVINO takes images of another shape without a word, and reads beyond their end."""
        wanted = self._compiled.inputs[0].get_partial_shape()
        if not wanted.compatible(openvino.PartialShape(list(images.shape))):
            raise ExportError(f"openvino cannot run the graph on {images.shape}: its input is {wanted.to_string()}")

    def close(self) -> None:
        """Free the session."""
        del self._request, self._compiled


def open_session(graph: Path | bytes, device: str, threads: int) -> OpenVinoSession:
    """For the table of backends."""
    if device != "cpu":
        raise UnavailableError(f"openvino runs on the cpu here; got {device}")
    return OpenVinoSession(graph, threads)


def _counter(node: Any, mean_us: float) -> Counter:
    notes = node.get_rt_info()
    sizes = [_bytes(port.get_source_output()) for port in node.inputs()] + [_bytes(port) for port in node.outputs()]
    sources = [port.get_source_output() for port in node.inputs()]
    constants = [_bytes(port) or 0 for port in sources if _note(port.get_node().get_rt_info(), "layerType") == "Const"]
    return Counter(
        name=node.get_friendly_name(),
        op=_note(notes, "layerType"),
        origin=_note(notes, "originalLayersNames"),
        mean_us=mean_us,
        moved_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        constant_bytes=sum(constants),
    )


def _note(notes: Any, key: str) -> str:
    return str(notes[key].astype(str)) if key in notes else ""


def _bytes(port: Any) -> int | None:
    shape = port.get_partial_shape()
    return math.prod(shape.to_shape()) * port.get_element_type().size if shape.is_static else None


def _reason(error: Exception) -> str:
    """Its first lines name places in OpenVINO's own source; the last one says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_line(RuntimeError(lines[-1])) if lines else type(error).__name__
