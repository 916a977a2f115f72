"""OpenVINO as a `Session`. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from ntksap_export.errors import ExportError, FallbackError, UnavailableError
from ntksap_export.quoting import first_line
from ntksap_export.runtime.engine import uses_engine
from ntksap_export.runtime.session import Closing, Images, Logits, Outputs, image_shape

try:
    import openvino
except ImportError as missing:
    raise UnavailableError(
        f"openvino does not load: {first_line(missing)}; pip install 'ntksap-export[openvino]'"
    ) from missing


_COMPUTED: Final = {"bf16": ("bf16",), "int8": ("i8", "u8")}


class OpenVinoSession(Closing):
    """A graph in OpenVINO on the CPU.

    Unless bfloat16 is asked for it computes in float32: by itself OpenVINO takes bfloat16 where the CPU is fast at it
    (AMX), whose answers differ by half a percent and whose times compare with nobody's float32. Quantized nodes stay
    int8, and numbers stored in float16 are computed with in float32.

    Args:
        graph: a path, or the bytes of a model.
        threads: of each stream; 0 leaves it to OpenVINO.
        precision: `bf16`, or what the graph's numbers are; of `int8`, too, it is checked that some node computes in it.
        streams: calls in flight at once.
        counters: time each node, for `counters`.

    Raises:
        ExportError: not a graph that OpenVINO can load.
        UnavailableError: the graph is for the sparse engine.
        FallbackError: it took another precision, number of threads or number of streams.
    """

    def __init__(
        self,
        graph: Path | bytes,
        threads: int = 0,
        precision: str = "fp32",
        streams: int = 1,
        *,
        counters: bool = False,
    ) -> None:
        if uses_engine(graph):
            raise UnavailableError("openvino does not know the sparse engine's nodes; give it model.onnx")
        hint = "bf16" if precision == "bf16" else "f32"
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(threads * streams),
            "ENABLE_CPU_PINNING": "NO",  # a measuring process pins itself
            "PERF_COUNT": "YES" if counters else "NO",
        }
        core = openvino.Core()
        try:
            read = core.read_model(str(graph)) if isinstance(graph, Path) else core.read_model(graph, b"")
            self._compiled: Any = core.compile_model(read, "CPU", settings)
        except Exception as error:  # OpenVINO raises RuntimeError for all
            raise ExportError(f"openvino cannot load the graph: {_reason(error)}") from error
        self._streams = streams
        computes = self._check_settings(hint, precision, threads)
        self._request = self._bound = self._compiled.create_infer_request()
        self.options: dict[str, Any] = {
            "backend": "openvino",
            "device": "cpu",
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")) // streams,
            "streams": streams,
            "precision": hint,
            "performance_hint": settings["PERFORMANCE_HINT"],
            **computes,
        }

    def _check_settings(self, hint: str, precision: str, threads: int) -> dict[str, Any]:
        """What the compiled network says of itself, compared with what was asked for."""
        got = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if got != hint:
            raise FallbackError(hint, f"openvino computes in {got} here")
        total = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        streams = int(self._compiled.get_property("NUM_STREAMS"))
        if streams != self._streams:
            raise FallbackError(f"{self._streams} streams", f"openvino runs {streams} on these CPUs")
        if threads and total != threads * streams:
            raise FallbackError(f"{threads * streams} threads", f"openvino took {total}")
        if precision not in _COMPUTED:
            return {}
        nodes = [str(node.get_rt_info()["runtimePrecision"].value) for node in self._nodes()]
        wanted = sum(kind in _COMPUTED[precision] for kind in nodes)
        if not wanted:
            raise FallbackError(precision, "no node of the graph computes in it in openvino")
        return {"nodes_in_precision": wanted, "nodes": len(nodes)}

    def _nodes(self) -> list[Any]:
        """Of the network as it is executed."""
        return list(self._compiled.get_runtime_model().get_ordered_ops())

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
        request = self._compiled.create_infer_request()  # its own: several are called at once, `run` has another
        request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(images), shared_memory=False))
        self._bound = request
        if self._streams == 1:
            return lambda: request.infer() and None

        def call() -> None:
            request.start_async()
            request.wait()

        return call

    def counters(self) -> list[tuple[Any, float]]:
        """OpenVINO's nodes that ran, in order, each with its microseconds; needs `counters`, and calls of `bind`.

        They are means over all calls since the network was compiled.
        """
        times = {
            each.node_name: each.real_time / timedelta(microseconds=1)
            for each in self._bound.get_profiling_info()
            if each.status == openvino.ProfilingInfo.Status.EXECUTED
        }
        nodes = {node.get_friendly_name(): node for node in self._nodes()}
        return [(nodes[name], taken) for name, taken in times.items() if name in nodes]

    def _check(self, images: Images) -> None:
        """OpenVINO takes images of another shape without a word, and reads beyond their end."""
        wanted = self._compiled.inputs[0].get_partial_shape()
        if not wanted.compatible(openvino.PartialShape(list(images.shape))):
            raise ExportError(f"openvino cannot run the graph on {images.shape}: its input is {wanted.to_string()}")

    def close(self) -> None:
        """Free the session."""
        del self._request, self._bound, self._compiled


def open_session(graph: Path | bytes, device: str, threads: int, precision: str, streams: int) -> OpenVinoSession:
    """For the table of backends."""
    if device != "cpu":
        raise UnavailableError(f"openvino runs on the cpu here; got {device}")
    return OpenVinoSession(graph, threads, precision, streams)


def _reason(error: Exception) -> str:
    """Its first lines name places in OpenVINO's own source; the last one says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_line(RuntimeError(lines[-1])) if lines else type(error).__name__
