"""How many bytes of values between its nodes a graph needs at once: what a batch costs in memory, from the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ntksap_export.runtime.session import Images


def activation_peak(backend: str, graph: Path, images: Images) -> dict[str, Any]:
    """The peak of one call, from onnxruntime's profile with memory patterns off.

    Args:
        backend: others than onnxruntime do not tell.
        graph: a path.
        images: the batch.

    Returns:
        `activation_peak_bytes`, and `activation_peak_reason` where it is None. The images themselves are not in it.
    """
    if backend != "onnxruntime":
        return {"activation_peak_bytes": None, "activation_peak_reason": "only onnxruntime's profile tells it"}
    from ntksap_export.runtime.tracing.ort import activation_peak_bytes

    found = activation_peak_bytes(graph, images, 1)
    reason = None if found is not None else "onnxruntime's profile says nothing of memory; it does since 1.28"
    return {"activation_peak_bytes": found, "activation_peak_reason": reason}
