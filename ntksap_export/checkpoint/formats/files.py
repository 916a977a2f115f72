"""What the formats share: a name before every fault, indexes of sharded files, what a safetensors file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ntksap_export.checkpoint import shards
from ntksap_export.checkpoint.container import METADATA_KEY
from ntksap_export.checkpoint.json_file import json_object
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import naming, shown


def head(path: Path, count: int = 8) -> bytes:
    """The first bytes of a regular file; none of anything else."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as handle:
            return handle.read(count)
    except OSError:
        return b""


def safetensors_metadata(path: Path) -> dict[str, str] | None:
    """The metadata of a sound safetensors file, and None of anything else."""
    if len(head(path)) < 8:
        return None
    try:
        with safe_open(path, framework="pt") as handle:
            return dict(handle.metadata() or {})
    except (SafetensorError, OSError):
        return None


def is_ours(path: Path) -> bool:
    """Whether the file is a safetensors file of this package: a checkpoint, a shard of one, or a mask."""
    return METADATA_KEY in (safetensors_metadata(path) or {})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object out of a file.

    Raises:
        CheckpointError: it is missing, too large for what it should be, or no JSON object.
    """
    with naming(path):
        return json_object(path)


def is_index(path: Path) -> bool:
    """Whether the file is an index of shards."""
    if head(path, 64).lstrip()[:1] != b"{":
        return False
    try:
        return isinstance(read_json(path).get("weight_map"), dict)
    except CheckpointError:
        return False


def read_index(path: Path) -> dict[str, Path]:
    """Tensor -> the file that has it, of a Hugging Face index.

    Raises:
        CheckpointError: it is no index, or names a file outside its directory or one that is missing.
    """
    with naming(path):
        places = {name: path.with_name(file) for name, file in shards.read_index(path).files.items()}
        for shard in sorted(set(places.values())):
            if not shard.is_file():
                raise CheckpointError(f"its shard {shown(shard.name)} is missing; fetch it too")
        return places


def is_mask_file(path: Path) -> bool:
    """Whether it is a mask.safetensors of this package."""
    try:
        document = json.loads((safetensors_metadata(path) or {}).get(METADATA_KEY, "null"))
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("kind") == "mask"
