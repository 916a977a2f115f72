"""Every format is described and compared alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ntksap_export.checkpoint import Provenance, SparseCheckpoint, save_mask
from ntksap_export.checkpoint.formats import compressed_tensors, dense, npz, torch_file
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask
from ntksap_export.pipeline.inspection import compare_paths, inspect_path

PROVENANCE = Provenance("lenet", "synflow", 3, {}, {"torch": "2"})
KEPT = torch.tensor([[1, 1, 0, 0] * 4, [0, 1, 0, 1] * 4, [1, 0, 0, 1] * 4, [0] * 16] * 4, dtype=torch.bool)


def checkpoint(scale: float = 1.0) -> SparseCheckpoint:
    weight = torch.arange(1.0, 257).reshape(16, 16).mul(scale).masked_fill(~KEPT, 0)
    return SparseCheckpoint({"a.weight": weight, "a.bias": torch.ones(16)}, Mask({"a.weight": KEPT}), PROVENANCE)


def write(folder: Path, kind: str, source: SparseCheckpoint | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    source = source or checkpoint()
    if kind == "ntksap":
        source.save(folder / "a.safetensors")
        return folder / "a.safetensors"
    if kind == "torch-prune":
        torch_file.write(folder / "a.pt", source, None, masks=True)
        return folder / "a.pt"
    if kind == "folder":
        (folder / kind).mkdir()
        (folder / kind / "config.json").write_text("{}")
        dense.write(folder / kind / "model.safetensors", source, None)
        return folder / kind
    writers: dict[str, Any] = {
        "safetensors": dense, "torch": torch_file, "compressed-tensors": compressed_tensors, "npz": npz,
    }  # fmt: skip
    path = folder / {"safetensors": "b.safetensors", "torch": "b.pt"}.get(kind, kind)
    writers[kind].write(path, source, source.provenance)
    return path


MASKED = {"ntksap": None, "torch-prune": "dense and mask", "compressed-tensors": "sparse-bitmask", "npz": "csr"}


@pytest.mark.parametrize("kind", [*MASKED, "safetensors", "torch", "folder"])
def test_each_format_is_described(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)

    found = inspect_path(path)

    rows = {row["name"]: row for row in found["tensors"]}
    row = rows["a.weight"]
    assert ([16, 16], "float32", 1024, kind in MASKED, 96) == tuple(
        row[key] for key in ("shape", "dtype", "dense_bytes", "masked", "kept")
    )
    assert 1 - 96 / 256 == row["sparsity"]
    structure = row["structure"]
    assert ("2:4", "input channels", 16, 4, 16, 4) == tuple(structure.values())
    assert (MASKED[kind] if MASKED.get(kind) else row["encoding"]) == row["encoding"]
    assert None is rows["a.bias"]["structure"]
    assert "0.6250" == found["facts"]["sparsity"]
    assert ("synflow" if kind in ("ntksap", "compressed-tensors", "npz") else None) == found["facts"].get("method")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    assert 0 < found["file_bytes"] <= sum(file.stat().st_size for file in files)
    assert found == json.loads(json.dumps(found))


@pytest.mark.parametrize("kind", ["ntksap", "compressed-tensors", "npz"])
def test_bytes_of_a_masked_tensor_are_those_in_the_file(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)

    found = inspect_path(path)

    row = next(row for row in found["tensors"] if row["name"] == "a.weight")
    if kind == "npz":
        assert (path / "a.weight.npz").stat().st_size == row["stored_bytes"]
    elif kind == "compressed-tensors":
        assert 96 * 4 + 16 * 2 + 16 * 8 + 2 * 8 == row["stored_bytes"]
    else:
        assert 96 < row["stored_bytes"] < path.stat().st_size


@pytest.mark.parametrize("second", list(MASKED))
@pytest.mark.parametrize("first", list(MASKED))
def test_formats_that_keep_masks_hold_the_same_content(tmp_path: Path, first: str, second: str) -> None:
    found = compare_paths(write(tmp_path / "1", first), write(tmp_path / "2", second))

    assert (True, [], 2, 2) == (found["same"], found["tensors"], found["compared"], found["bit_equal"])
    assert (first == second) == (found["encodings"] == {})


def test_a_mask_that_was_lost_is_a_difference(tmp_path: Path) -> None:
    found = compare_paths(write(tmp_path, "ntksap"), write(tmp_path, "safetensors"))

    assert not found["same"]
    assert [{"name": "a.weight", "mask": {"only": "first"}}] == found["tensors"]
    assert not found["provenance"]


def saved(path: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, path)
    return path


def compared(tmp_path: Path, left: torch.Tensor, right: torch.Tensor) -> dict[str, Any]:
    first, second = saved(tmp_path / "1.safetensors", w=left), saved(tmp_path / "2.safetensors", w=right)
    rows: list[dict[str, Any]] = compare_paths(first, second)["tensors"]
    return rows[0] if rows else {}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 2.5, 1]), {"values": {"count": 2, "largest": 2.0}}),
        (torch.tensor([0.0, 1]), torch.tensor([-0.0, 1]), {"bits": True}),
        (torch.tensor([NAN, 1]), torch.tensor([NAN, 1]), {}),
        (torch.tensor([NAN, 1]), torch.tensor([0.0, 2]), {"values": {"count": 2, "largest": None}}),
        (torch.tensor([INF]), torch.tensor([-INF]), {"values": {"count": 1, "largest": None}}),
        (torch.tensor([2**62]), torch.tensor([2**62 + 1]), {"values": {"count": 1, "largest": 0.0}}),
        (torch.tensor([0.5]), torch.tensor([0.5]).half(), {"dtype": ["float32", "float16"]}),
        (
            torch.tensor([0.1]),
            torch.tensor([0.1]).bfloat16(),
            {
                "dtype": ["float32", "bfloat16"],
                "values": {"count": 1, "largest": abs(float(np.float32(0.1)) - 0.10009765625)},
            },
        ),
        (torch.zeros(2, 3), torch.zeros(3, 2), {"shape": [[2, 3], [3, 2]]}),
        (torch.tensor([True, False]), torch.tensor([True, True]), {"values": {"count": 1, "largest": 1.0}}),
        (
            torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn),
            torch.tensor([1.0, 4.0]).to(torch.float8_e4m3fn),
            {"values": {"count": 1, "largest": 2.0}},
        ),
    ],
)
def test_what_differs_in_a_tensor(
    tmp_path: Path, left: torch.Tensor, right: torch.Tensor, expected: dict[str, Any]
) -> None:
    row = compared(tmp_path, left, right)

    assert expected == {key: value for key, value in row.items() if key != "name"}


def test_values_are_compared_chunk_by_chunk(tmp_path: Path) -> None:
    left = torch.zeros(2**20 + 5)
    right = left.clone()
    right[[3, 2**20 + 4]] = torch.tensor([1.0, -7])

    assert {"count": 2, "largest": 7.0} == compared(tmp_path, left, right)["values"]


def test_names_that_only_one_has(tmp_path: Path) -> None:
    one = saved(tmp_path / "1.safetensors", a=torch.ones(1), b=torch.ones(1))
    two = saved(tmp_path / "2.safetensors", b=torch.ones(1), c=torch.ones(1))

    found = compare_paths(one, two)

    assert (["a"], ["c"], False) == (found["only_first"], found["only_second"], found["same"])


def test_a_mask_file_is_compared_with_the_masks_of_a_checkpoint(tmp_path: Path) -> None:
    model, other = write(tmp_path, "ntksap"), KEPT.clone()
    other[0, :3] = ~other[0, :3]
    save_mask(tmp_path / "same.safetensors", Mask({"a.weight": KEPT}), PROVENANCE.to_json())
    save_mask(tmp_path / "other.safetensors", Mask({"a.weight": other}), PROVENANCE.to_json())

    assert compare_paths(tmp_path / "same.safetensors", model)["same"]
    found = compare_paths(model, tmp_path / "other.safetensors")
    assert [{"name": "a.weight", "mask": {"positions": 3}}] == found["tensors"]
    assert "2:4" == inspect_path(tmp_path / "same.safetensors")["tensors"][0]["structure"]["pattern"]


def test_a_run_directory_that_is_trained_is_compared_by_its_checkpoint(finished_run: Path) -> None:
    found = compare_paths(finished_run, finished_run / "model.safetensors")

    assert found["same"]
    assert "run directory" == inspect_path(finished_run)["kind"]


def test_graphs_are_compared_with_their_nodes(finished_run: Path, tmp_path: Path) -> None:
    from ntksap_export.graph import Graph

    graph = Graph.load(finished_run / "model.onnx")
    changed, renamed = (type(graph.proto)() for _ in range(2))
    changed.CopyFrom(graph.proto)
    renamed.CopyFrom(graph.proto)
    item = changed.graph.initializer[0]
    size = int(np.prod(item.dims))
    item.raw_data = np.ones(size, dtype=np.float32).tobytes()
    renamed.graph.node[0].name += "_other"
    Graph(changed, ()).save(tmp_path / "changed.onnx")
    Graph(renamed, ()).save(tmp_path / "renamed.onnx")

    assert compare_paths(finished_run / "model.onnx", finished_run / "model.onnx")["same"]
    found = compare_paths(finished_run / "model.onnx", tmp_path / "changed.onnx")
    assert [item.name] == [row["name"] for row in found["tensors"]]
    assert found["nodes"]
    found = compare_paths(finished_run / "model.onnx", tmp_path / "renamed.onnx")
    assert ([], False, False) == (found["tensors"], found["nodes"], found["same"])


def test_a_sparse_initializer_is_told_and_no_difference(finished_run: Path, tmp_path: Path) -> None:
    from ntksap_export.graph import sparsify

    names = sparsify(finished_run / "model.onnx", tmp_path / "sparse.onnx")

    found = compare_paths(finished_run / "model.onnx", tmp_path / "sparse.onnx")
    rows = {row["name"]: row for row in inspect_path(tmp_path / "sparse.onnx")["tensors"]}

    assert names
    assert (True, True) == (found["same"], found["nodes"])
    assert {name: ["dense", "sparse"] for name in names} == found["encodings"]
    assert "sparse" == rows[names[0]]["encoding"]


@pytest.mark.parametrize("content", [b"", b"\x80garbage", b"{}", b"\x07" * 90])
def test_garbage_beside_a_checkpoint_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "garbage").write_bytes(content)

    with pytest.raises(CheckpointError, match="garbage") as caught:
        compare_paths(write(tmp_path, "ntksap"), tmp_path / "garbage")

    assert 1 == len(str(caught.value).splitlines())
