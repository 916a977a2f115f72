"""The library used by C++ programs: through its own interface, and inside onnxruntime's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ntksap_export.engine.library import NativePlan, available, library_path
from tests.engine.check_ort_abi import check, find_header
from tests.engine.raw_plans import TINY, every_kind
from tests.engine.sparse_models import sparse_model
from tests.support.native import BUILD, needs_compiler

HERE = Path(__file__).parent
RUNTIME = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime*.so*"), None)
pytestmark = [needs_compiler, pytest.mark.skipif(not available(), reason="the engine is not built")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("outside") / "outside"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{BUILD.NATIVE}", f"-I{HERE}"]
    command = [*BUILD.find_compiler(), *flags, str(HERE / "outside.cpp"), "-o", str(out), "-ldl"]
    subprocess.run(command, check=True)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The plan with every kind of operator, its model, and three images."""
    data, _ = every_kind()
    images = np.random.default_rng(0).standard_normal((3, 3, 6, 6)).astype(np.float32)
    (tmp_path / "plan").write_bytes(data)
    (tmp_path / "model.sparse.onnx").write_bytes(sparse_model(data, [("N", 3, 6, 6)], 2))
    images.tofile(tmp_path / "images")
    NativePlan(data).run([images])[0].tofile(tmp_path / "expected")
    return tmp_path


def logits(folder: Path, name: str) -> np.ndarray:
    return np.fromfile(folder / name, np.float32)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_program_runs_a_plan_through_the_c_interface(program: Path, folder: Path, threads: str) -> None:
    files = [str(folder / name) for name in ("plan", "images", "out")]

    subprocess.run([str(program), "plan", str(library_path()), *files, threads, "3"], check=True)

    np.testing.assert_allclose(logits(folder, "expected"), logits(folder, "out"), atol=1e-5)


def test_a_program_is_told_why_a_plan_is_refused(program: Path, folder: Path) -> None:
    (folder / "plan").write_bytes(TINY[:-4])
    files = [str(folder / name) for name in ("plan", "images", "out")]

    done = subprocess.run(
        [str(program), "plan", str(library_path()), *files, "1", "3"], check=False, capture_output=True, text=True
    )

    assert (1, f"the weights end at byte {len(TINY)}, the plan has {len(TINY) - 4}\n") == (done.returncode, done.stderr)


@pytest.mark.skipif(RUNTIME is None, reason="this onnxruntime brings no library of its own")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_program_runs_a_model_in_onnxruntime(program: Path, folder: Path, threads: str) -> None:
    files = [str(folder / name) for name in ("model.sparse.onnx", "images", "out")]
    command = [str(program), "ort", str(library_path()), *files, threads, "3", "3", "6", "6", str(RUNTIME)]

    subprocess.run(command, check=True)

    np.testing.assert_allclose(logits(folder, "expected"), logits(folder, "out"), atol=1e-5)


@pytest.mark.skipif(find_header() is None, reason="onnxruntime's own header is not installed")
def test_our_declarations_agree_with_onnxruntimes_header() -> None:
    header = find_header()
    assert header is not None

    assert check(header).startswith("34 slots and 25 members agree")
