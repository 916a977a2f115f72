"""`profile_targets` of a lone graph: the whole way, with real processes and a graph of a few hundred bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.errors import ConfigError, ExportError, RunDirectoryError
from ntksap_export.pipeline import profile_targets

from ..profiling.profiling_cases import DENSE, write_graph, write_int8

pytestmark = pytest.mark.timeout(120)

QUICK = {
    "profile_device": ("cpu",),
    "profile_batch": (2,),
    "profile_threads": (1,),
    "profile_min_time": 0.01,
    "profile_max_time": 0.01,
}


def _profile(path: Path, out: Path | None = None, **changes: Any) -> dict[str, Any]:
    return profile_targets([str(path)], {**QUICK, **changes}, out=out, command="ntksap profile net.onnx")


def test_sparse_graph_is_measured_beside_a_dense_twin(tmp_path: Path) -> None:
    path, out = write_graph(tmp_path / "net.onnx"), tmp_path / "new" / "profile.json"

    result = _profile(path, out, profile_batch=(1, 2))

    assert result == json.loads(out.read_text())
    assert {"schema", "command", "environment", "settings", "files", "cells"} == set(result)
    assert (2, "ntksap profile net.onnx", [1, 2]) == (
        result["schema"],
        result["command"],
        result["settings"]["batches"],
    )
    assert {"net.onnx": path.stat().st_size} == result["files"]
    assert [("sparse", 1), ("dense", 1), ("sparse", 2), ("dense", 2)] == [
        (row["variant"], row["batch"]) for row in result["cells"]
    ]
    assert {("measured", "onnxruntime", "cpu", 1)} == {
        (row["status"], row["backend"], row["device"], row["threads"]) for row in result["cells"]
    }
    assert all(len(row["times_ms"]) == row["runs"] >= 10 for row in result["cells"])
    assert str(tmp_path) not in out.read_text()


def test_dense_graph_has_no_twin_and_nothing_is_written_unasked(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "net.onnx", weights=DENSE)

    result = _profile(path)

    assert [("dense", "measured")] == [(row["variant"], row["status"]) for row in result["cells"]]
    assert [path] == list(tmp_path.iterdir())


def test_a_size_that_the_graph_fixes_is_not_given_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fixed height \(axis 2\) of 4; got --image-size 8"):
        _profile(write_graph(tmp_path / "net.onnx"), image_size=8)


def test_zeros_of_int8_count_only_where_rounding_cannot_have_made_them(tmp_path: Path) -> None:
    (row,) = _profile(write_int8(tmp_path / "net.onnx", zeros=1))["cells"]
    found = [(row["variant"], row["precision"]) for row in _profile(write_int8(tmp_path / "s.onnx", zeros=9))["cells"]]

    assert ("dense", "int8", "measured") == (row["variant"], row["precision"], row["status"])
    assert [("sparse", "int8"), ("dense", "int8")] == found


def test_torch_is_skipped_when_asked_for(tmp_path: Path) -> None:
    result = _profile(write_graph(tmp_path / "net.onnx", weights=DENSE), profile_backend=("torch",))

    (row,) = result["cells"]
    assert "skipped" == row["status"]
    assert "no torch model" in row["reason"]


def test_open_image_size_is_an_error_that_names_the_flag(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "net.onnx", inputs="float[batch, 3, h, w] images", weights=DENSE)

    with pytest.raises(ConfigError, match=r"net\.onnx: .* the height \(axis 2\) .* --image-size"):
        _profile(path)


def test_open_image_size_can_be_given(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "net.onnx", inputs="float[batch, 3, h, w] images", weights=DENSE)

    (row,) = _profile(path, image_size=6)["cells"]

    assert ("measured", None) == (row["status"], row["reason"])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("float[batch, 3, 4, 4] images, float[1] more", "2 inputs"),
        ("float[batch, 3] images", "2 axes"),
        ("int64[batch, 3, 4, 4] images", "float32, float16, uint8"),
    ],
)
def test_graph_that_takes_no_images_is_an_error(tmp_path: Path, inputs: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _profile(write_graph(tmp_path / "net.onnx", inputs=inputs))


def test_setting_out_of_range_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="profile-batch"):
        _profile(write_graph(tmp_path / "net.onnx"), profile_batch=(0,))


@pytest.mark.parametrize("content", [None, b"garbage"], ids=["missing", "garbage"])
def test_what_is_no_graph_is_an_error_and_writes_nothing(tmp_path: Path, content: bytes | None) -> None:
    path, out = tmp_path / "net.onnx", tmp_path / "profile.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises((ExportError, RunDirectoryError), match=r"net\.onnx"):
        _profile(path, out)

    assert not out.exists()
