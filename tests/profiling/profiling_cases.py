"""Small graphs to measure."""

from __future__ import annotations

from pathlib import Path

import onnx

SPARSE = "{1, 0, -1, 2, 0, 3}"
DENSE = "{1, 4, -1, 2, 5, 3}"


def write_graph(path: Path, *, inputs: str = "float[batch, 3, 4, 4] images", weights: str = SPARSE) -> Path:
    """A pooling and a matrix product, in under a kilobyte."""
    text = f"""
        <ir_version: 10, opset_import: ["" : 20]>
        tiny ({inputs}) => (float[batch, 2] logits)
        <float[3, 2] w = {weights}>
        {{
            pooled = GlobalAveragePool(images)
            flat = Flatten<axis = 1>(pooled)
            logits = MatMul(flat, w)
        }}
    """
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path
