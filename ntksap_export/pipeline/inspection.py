"""What is in a file or a directory: a graph by its suffix, the rest by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ntksap_export.checkpoint import Provenance, SparseCheckpoint, load_mask
from ntksap_export.errors import CheckpointError
from ntksap_export.graph import Graph, weight_sparsity
from ntksap_export.pipeline.summary import summary


def inspect_path(path: Path) -> dict[str, Any]:
    """Describe a run directory, a sparse checkpoint, a mask file, or an ONNX graph.

    Returns:
        `kind`; for a file `file_bytes`, `tensors` (rows) and `facts`; for a directory what `summary` gives.

    Raises:
        CheckpointError: missing, broken, or none of these.
        RunDirectoryError: a directory that is no run.
        ExportError: a broken graph.
    """
    if path.is_dir():
        return {"kind": "run directory", **summary(path)}
    if not path.is_file():
        raise CheckpointError(f"no such file or directory '{path}'")
    if path.suffix == ".onnx":
        return _graph(path)
    if path.suffix == ".json":
        raise CheckpointError(f"'{path}' is JSON: read it as it is, or inspect its directory")
    try:
        return _checkpoint(path, SparseCheckpoint.load(path))
    except CheckpointError as problem:
        try:
            return _mask(path)
        except CheckpointError:
            raise problem from None


def _checkpoint(path: Path, checkpoint: SparseCheckpoint) -> dict[str, Any]:
    report = checkpoint.size_report()
    rows = [
        {
            "name": row.name,
            "shape": list(row.shape),
            "dtype": row.dtype,
            "encoding": row.encoding,
            "stored_bytes": row.stored_bytes,
            "dense_bytes": row.dense_bytes,
            "sparsity": 1 - row.kept / row.total if row.total else 0.0,
        }
        for row in report.rows
    ]
    facts = {
        "kept": report.kept,
        "total": report.total,
        "sparsity": f"{1 - report.kept / report.total:.4f}" if report.total else "0",
        "dense bytes": report.dense_bytes,
        "times smaller than dense": f"{report.dense_bytes / path.stat().st_size:.2f}",
        **_provenance(checkpoint.provenance),
    }
    return {"kind": "sparse checkpoint", "file_bytes": path.stat().st_size, "tensors": rows, "facts": facts}


def _mask(path: Path) -> dict[str, Any]:
    mask, note = load_mask(path)
    rows = [
        {
            "name": name,
            "shape": list(kept.shape),
            "dtype": "bool",
            "encoding": "bitmask",
            "stored_bytes": kept.shape[0] * -(-(kept.numel() // kept.shape[0]) // 8),
            "dense_bytes": kept.numel(),
            "sparsity": 1 - int(kept.sum()) / kept.numel(),
        }
        for name, kept in mask.items()
    ]
    facts = {
        "kept": mask.kept,
        "total": mask.total,
        "sparsity": f"{mask.sparsity:.4f}",
        "digest": mask.digest(),
    }
    return {
        "kind": "mask",
        "file_bytes": path.stat().st_size,
        "tensors": rows,
        "facts": {**facts, **_provenance(Provenance.from_json(note))},
    }


def _graph(path: Path) -> dict[str, Any]:
    graph = Graph.load(path)
    rows = [
        {
            "name": name,
            "shape": list(values.shape),
            "dtype": str(values.dtype),
            "encoding": "dense",
            "stored_bytes": values.nbytes,
            "dense_bytes": values.nbytes,
            "sparsity": float((values == 0).mean()),
        }
        for name, values in graph.weights()
    ]
    kinds: dict[str, int] = {}
    for node in graph.proto.graph.node:
        kinds[node.op_type] = kinds.get(node.op_type, 0) + 1
    facts = {
        "opset": {item.domain or "ai.onnx": item.version for item in graph.proto.opset_import},
        "nodes": kinds,
        "weight sparsity": f"{weight_sparsity(graph):.4f}",
    }
    return {"kind": "ONNX graph", "file_bytes": path.stat().st_size, "tensors": rows, "facts": facts}


def _provenance(provenance: Provenance | None) -> dict[str, Any]:
    if provenance is None:
        return {}
    return {
        "architecture": provenance.architecture,
        "method": provenance.method,
        "seed": provenance.seed,
        "versions": dict(provenance.versions),
    }
