"""The pipeline of docs/pipelines.md is executed as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

SCRIPT = re.findall(
    r"```sh\n(.*?)```", (Path(__file__).parents[1] / "docs" / "pipelines.md").read_text(), flags=re.DOTALL
)
Run = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture
def pipeline(finished_run: Path, tmp_path: Path) -> Run:
    """Runs the script beside a folder of two checkpoints, with the commands of this interpreter."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, words in {"python": "", "ntksap": " -m ntksap_export.cli"}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (commands / name).chmod(0o755)
    (tmp_path / "checkpoints").mkdir()
    shutil.move(finished_run, tmp_path / "checkpoints" / "small")
    torch.save({"state_dict": {"module.w": torch.eye(8)}}, tmp_path / "checkpoints" / "other.pt")
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", SCRIPT[0]], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    return run


def agree(folder: Path, p50_ms: float) -> None:
    """What was agreed on: so slow, and larger than anything here."""
    (folder / "agreed").mkdir()
    cells = [{
        "variant": variant, "backend": "onnxruntime", "device": "cpu", "precision": "fp32", "batch": 1, "threads": 1,
        "streams": 1, "status": "measured", "latency_ms": {"p50": p50_ms, "p99": 2 * p50_ms},
        "median_ci_ms": [0.9 * p50_ms, 1.1 * p50_ms], "file_bytes": 10**9, "memory": {"run_peak_rss_bytes": 10**12},
    } for variant in ("sparse", "dense")]  # fmt: skip
    content = {"schema": 2, "environment": {"cpu": "another"}, "cells": cells}
    (folder / "agreed" / "small.json").write_text(json.dumps(content))


def test_there_is_one_script() -> None:
    assert 1 == len(SCRIPT)


def test_the_pipeline_delivers(pipeline: Run, tmp_path: Path) -> None:
    agree(tmp_path, p50_ms=1e4)

    ended = pipeline()

    assert 0 == ended.returncode, ended.stderr
    rows = [json.loads(line) for line in (tmp_path / "converted.jsonl").read_text().splitlines()]
    assert ["converted", "converted"] == [row["status"] for row in rows]
    assert 2 == ended.stdout.count("the same content")
    assert "passed: p50 > 1.2 in 0 of 2 cells" in ended.stdout
    assert "not the same machine: CPU another before" in ended.stdout
    assert 3 == len((tmp_path / "profiles" / "small.csv").read_text().splitlines())
    assert {"other.safetensors", "small.safetensors"} == {path.name for path in (tmp_path / "delivered").glob("*.s*")}


def test_the_pipeline_fails_on_a_regression(pipeline: Run, tmp_path: Path) -> None:
    agree(tmp_path, p50_ms=1e-6)

    ended = pipeline()

    assert 9 == ended.returncode
    assert ended.stdout.splitlines()[-1].startswith("failed: p50 > 1.2 in 2 of 2 cells, worst ")


def test_the_pipeline_fails_on_a_damaged_checkpoint(pipeline: Run, tmp_path: Path) -> None:
    agree(tmp_path, p50_ms=1e4)
    path = tmp_path / "checkpoints" / "other.pt"
    path.write_bytes(path.read_bytes()[:-300])

    ended = pipeline()

    assert 4 == ended.returncode
    assert "other.pt" in ended.stderr
    assert not (tmp_path / "pairs.tsv").exists()
