"""The backends by name: what each takes, how its session is made, and why it is not here.

Looking one up imports nothing of the others: a process that times onnxruntime must not load torch.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from ntksap_export.runtime.session import GraphSession, Session

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run a network.

    Attributes:
        takes: an ONNX `graph`, or a torch `model`.
        opens: `module:function` of (source, device, threads, precision, streams) -> session.
        precisions: what it can run a float32 source in.
        reason: why it cannot run on a device here, or None if it can; device is `cpu` or `cuda`.
    """

    takes: Literal["graph", "model"]
    opens: str
    reason: Callable[[str], str | None]
    precisions: tuple[str, ...] = ("fp32",)


def unavailable(backend: str, device: str = "cpu") -> str | None:
    """Why the backend cannot run on `device` here, with what to install; None if it can."""
    if device == "cuda" and not _has_cuda():
        return "no CUDA device"
    return BACKENDS[backend].reason(device)


def takes_model(backend: str) -> bool:
    """Whether it runs a torch model, not a graph."""
    return BACKENDS[backend].takes == "model"


def lacks_precision(backend: str, precision: str, device: str = "cpu") -> str | None:
    """Why the backend cannot run a float32 network in `precision` here; None if it can."""
    if precision == "fp32":
        return None
    if precision not in BACKENDS[backend].precisions:
        if takes_model(backend):
            return f"{backend} runs the float32 model; {precision} is a graph's"
        way = f"; export with --{precision}" if precision in ("fp16", "int8") else ""
        return f"{backend} runs a float32 graph in float32 only{way}"
    import torch

    from ntksap_export.hardware import fast_bf16

    return None if fast_bf16(torch.device(device)) else "this CPU has no bf16 instructions"


def load(backend: str) -> None:
    """Import what the backend needs, so that it is not counted as the network's memory.

    Raises:
        UnavailableError: its library is not here.
    """
    _opener(backend)


def open_graph(
    backend: str,
    graph: Path | bytes,
    device: str = "cpu",
    threads: int = 0,
    *,
    precision: str = "fp32",
    streams: int = 1,
) -> GraphSession:
    """A session over an ONNX graph.

    Args:
        backend: one that takes a graph.
        graph: a path, or the bytes of a model.
        device: `cpu` or `cuda`.
        threads: of one operator; 0 leaves it to the backend.
        precision: `bf16` runs float32 so where it can; of other graphs, what their numbers are.
        streams: calls in flight at once, each with `threads`.

    Raises:
        ExportError: not a graph that it can load.
        UnavailableError: the backend or the device is not here.
        FallbackError: it would run somewhere else, or otherwise, than asked.
    """
    return cast("GraphSession", _opener(backend)(graph, device, threads, precision, streams))


def open_model(
    backend: str,
    model: nn.Module,
    device: str = "cpu",
    threads: int = 0,
    *,
    precision: str = "fp32",
    streams: int = 1,
) -> Session:
    """A session over a torch model, which is moved and put in eval mode in place; else as `open_graph`."""
    return cast("Session", _opener(backend)(model, device, threads, precision, streams))


def _opener(backend: str) -> Callable[..., Any]:
    module, _, function = BACKENDS[backend].opens.partition(":")
    return cast("Callable[..., Any]", getattr(import_module(module), function))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _provider(device: str) -> str | None:
    from ntksap_export.runtime.ort import provider_reason

    return provider_reason(device)


def _tensorrt(device: str) -> str | None:
    return _provider("tensorrt") if device == "cuda" else "TensorRT runs on CUDA devices only"


def _openvino(device: str) -> str | None:
    if device != "cpu":
        return "OpenVINO runs on the CPU here"
    return None if find_spec("openvino") else "openvino is not installed; pip install 'ntksap-export[openvino]'"


def _compile(device: str) -> str | None:
    if device == "cuda":
        return None if find_spec("triton") else "torch.compile needs triton on CUDA; pip install triton"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"torch.compile needs a C++ compiler, and '{compiler}' is not here; install it or name another in CXX"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "torch.compile needs the headers of Python; install python3-dev"
    return None


_FLOATS: Final = ("fp32", "bf16")

BACKENDS: Final[dict[str, Backend]] = {
    "onnxruntime": Backend("graph", "ntksap_export.runtime.ort:open_session", _provider),
    "torch": Backend("model", "ntksap_export.runtime.eager:open_session", lambda _: None, _FLOATS),
    "torch-compile": Backend("model", "ntksap_export.runtime.compiled:open_session", _compile, _FLOATS),
    "openvino": Backend("graph", "ntksap_export.runtime.ov:open_session", _openvino, _FLOATS),
    "tensorrt": Backend("graph", "ntksap_export.runtime.ort:open_tensorrt", _tensorrt),
}
