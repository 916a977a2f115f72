"""How many bytes of values between its nodes a graph needs at once: what a batch costs in memory, from the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntksap_export.runtime.session import Images


def held_bytes(backend: str, graph: Path, images: Images) -> Mapping[str, int] | None:
    """Bytes in use at each node in one call, from onnxruntime's profile with memory patterns off.

    Args:
        backend: others than onnxruntime do not tell.
        graph: a path.
        images: the batch; they are not counted themselves.

    Returns:
        By the runtime's names of the nodes; empty where the profile says nothing of memory, None in other backends.
    """
    if backend != "onnxruntime":
        return None
    from ntksap_export.runtime.tracing.ort import activation_bytes

    return activation_bytes(graph, images, 1)


def activation_peak(held: Mapping[str, int] | None) -> dict[str, Any]:
    """`activation_peak_bytes`, the most of `held_bytes`, and `activation_peak_reason` where it is None."""
    if held is None:
        return {"activation_peak_bytes": None, "activation_peak_reason": "only onnxruntime's profile tells it"}
    reason = None if held else "onnxruntime's profile says nothing of memory; it does since 1.28"
    return {"activation_peak_bytes": max(held.values(), default=None), "activation_peak_reason": reason}
