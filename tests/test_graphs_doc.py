"""docs/graphs.md is executed: its Python knows numpy and onnxruntime alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

DOC = (Path(__file__).parents[1] / "docs" / "graphs.md").read_text()
CODE, *_ = re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL)


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", CODE]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_its_check_needs_nothing_of_ours() -> None:
    assert {"numpy", "onnxruntime"} == set(re.findall(r"^(?:import|from) (\w+)", CODE, flags=re.MULTILINE))
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 10


def test_its_check_passes_beside_a_run(finished_run: Path) -> None:
    done = _run(finished_run)

    assert (0, "agrees\n") == (done.returncode, done.stdout), done.stderr


@pytest.mark.parametrize("by", [1.01, -1.0])
def test_its_check_fails_for_another_graph(finished_run: Path, by: float) -> None:
    proto = onnx.load(str(finished_run / "model.onnx"))
    (item,) = (item for item in proto.graph.initializer if item.name == "fc.weight")
    item.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(item) * by).astype("float32"), item.name))
    onnx.save(proto, str(finished_run / "model.onnx"))

    done = _run(finished_run)

    assert 0 != done.returncode
    assert "logits differs" in done.stderr


def test_it_describes_the_bytes_of_the_samples(finished_run: Path) -> None:
    """A reader written from the page's words alone."""
    import zipfile

    with zipfile.ZipFile(finished_run / "sample_inputs" / "batch2.npz") as archive:
        (info,) = archive.infolist()
        raw = archive.read(info)

    length = int.from_bytes(raw[8:10], "little")
    assert ("images.npy", zipfile.ZIP_STORED) == (info.filename, info.compress_type)
    assert b"\x93NUMPY\x01\x00" == raw[:8]
    assert (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 16, 16), }" == raw[10 : 10 + length].decode().strip()
    )
    assert 2 * 3 * 16 * 16 * 4 == len(raw) - 10 - length


def test_its_tables_are_those_of_the_benchmark() -> None:
    results = (Path(__file__).parents[1] / "benchmarks" / "results" / "graphs.txt").read_text()
    rows = [line for line in results.splitlines() if line.startswith("|")]

    assert len(rows) > 20
    assert [] == [row for row in rows if row not in DOC]
