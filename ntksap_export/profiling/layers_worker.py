"""The process that watches one network, or measures the machine: `python -m ntksap_export.profiling.layers_worker`.

    <- {"what": "machine", "threads": 1, "graphs": {...}, "precisions": ["fp32"]}
    <- {"what": "layers", "threads": 1, "backend": "onnxruntime", "batch": 1, "graph": "...", "seconds": 1.0, ...}
    -> {"answer": {...}} or {"error": "..."}

Nothing is imported before it is known what is asked: the machine's peak needs no torch.
"""

from __future__ import annotations

from typing import Any

from ntksap_export.profiling.one_shot import reply
from ntksap_export.profiling.opening import pin


def main() -> None:
    """Answer one question."""
    reply(_answer)


def _answer(spec: dict[str, Any]) -> Any:
    pin(spec["threads"])
    if spec["what"] == "machine":
        from ntksap_export.profiling.roofline import measure_here

        return measure_here(spec)
    from ntksap_export.profiling.layers import watch_here

    return watch_here(spec)


if __name__ == "__main__":
    main()
