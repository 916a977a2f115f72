from __future__ import annotations

import json
from pathlib import Path

import pytest

from ntksap_export.errors import CheckpointError, ExportError, NtksapError
from ntksap_export.graph import Graph
from ntksap_export.pipeline.inspection import inspect_path

from .graph_cases import parse


def test_onnx_graph_is_described(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    Graph(parse(), ()).save(path)

    found = inspect_path(path)

    row = {
        "name": "w",
        "shape": [3, 2],
        "dtype": "float32",
        "encoding": "dense",
        "stored_bytes": 24,
        "dense_bytes": 24,
        "sparsity": 1 - 4 / 6,
        "masked": False,
        "kept": 4,
        "structure": {
            "pattern": "unstructured",
            "along": None,
            "outputs": 3,
            "empty_outputs": 0,
            "inputs": 2,
            "empty_inputs": 0,
        },
    }
    nodes = {"GlobalAveragePool": 1, "Flatten": 1, "MatMul": 1, "Add": 1}
    assert {
        "kind": "ONNX graph",
        "format": "onnx",
        "file_bytes": path.stat().st_size,
        "tensors": [row],
        "facts": {"opset": {"ai.onnx": 20}, "nodes": nodes, "weight sparsity": "0.3333"},
    } == found
    assert found == json.loads(json.dumps(found))


@pytest.mark.parametrize(("name", "error"), [("garbage.onnx", ExportError), ("garbage", CheckpointError)])
def test_garbage_is_an_error_of_one_line(tmp_path: Path, name: str, error: type[NtksapError]) -> None:
    (tmp_path / name).write_bytes(b"\x07garbage\n" * 9)

    with pytest.raises(error, match="garbage") as caught:
        inspect_path(tmp_path / name)

    assert 1 == len(str(caught.value).splitlines())


@pytest.mark.parametrize("name", ["absent.onnx", "absent"])
def test_missing_path_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=f"no such file or directory '.*{name}'"):
        inspect_path(tmp_path / name)
