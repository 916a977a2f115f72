"""Within the measuring process: from a cell's specification to a session and images. Loads only what is needed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ntksap_export.errors import FallbackError
from ntksap_export.runtime import backends
from ntksap_export.runtime.session import Session

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]


def import_backend(spec: dict[str, Any]) -> None:
    """Load the libraries, so that they do not count as the network's memory."""
    backends.load(spec["backend"])
    if backends.takes_model(spec["backend"]):
        import ntksap_export.checkpoint  # noqa: F401
        from ntksap_export import networks

        if "sys_path" in spec:
            sys.path[:] = spec["sys_path"]
        networks.load(spec["model"]["name"])


def open_session(spec: dict[str, Any]) -> tuple[Session, Shape]:
    """The session of a cell, and (C, H, W) of its input.

    Raises:
        FallbackError: it would run otherwise than asked.
        NtksapError: it cannot be opened.
    """
    where = (spec["device"], spec["threads"])
    asked = {"precision": spec.get("precision", "fp32"), "streams": spec.get("streams", 1)}
    if backends.takes_model(spec["backend"]):
        return backends.open_model(spec["backend"], build_model(spec), *where, **asked), tuple(spec["shape"])
    session = backends.open_graph(spec["backend"], Path(spec["graph"]), *where, **asked)
    return session, tuple(spec["shape"]) if spec.get("shape") else session.input_shape


def draw_images(session: Session, batch: int, shape: Shape) -> npt.NDArray[Any]:
    """Noise as the network takes it; `shape` is (C, H, W)."""
    draw = np.random.default_rng(0)
    if getattr(session, "input_layout", "NCHW") == "NHWC":
        shape = (shape[1], shape[2], shape[0])
    if getattr(session, "input_dtype", "float32") == "uint8":
        return draw.integers(0, 256, (batch, *shape), dtype=np.uint8)
    return draw.standard_normal((batch, *shape), dtype=np.float32)


def pin(threads: int, streams: int = 1) -> list[int]:
    """Keep this process on as many CPUs as its streams have threads; which ones.

    Raises:
        FallbackError: one operator has more threads than there are CPUs: they would wait for each other.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise FallbackError(f"{threads} threads", f"this process may use {len(allowed)} CPUs")
    chosen = allowed[: threads * streams]
    os.sched_setaffinity(0, chosen)
    return chosen


def build_model(spec: dict[str, Any]) -> nn.Module:
    """The torch model of a cell."""
    from ntksap_export import networks
    from ntksap_export.checkpoint import SparseCheckpoint

    model = networks.build(**spec["model"])
    if spec.get("channels"):
        from ntksap_export.pruning import ChannelPlan

        model = ChannelPlan.from_json(json.loads(Path(spec["channels"]).read_text())).apply(model)
    if spec.get("checkpoint"):
        SparseCheckpoint.load(Path(spec["checkpoint"])).restore_(model)
    return model
