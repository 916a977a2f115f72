"""Static int8 through onnxruntime.quantization: u8 activations, s8 weights per channel, as QuantizeLinear pairs (QDQ).

Three steps, so that many graphs can be made of one calibration: `calibrate` runs the float32 graph over real images
and keeps the range of each activation; `quantize` writes a graph, with some layers left in float32; neither leaves a
file. `quant_pre_process` is not needed: the exporter folds BatchNorm, and the quantizer infers shapes itself.

Differences from `quantize_static`: images are taken batch by batch (it holds all activations of all images at once);
`entropy` gets more bins than the 128 that it quantizes to (with its 128 there is one threshold to choose from, and the
result is minmax); `percentile` is not symmetric (which wastes half of the codes behind a ReLU).
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph
from ntksap_export.graph.precision import INT8_OPERATORS, layers, named, tidy, with_exact_biases
from ntksap_export.runtime.session import Images

METHODS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "minmax": ("MinMax", {}),
    "percentile": ("Percentile", {"symmetric": False, "num_bins": 2048, "percentile": 99.999}),
    "entropy": ("Entropy", {"symmetric": False, "num_bins": 512, "num_quantized_bins": 128}),
}

_OF_ZERO: Final = 255 / 1024  # the largest value of an activation that calibration saw at 0 alone

Ranges = Any
"""onnxruntime's `TensorsData`: the range of each activation."""


def calibrate(graph: Graph, batches: Iterable[Images], method: str, scratch: Path | None = None) -> Ranges:
    """Run the graph over the batches and choose each activation's range.

    Args:
        graph: float32; see `graph.precision.named`.
        batches: images as the graph takes them, from the data it was trained on; read once.
        method: a key of `METHODS`.
        scratch: folder for files that live only inside; None: the system's.

    Raises:
        ExportError: the quantizer cannot take the graph.
    """
    library, _ = tools()
    kind, options = METHODS[method]
    try:
        with quiet(), tempfile.TemporaryDirectory(prefix="int8.", dir=scratch) as folder:
            source = Path(folder) / "float.onnx"
            graph.save(source)
            calibrator = library.create_calibrator(
                source,
                list(INT8_OPERATORS),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=library.CalibrationMethod[kind],
                extra_options=options,
            )
            for images in batches:
                calibrator.collect_data(_Once(calibrator.infer_session.get_inputs()[0].name, images))
            return calibrator.compute_data()
    except OSError:
        raise
    except Exception as error:  # onnxruntime's own exception classes have no common public base
        raise ExportError(f"calibration failed: {_first(error)}") from error


def quantize(graph: Graph, ranges: Ranges, *, keep: Iterable[str] = (), reduced: bool = False) -> Graph:
    """The graph in int8.

    Args:
        graph: the one that was calibrated.
        ranges: from `calibrate`; not changed.
        keep: nodes that stay float32.
        reduced: 7 bits for weights, for CPUs whose u8 x s8 products saturate at 16 bits (`needs_reduced`).

    Raises:
        ExportError: nothing in it can be quantized, or an operator cannot: it is named.
    """
    left = set(keep)
    if not layers(graph):
        raise ExportError("the graph has no Conv, Gemm or MatMul with a constant weight: leave --int8 away")
    try:
        made = _quantized(graph, ranges, left, reduced)
    except Exception as error:  # the quantizer raises many kinds; all mean that it cannot take this graph
        raise ExportError(_blame(graph, ranges, left, reduced, error)) from error
    return tidy(with_exact_biases(made, graph), graph)


def largest(ranges: Ranges) -> dict[str, float]:
    """The largest absolute value of each activation that was calibrated."""
    return {name: float(np.max(np.abs(data.range_value))) for name, data in ranges.items()}


def needs_reduced(flags: Iterable[str], machine: str) -> bool:
    """Whether u8 x s8 products saturate on this CPU: an x86 without VNNI adds pairs of them in 16 bits.

    Args:
        flags: `hardware.cpu_flags()`.
        machine: `platform.machine()`.
    """
    return machine in ("x86_64", "AMD64") and not {"avx512_vnni", "avx_vnni"} & set(flags)


def _quantized(graph: Graph, ranges: Ranges, keep: set[str], reduced: bool) -> Graph:
    library, _ = tools()
    with quiet():
        quantizer = library.QDQQuantizer(
            named(graph).proto,
            True,  # per channel
            reduced,
            library.QuantType.QInt8,
            library.QuantType.QUInt8,
            _widened(ranges),
            [],
            sorted(keep),
            list(INT8_OPERATORS),
            {},
        )
        return Graph(quantizer.quantize_model(), graph.parameters)


def _widened(ranges: Ranges) -> Ranges:
    """A copy in which what was always 0 has a range; the quantizer's step for it, 1, would round biases to weights."""
    wider = copy.deepcopy(ranges)
    for _, data in wider.items():
        if not np.any(data.range_value):
            data.highest = np.array(_OF_ZERO, np.float32)
    return wider


def _blame(graph: Graph, ranges: Ranges, keep: set[str], reduced: bool, error: Exception) -> str:
    """The operator without which it works, if there is one."""
    for node in graph.proto.graph.node:
        if node.op_type in INT8_OPERATORS and node.name not in keep:
            with contextlib.suppress(Exception):
                _quantized(graph, ranges, keep | {node.name}, reduced)
                name = next((layer.name for layer in layers(graph) if layer.node == node.name), node.name)
                return f"{node.op_type} '{name}' cannot be quantized ({_first(error)}); add --int8-keep {name}"
    return f"the graph cannot be quantized: {_first(error)}; leave --int8 away"


class _Once:
    """One batch, as the calibrator reads it."""

    def __init__(self, name: str, images: Images) -> None:
        self._feeds: Iterator[dict[str, Images]] = iter([{name: images}])

    def get_next(self) -> dict[str, Images] | None:
        return next(self._feeds, None)


def tools() -> tuple[Any, Any]:
    """The quantization of onnxruntime and its fp16 converter: loaded late and together.

    They add a folder of theirs to the import path and need it while they load; it does not stay there.
    """
    with quiet():
        import onnxruntime.quantization as quantization
        from onnxruntime.transformers import float16
    return quantization, float16


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The quantizer prints its progress, logs advice, and adds to the import path."""
    root, path = logging.getLogger(), list(sys.path)
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
        sys.path[:] = path


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
