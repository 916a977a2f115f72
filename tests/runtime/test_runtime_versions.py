"""Backward and forward: what another onnxruntime makes of our graphs. Needs an index to install it from."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from ntksap_export.runtime.samples import write_samples
from tests.support.deployed import deployed
from tests.test_graphs_doc import CODE

OLD = "1.20.1"
# opset -> the first onnxruntime that loads it, as docs/graphs.md has it
SINCE = {18: "1.20.1", 19: "1.20.1", 20: "1.20.1", 21: "1.20.1", 22: "1.21"}


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with nothing but numpy and an old onnxruntime."""
    folder = tmp_path_factory.mktemp("old")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", f"onnxruntime=={OLD}"]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=500)
    if done.returncode:
        pytest.skip(f"onnxruntime {OLD} cannot be installed: {done.stderr.strip().splitlines()[-1][:200]}")
    return python


def _check(python: Path | str, opset: int, folder: Path) -> subprocess.CompletedProcess[str]:
    case = deployed("resnet20", opset=opset)
    case.graph.save(folder / "model.onnx")
    write_samples(folder, case.model, case.graph, case.images())
    return subprocess.run(
        [str(python), "-c", CODE], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
@pytest.mark.parametrize("opset", SINCE)
def test_old_onnxruntime_agrees_or_says_why_it_cannot(opset: int, old_python: Path, tmp_path: Path) -> None:
    done = _check(old_python, opset, tmp_path)

    if SINCE[opset] == OLD:
        assert (0, "agrees\n") == (done.returncode, done.stdout), done.stderr
    else:
        assert f"Opset {opset} is under development" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("opset", SINCE)
def test_this_onnxruntime_agrees(opset: int, tmp_path: Path) -> None:
    done = _check(sys.executable, opset, tmp_path)

    assert (0, "agrees\n") == (done.returncode, done.stdout), done.stderr
