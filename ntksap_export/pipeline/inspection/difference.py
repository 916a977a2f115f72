"""What two files differ in, one tensor of each in memory at a time.

Of the same content are two files with the same names, shapes, dtypes, masks, and every bit of every value; of two
graphs the nodes count too. How a tensor is stored, and where it comes from, is told but no difference. A mask file is
compared with the masks of a checkpoint alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch

from ntksap_export.checkpoint.container import dtype_name
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.pipeline.convert.compare import same_bits
from ntksap_export.pipeline.inspection.opened import MASK, Opened, open_any

_CHUNK: Final = 2**20  # elements that are compared at once, as float64


def compare_paths(first: Path, second: Path) -> dict[str, Any]:
    """Compare two files, of whatever kinds `open_any` opens.

    Returns:
        `same`: whether the content is. `only_first` and `only_second`: names. `tensors`: a row for each that differs,
        with what differs alone: `shape` and `dtype` (both sides), `mask` (`positions`; or which side has `only` one),
        `values` (`count` of those that are not equal, the `largest` absolute difference, None where one side is not
        finite), `bits` (true where all values are equal and not all bits, as 0 and -0 are). `encodings`: those that
        differ, both sides. `compared`, `bit_equal`: counts of tensors. `provenance` and, of two graphs, `nodes`:
        whether they are the same.

    Raises:
        CheckpointError, ExportError: one of them cannot be opened.
    """
    with open_any(first) as one, open_any(second) as other:
        masks_only = MASK in (one.format, other.format)
        names, others = _names(one, masks_only), _names(other, masks_only)
        rows: list[dict[str, Any]] = []
        encodings: dict[str, list[str]] = {}
        for name in sorted(names & others):
            left, right = one.source.read(name), other.source.read(name)
            stored = [one.stored(name, left)[0], other.stored(name, right)[0]]
            if stored[0] != stored[1]:
                encodings[name] = stored
            if one.graph and other.graph:  # there sparse is a way to store it, and no mask
                left, right = Decoded(left.tensor, None), Decoded(right.tensor, None)
            if found := _masks(left, right) if masks_only else _difference(left, right):
                rows.append({"name": name, **found})
        nodes = _same_nodes(one, other)
        return {
            "kind": "difference",
            "first": str(first),
            "second": str(second),
            "same": not rows and names == others and nodes is not False,
            "only_first": sorted(names - others),
            "only_second": sorted(others - names),
            "tensors": rows,
            "encodings": encodings,
            "compared": len(names & others),
            "bit_equal": len(names & others) - len(rows),
            "provenance": one.provenance == other.provenance,
            "nodes": nodes,
        }


def _names(opened: Opened, masks_only: bool) -> set[str]:
    names = opened.source.names()
    if not masks_only or opened.format == MASK:
        return set(names)
    return {name for name in names if opened.source.read(name).kept is not None}


def _same_nodes(one: Opened, other: Opened) -> bool | None:
    if one.graph is None or other.graph is None:
        return None
    return one.graph.without_weights() == other.graph.without_weights()


def _difference(left: Decoded, right: Decoded) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if left.tensor.dtype != right.tensor.dtype:
        found["dtype"] = [dtype_name(left.tensor.dtype), dtype_name(right.tensor.dtype)]
    if left.tensor.shape != right.tensor.shape:
        return {**found, "shape": [list(left.tensor.shape), list(right.tensor.shape)]}
    found |= _masks(left, right)
    if same_bits(left.tensor, right.tensor):
        return found
    count, largest = _values(left.tensor, right.tensor)
    if count:
        return {**found, "values": {"count": count, "largest": largest if math.isfinite(largest) else None}}
    return found if "dtype" in found else {**found, "bits": True}


def _masks(left: Decoded, right: Decoded) -> dict[str, Any]:
    if left.kept is None or right.kept is None:
        if left.kept is right.kept:
            return {}
        return {"mask": {"only": "second" if left.kept is None else "first"}}
    if left.kept.shape != right.kept.shape:
        return {"shape": [list(left.kept.shape), list(right.kept.shape)]}
    positions = int((left.kept != right.kept).sum())
    return {"mask": {"positions": positions}} if positions else {}


def _values(left: torch.Tensor, right: torch.Tensor) -> tuple[int, float]:
    """How many values are not equal, and their largest absolute difference; a NaN is equal to a NaN."""
    count, largest = 0, 0.0
    lefts, rights = left.reshape(-1), right.reshape(-1)
    for start in range(0, lefts.numel(), _CHUNK):
        one, other = lefts[start : start + _CHUNK], rights[start : start + _CHUNK]
        unequal = _unequal(one, other)
        if some := int(unequal.sum()):
            count += some
            gap = (_wide(one)[unequal] - _wide(other)[unequal]).abs().max()  # NaN where one is
            largest = max(largest, float(gap)) if bool(gap.isfinite()) else math.inf
    return count, largest


def _unequal(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    if one.dtype == other.dtype and not one.is_floating_point() and not one.is_complex():
        return one != other  # as float64 large integers would be rounded
    left, right = _wide(one), _wide(other)
    return (left != right) & ~(left.isnan() & right.isnan())


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.complex128 if values.is_complex() else torch.float64)
