from __future__ import annotations

import json
import platform
import re
import socket
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
import torch

from ntksap_export.profiling import environment as module
from ntksap_export.profiling.environment import environment


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return environment()


def test_environment_says_what_a_reader_needs(found: dict[str, Any]) -> None:
    assert {
        "cpu",
        "isa",
        "cores",
        "physical_cores",
        "logical_cpus",
        "smt",
        "numa_nodes",
        "caches_bytes",
        "virtual_machine",
        "governor",
        "load_average",
        "ram_bytes",
        "gpu",
        "os",
        "python",
        "versions",
    } == set(found)
    assert found["cpu"]
    assert found["cores"] >= 1
    assert psutil.virtual_memory().total == found["ram_bytes"]
    assert torch.cuda.is_available() == (found["gpu"] is not None)
    assert platform.python_version() == found["python"]
    assert {
        "ntksap-export": metadata.version("ntksap-export"),
        "torch": torch.__version__,
        "onnx": metadata.version("onnx"),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        **({"openvino": metadata.version("openvino")} if find_spec("openvino") else {}),
    } == found["versions"]


def test_environment_is_plain_json(found: dict[str, Any]) -> None:
    assert found == json.loads(json.dumps(found, allow_nan=False))


def test_environment_names_neither_host_nor_path(found: dict[str, Any]) -> None:
    text = json.dumps(found)
    host = re.escape(socket.gethostname())
    places = {str(Path.home()), str(Path.cwd()), sys.prefix} - {"/"}

    assert [] == [place for place in places if place in text]
    assert [] == re.findall(r"(?:^|[\s\"'=:])/\w+", text)
    if len(host) > 4:  # shorter ones ("vm", "box") may stand in a kernel's release
        assert None is re.search(rf"\b{host}\b", text)


def test_cpu_and_instruction_sets_are_read_from_the_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "model name\t: Ideal CPU: 3 GHz\nflags\t\t: sse avx2 avx512fake amx_int8\n\nmodel name\t: Other\n"
    monkeypatch.setattr(module, "Path", lambda name: _written(tmp_path, name, text))

    found = environment()

    assert "Ideal CPU: 3 GHz" == found["cpu"]
    assert ["avx2", "amx_int8"] == found["isa"]


def test_machine_without_proc_has_unknowns_not_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "Path", lambda name: tmp_path / "absent")

    found = environment()

    assert found["cpu"]
    assert [] == found["isa"]
    unknown = ("governor", "smt", "numa_nodes", "virtual_machine")
    assert [None] * 4 == [found[key] for key in unknown]
    assert {} == found["caches_bytes"]


def test_caches_are_those_of_the_first_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K")]
    ):
        folder = tmp_path / f"index{place}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    real = Path
    monkeypatch.setattr(module, "Path", lambda name: tmp_path if str(name).endswith("/cache") else real(name))

    assert {"L1d": 48 * 1024, "L1i": 32 * 1024, "L2": 2 * 1024**2} == environment()["caches_bytes"]


def test_missing_package_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("numpy", "ntksap-no-such-package"))

    assert {"numpy": np.__version__} == environment()["versions"]


def _written(directory: Path, name: str, text: str) -> Path:
    path = directory / Path(name).name
    path.write_text(text)
    return path
