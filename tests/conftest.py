"""What many tests share: a small finished run, and the command line called in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ntksap_export.config import RunConfig, make_config
from ntksap_export.pipeline import run_road
from ntksap_export.progress import Task

SMALL = {
    "model": "resnet20",
    "image_size": 16,
    "rounds": 2,
    "epochs": 2,
    "batch_size": 128,
    "precision": "fp32",
    "profile_batch": (1,),
    "profile_backend": ("onnxruntime",),
    "profile_min_time": 0.05,
    "profile_max_time": 0.05,
}
SMALL_FLAGS = (
    *("--image-size", "16", "--rounds", "2", "--epochs", "2", "--batch-size", "128", "--precision", "fp32"),
    *("--profile-batch", "1", "--profile-backend", "onnxruntime", "--profile-min-time", "0.05"),
    *("--profile-max-time", "0.05"),
)


class Recorder:
    """A `Progress` that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        class Quiet:
            def advance(self, steps: int = 1, note: str = "") -> None: ...

        yield Quiet()


def small_config(**changes: object) -> RunConfig:
    return make_config({**SMALL, **changes})


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """A run with `--threads` sets them for the process; other numbers of threads round otherwise."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_road(
        small_config(), tmp_path_factory.mktemp("run") / "out", command="ntksap prune-train-export resnet20"
    )


@pytest.fixture
def finished_run(_finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a small finished run, to be changed at will."""
    copy = tmp_path / "finished"
    shutil.copytree(_finished_run, copy)
    return copy


@pytest.fixture
def ntksap(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in this process: arguments -> (exit code, standard output, standard error)."""
    from ntksap_export.cli.app import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ntksap", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return call
