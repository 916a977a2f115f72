"""What is in a file or a directory, one tensor in memory at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ntksap_export.checkpoint.container import dtype_name
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import format_of
from ntksap_export.engine import ENGINE_DOMAIN, plan_from_bytes, plans
from ntksap_export.errors import CheckpointError
from ntksap_export.graph import Graph, read_classes, read_preprocessing, weight_sparsity
from ntksap_export.masks import Mask, find_structure
from ntksap_export.pipeline.inspection.opened import KINDS, MASK, Opened, open_any
from ntksap_export.pipeline.summary import summary


def inspect_path(path: Path) -> dict[str, Any]:
    """Describe a run directory, a checkpoint of any format, a mask file, or an ONNX graph.

    Returns:
        `kind`; for a run directory what `summary` gives; else `format`, `file_bytes`, `tensors` (rows, of a graph those
        of two or more axes) and `facts`. A row's `sparsity` is 1 - density of its mask, and without one the share of
        zeros; `structure` is what `masks.find_structure` finds in whichever of the two, None where neither prunes.

    Raises:
        CheckpointError: missing, broken, or none of these.
        RunDirectoryError: a directory that is no run.
        ExportError: a broken graph.
    """
    if path.is_dir() and not (path / "config.json").exists() and format_of(path) is None:
        raise CheckpointError(
            f"'{path}' has no config.json, as a run directory has, and is no checkpoint; name a file in it"
        )
    if path.is_dir() and (_is_run(path) or format_of(path) is None):
        return {"kind": "run directory", **summary(path)}
    if path.suffix == ".json" and path.is_file() and format_of(path) is None:
        raise CheckpointError(f"'{path}' is JSON: read it as it is, or inspect its directory")
    with open_any(path) as opened:
        rows = [_row(opened, name) for name in opened.source.names()]
        if opened.graph is not None:
            rows = [row for row in rows if len(row["shape"]) >= 2]
        return {
            "kind": KINDS[opened.format],
            "format": opened.format,
            "file_bytes": opened.file_bytes,
            "tensors": rows,
            "facts": _facts(opened, rows),
        }


def zeros(values: torch.Tensor) -> torch.Tensor:
    """Where values are 0, of either sign."""
    wide = values.float() if values.is_floating_point() and values.itemsize == 1 else values
    return wide == 0


def _is_run(path: Path) -> bool:
    if format_of(path) != "ntksap":
        return False
    try:
        return "config" in json.loads((path / "config.json").read_text(encoding="utf-8"))["ntksap"]
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _row(opened: Opened, name: str) -> dict[str, Any]:
    decoded = opened.source.read(name)
    values, total = decoded.tensor, decoded.tensor.numel()
    encoding, stored_bytes = opened.stored(name, decoded)
    kept = ~zeros(values) if decoded.kept is None else decoded.kept
    count = int(kept.sum())
    structure = find_structure(kept) if decoded.kept is not None or count < total else None
    return {
        "name": name,
        "shape": list(values.shape),
        "dtype": dtype_name(values.dtype),
        "encoding": encoding,
        "stored_bytes": stored_bytes,
        "dense_bytes": values.nbytes,
        "sparsity": 1 - count / total if total else 0.0,
        "masked": decoded.kept is not None,
        "kept": count,
        "structure": None if structure is None else asdict(structure),
    }


def _facts(opened: Opened, rows: list[dict[str, Any]]) -> dict[str, Any]:
    if opened.graph is not None:
        return _graph_facts(opened.graph)
    masked = [row for row in rows if row["masked"]]
    counted = masked or [row for row in rows if len(row["shape"]) >= 2]
    kept, total = sum(row["kept"] for row in counted), sum(_elements(row) for row in counted)
    facts = {"kept": kept, "total": total, "sparsity": f"{1 - kept / total:.4f}" if total else "0"}
    if opened.format == MASK:
        digest = Mask({row["name"]: _kept(opened.source.read(row["name"])) for row in rows}).digest()
        return {**facts, "digest": digest, **_provenance(opened.provenance)}
    dense_bytes = sum(row["dense_bytes"] for row in rows)
    return {
        **facts,
        "counted": "masks" if masked else "values that are not 0, of tensors of two or more axes",
        "dense bytes": dense_bytes,
        "times smaller than dense": f"{dense_bytes / opened.file_bytes:.2f}",
        **_provenance(opened.provenance),
    }


def _elements(row: Mapping[str, Any]) -> int:
    return int(torch.Size(row["shape"]).numel())


def _kept(decoded: Decoded) -> torch.Tensor:
    assert decoded.kept is not None
    return decoded.kept


def _graph_facts(graph: Graph) -> dict[str, Any]:
    kinds: dict[str, int] = {}
    for node in graph.proto.graph.node:
        kinds[node.op_type] = kinds.get(node.op_type, 0) + 1
    return {
        "opset": {item.domain or "ai.onnx": item.version for item in graph.proto.opset_import},
        "nodes": kinds,
        **(_packed(graph) if ENGINE_DOMAIN in graph.domains else {"weight sparsity": f"{weight_sparsity(graph):.4f}"}),
        **_told(graph),
    }


def _packed(graph: Graph) -> dict[str, Any]:
    """What the sparse engine runs of a graph, whose weights are in its plans."""
    found = plans(graph)
    kinds = Counter(type(each).__name__ for data in found.values() for each in plan_from_bytes(data).operators)
    return {"engine": {"plans": len(found), "bytes": sum(map(len, found.values())), "operators": dict(kinds)}}


def _told(graph: Graph) -> dict[str, Any]:
    """What the graph says of its input and its classes, where it does."""
    preprocessing, classes = read_preprocessing(graph.proto), read_classes(graph.proto)
    told: dict[str, Any] = {} if preprocessing is None else {"preprocessing": preprocessing.to_json()}
    return told if classes is None else {**told, "classes": list(classes)}


def _provenance(told: Mapping[str, Any] | None) -> dict[str, Any]:
    if told is None:
        return {}
    return {key: told.get(key) for key in ("architecture", "method", "seed", "versions")}
