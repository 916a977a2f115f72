"""Graphs with nodes of the sparse engine in our openers: who registers what, and what is said where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntksap_export.engine import library_path
from ntksap_export.errors import ExportError, UnavailableError
from ntksap_export.graph import Graph
from ntksap_export.runtime.engine import give_engine, uses_engine
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.same import compare_graphs
from tests.support.engine import NOT_BUILT, needs_engine, take_library_away, write_engine_graph

from .precision_cases import batches, small_graph


class Settings:
    """Stands for onnxruntime's SessionOptions."""

    def __init__(self) -> None:
        self.registered: list[str] = []

    def register_custom_ops_library(self, path: str) -> None:
        self.registered.append(path)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    small_graph().save(path)
    return path


@pytest.fixture
def body(plain: Path) -> Path:
    return write_engine_graph(Graph.load(plain), plain.with_name("model.sparse.onnx"))


def test_other_graphs_get_no_library(plain: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    take_library_away(monkeypatch, tmp_path)
    settings = Settings()

    give_engine(settings, plain)
    give_engine(settings, plain.read_bytes(), "cuda")

    assert [] == settings.registered
    assert not uses_engine(plain)


@needs_engine
def test_the_engines_graph_gets_it_from_a_path_and_from_bytes(body: Path) -> None:
    settings = Settings()

    give_engine(settings, body)
    give_engine(settings, body.read_bytes())

    assert [str(library_path())] * 2 == settings.registered


def test_it_runs_on_the_cpu_only(body: Path) -> None:
    with pytest.raises(UnavailableError, match=r"runs on the CPU; got cuda, where model\.onnx is to be used"):
        give_engine(Settings(), body, "cuda")


def test_without_the_library_a_line_says_what_to_do(
    body: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    take_library_away(monkeypatch, tmp_path)

    with pytest.raises(UnavailableError) as error:
        OrtSession(body)

    assert str(error.value).startswith(NOT_BUILT)
    assert str(error.value).endswith("or use model.onnx")


@needs_engine
@pytest.mark.parametrize("optimization", ["off", "all"])
def test_it_answers_as_the_graph_that_it_was_made_of(plain: Path, body: Path, optimization: str) -> None:
    with OrtSession(plain, optimization="off") as one, OrtSession(body, optimization=optimization) as other:
        for images in batches(3):
            expected, actual = one.run(images), other.run(images)

            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))
        assert one.input_shape == other.input_shape


@needs_engine
def test_two_graphs_are_compared_whoever_runs_them(plain: Path, body: Path) -> None:
    checks = compare_graphs(plain, body, size=8, atol=1e-5, rtol=1e-4)

    assert checks
    assert all(check.passed for check in checks)


@needs_engine
def test_a_damaged_plan_is_a_line(body: Path) -> None:
    content = body.read_bytes()
    at = content.index(b"NTKSPLN1")
    body.write_bytes(content[:at] + b"NTKSPLN9" + content[at + 8 :])

    with pytest.raises(ExportError, match="onnxruntime cannot load the graph") as error:
        OrtSession(body)
    assert 1 == len(str(error.value).splitlines())


def test_openvino_is_told_to_take_the_other_graph(body: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    from ntksap_export.runtime.ov import OpenVinoSession

    with pytest.raises(
        UnavailableError, match=r"openvino does not know the sparse engine's nodes; give it model\.onnx"
    ):
        OpenVinoSession(body)


def test_a_session_loads_neither_torch_nor_onnx(plain: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom ntksap_export.runtime.ort import OrtSession\n"
        f"OrtSession(Path({str(plain)!r})).close()\nprint(sorted({{'torch', 'onnx'}} & sys.modules.keys()))"
    )

    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout
