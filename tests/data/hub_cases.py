"""Folders as Hugging Face's `datasets` writes them: save_to_disk and parquet."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from .cases import jpeg

arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra `hf`)")
parquet = importlib.import_module("pyarrow.parquet")
Features = dict[str, dict[str, Any]]

FEATURES: Features = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"},
}


def table(count: int, seed: int = 0, side: int = 16, features: Features | None = FEATURES) -> Any:
    images = [{"bytes": jpeg(seed + i, (side, side), "PNG"), "path": f"{i}.png"} for i in range(count)]
    metadata = None if features is None else {"huggingface": json.dumps({"info": {"features": features}})}
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    schema = arrow.schema([("image", kind), ("label", arrow.int64())], metadata=metadata)
    return arrow.table({"image": images, "label": [i % 3 for i in range(count)]}, schema=schema)


def write_saved(root: Path, splits: dict[str, list[Any]]) -> Path:
    for split, parts in splits.items():
        (root / split).mkdir(parents=True)
        names = [f"data-{number:05d}-of-{len(parts):05d}.arrow" for number in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            with arrow.ipc.new_stream(str(root / split / name), part.schema) as writer:
                writer.write_table(part, max_chunksize=4)
        state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "f", "_split": None}
        (root / split / "state.json").write_text(json.dumps(state))
        (root / split / "dataset_info.json").write_text("{}")
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return root


def saved(root: Path) -> Path:
    return write_saved(root, {"train": [table(9), table(6, 9)], "test": [table(3, 90)]})


def written(root: Path, train: Any, val: Any, held_out: str = "test") -> Path:
    root.mkdir(parents=True)
    for name, part in (("train", train), (held_out, val)):
        parquet.write_table(part, root / f"{name}-00000-of-00001.parquet", row_group_size=4)
    return root
