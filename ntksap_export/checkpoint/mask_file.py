"""Masks on their own, for those who bring their own training loop: one bit per weight and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ntksap_export import atomic
from ntksap_export.checkpoint.bits import pack, packed_shape, unpack
from ntksap_export.checkpoint.container import Container, open_container, shape_from_json
from ntksap_export.checkpoint.writer import container_bytes
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask
from ntksap_export.quoting import naming, shown


def save_mask(path: str | os.PathLike[str], mask: Mask, provenance_json: Mapping[str, Any]) -> None:
    """Write `mask` to `path`, whole or not at all.

    The weights' order is kept, since the last one is taken for the classifier; equal masks in equal order
    give equal bytes.

    Args:
        path: of the safetensors file; its directory is made where missing.
        mask: on any device.
        provenance_json: any JSON-able mapping, given back by `load_mask`.

    Raises:
        OSError: the disk is full or the directory cannot be written.
    """
    weights = [{"name": name, "shape": list(kept.shape)} for name, kept in mask.items()]
    document = {"kind": "mask", "weights": weights, "provenance": dict(provenance_json)}
    packed = {name: pack(kept.cpu()) for name, kept in mask.items()}
    atomic.write_bytes(Path(path), container_bytes(packed, document))


def load_mask(path: str | os.PathLike[str]) -> tuple[Mask, dict[str, Any]]:
    """Read what `save_mask` wrote: the mask, on the CPU, and the mapping that was stored with it.

    Raises:
        CheckpointError: the file is missing, foreign or damaged.
    """
    with naming(Path(path)), open_container(Path(path)) as container:
        if container.document.get("kind") != "mask":
            raise CheckpointError("not a mask file; if it is a checkpoint, read it with SparseCheckpoint.load")
        provenance = container.document.get("provenance")
        if not isinstance(provenance, dict):
            raise CheckpointError(f"its provenance must be a JSON object; got {shown(provenance)}")
        shapes = _shapes(container.document.get("weights"))
        container.expect_only(set(shapes))
        return Mask({name: _read(name, shape, container) for name, shape in shapes.items()}), provenance


def _shapes(weights: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(weights, list):
        raise CheckpointError(f"its weights must be a list; got {shown(weights)}")
    shapes: dict[str, tuple[int, ...]] = {}
    for weight in weights:
        if not isinstance(weight, dict) or set(weight) != {"name", "shape"} or not isinstance(weight["name"], str):
            raise CheckpointError(f"each of its weights must have a name and a shape; got {shown(weight)}")
        if weight["name"] in shapes:
            raise CheckpointError(f"weight {shown(weight['name'])} is listed twice; the file is damaged")
        shapes[weight["name"]] = shape_from_json(weight["shape"])
    return shapes


def _read(name: str, shape: tuple[int, ...], container: Container) -> torch.Tensor:
    container.expect(name, torch.uint8, packed_shape(shape))
    return unpack(container.read(name), shape)
