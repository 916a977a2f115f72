"""Small graphs to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import psutil

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


def write_int8(path: Path, zeros: int) -> Path:
    """As `write_graph`, its weight of 12 in int8 with so many zeros."""
    codes = ", ".join(["0"] * zeros + ["7"] * (12 - zeros))
    text = f"""
        <ir_version: 10, opset_import: ["" : 20]>
        tiny (float[batch, 3, 4, 4] images) => (float[batch, 4] logits)
        <int8[3, 4] w_quantized = {{{codes}}}, float scale = {{0.1}}, int8 zero = {{0}}>
        {{
            pooled = GlobalAveragePool(images)
            flat = Flatten<axis = 1>(pooled)
            w = DequantizeLinear(w_quantized, scale, zero)
            logits = MatMul(flat, w)
        }}
    """
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def tiny_spec(folder: Path) -> dict[str, Any]:
    """What a measuring process is told of the graph of a few hundred bytes, written into `folder`."""
    graph = write_graph(folder / "tiny.onnx")
    return {"backend": "onnxruntime", "device": "cpu", "threads": 1, "batch": 2, "graph": str(graph), "shape": None}


def children() -> list[psutil.Process]:
    """The processes that this one has started and that still run."""
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
