"""`ntksap prune` under torchrun: one process talks and writes, all end together, other verbs are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export.checkpoint import SparseCheckpoint
from ntksap_export.cli import app
from ntksap_export.errors import ConfigError, DataError, UnavailableError
from ntksap_export.launch import _PLACE, _TASKS, Launch, launch
from ntksap_export.pipeline.ranks import all_or_none, check_alone, own_device
from ntksap_export.processes import from_main, rank

from ..support.ranks import on_two_ranks

FLAGS = ("resnet20", "--image-size", "16", "--method", "snip", "--rounds", "2", "--device", "cpu", "--threads", "1")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ntksap_export.cli")


def launched(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    for name, value in {"RANK": place, "LOCAL_RANK": place, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *TORCHRUN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_two_processes_write_what_one_writes(tmp_path: Path, ntksap: Callable[..., tuple[int, str, str]]) -> None:
    ended = torchrun("prune", *FLAGS, "--out", tmp_path / "two")
    code, out, _ = ntksap("prune", *FLAGS, "--out", tmp_path / "one")

    assert [0, 0] == [code, ended.returncode], ended.stderr
    assert out.replace("/one", "/two") == ended.stdout
    assert 1 == ended.stderr.count("prune ...")
    assert (tmp_path / "one" / "mask.safetensors").read_bytes() == (tmp_path / "two" / "mask.safetensors").read_bytes()


def test_what_rank_0_refuses_is_said_once_and_ends_all(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    ended = torchrun("prune", *FLAGS, "--out", tmp_path)

    assert ended.returncode != 0
    assert 1 == ended.stderr.count("error: '"), ended.stderr
    assert "holds no run of ntksap" in ended.stderr
    assert ["thesis.txt"] == [path.name for path in tmp_path.iterdir()]


def work() -> dict[str, Any]:
    told = from_main(lambda: f"from {rank()}")
    with all_or_none():
        pass
    try:
        with all_or_none():
            if rank() == 1:
                raise DataError("no such folder here")
        error = ""
    except DataError as caught:
        error = str(caught)
    try:
        check_alone("export")
    except ConfigError as caught_alone:
        return {"told": told, "error": error, "alone": str(caught_alone)}
    return {}


def test_one_that_fails_ends_all(tmp_path: Path) -> None:
    answer = {
        "told": "from 0",
        "error": "rank 1: no such folder here",
        "alone": "export runs in one process, got 2; start it without torchrun",
    }

    assert [answer, answer] == on_two_ranks(work, tmp_path)


def test_other_verbs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ntksap: Callable[..., tuple[int, str, str]]
) -> None:
    launched(monkeypatch, 0)

    code, _, err = ntksap("report", tmp_path)

    several = ", ".join(app._TOGETHER)
    assert "report" not in app._TOGETHER
    assert (
        2,
        f"error: `ntksap report` runs in one process, got 2; start it without torchrun (on several run: {several})\n",
    ) == (code, err)


def test_a_helper_speaks_last_and_says_who_it_is(
    monkeypatch: pytest.MonkeyPatch, ntksap: Callable[..., tuple[int, str, str]]
) -> None:
    launched(monkeypatch, 1)
    waited: list[float] = []
    monkeypatch.setattr(app.time, "sleep", waited.append)

    code, out, err = ntksap("prune", "resnet20", "--sparsity", "95")

    assert (2, "") == (code, out)
    assert err.startswith("[rank 1] error: sparsity must be in [0, 1)")
    assert 1 == len(waited)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "PMI_SIZE": "1"}, None),
        ({"SLURM_NTASKS": "4"}, None),  # of the job; this process need not be one of them
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, Launch(5, 8, 1, 4)),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, Launch(1, 2, 1, 2)),
    ],
)
def test_what_the_launcher_said(
    variables: dict[str, str], expected: Launch | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_exactly(variables, monkeypatch)

    assert expected == launch()


WORLD = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "4"}, "has WORLD_SIZE but not RANK, LOCAL_RANK: start several processes with torchrun"),
        ({"RANK": "1", "WORLD_SIZE": "4"}, "or unset RANK, WORLD_SIZE to run one"),
        ({**WORLD, "RANK": "2"}, "RANK=2 does not go with WORLD_SIZE=2"),
        ({**WORLD, "LOCAL_RANK": "2"}, "LOCAL_RANK=2 does not go with LOCAL_WORLD_SIZE=2"),
        ({**WORLD, "LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE=3 does not go with WORLD_SIZE=2"),
        ({**WORLD, "WORLD_SIZE": "0"}, "RANK=0 does not go with WORLD_SIZE=0"),
        ({**WORLD, "RANK": "-1"}, "RANK must be a whole number; got '-1'"),
        ({**WORLD, "LOCAL_WORLD_SIZE": ""}, "LOCAL_WORLD_SIZE must be a whole number; got ''"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "4 copies of the same run would overwrite each other (SLURM_STEP_NUM_TASKS=4)"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "start them with torchrun"),
        ({"PMI_SIZE": "8", "SLURM_STEP_NUM_TASKS": "1"}, "8 copies"),
        ({"PMI_SIZE": "2", "WORLD_SIZE": "2"}, "2 copies"),
        ({**WORLD, "SLURM_STEP_NUM_TASKS": "2"}, "2 copies"),  # each task has a torchrun of its own
    ],
)
def test_a_world_that_is_none_is_refused(variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_exactly(variables, monkeypatch)

    with pytest.raises(ConfigError) as caught:
        launch()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "variables",
    [
        {**WORLD, "SLURM_STEP_NUM_TASKS": "2", "GROUP_WORLD_SIZE": "2"},  # a torchrun per machine, joined
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "SLURM_STEP_NUM_TASKS": "2"},  # srun sets the ranks itself
    ],
)
def test_tasks_that_know_each_other_are_a_world(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_exactly(variables, monkeypatch)

    assert Launch(0, 2, 0, 2) == launch()


def test_copies_are_refused_in_one_line_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ntksap: Callable[..., tuple[int, str, str]]
) -> None:
    set_exactly({"SLURM_STEP_NUM_TASKS": "4"}, monkeypatch)

    code, out, err = ntksap("prune", "resnet20", "--out", tmp_path / "out")

    assert (2, "", 1) == (code, out, len(err.splitlines()))
    assert err.startswith("error: 4 copies of the same run would overwrite each other")
    assert not (tmp_path / "out").exists()
    assert 0 == ntksap("--version")[0]


def set_exactly(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a launcher says, these variables and no others."""
    for name in (*_PLACE, *_TASKS, "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, 1)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)

    assert torch.device("cuda", 1) == own_device(torch.device("cuda"))
    assert torch.device("cpu") == own_device(torch.device("cpu"))
    assert [1] == chosen


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    with pytest.raises(UnavailableError, match="2 processes for 1 CUDA"):
        own_device(torch.device("cuda"))


TRAINING = (
    "--epochs",
    "1",
    "--batch-size",
    "400",
    "--precision",
    "fp32",
    "--profile-min-time",
    "0.01",
    "--profile-max-time",
    "0.01",
)


def test_two_processes_walk_the_whole_road(tmp_path: Path, ntksap: Callable[..., tuple[int, str, str]]) -> None:
    flags = (*FLAGS, *TRAINING, "--profile-backend", "onnxruntime", "--profile-batch", "1", "--profile-device", "cpu")
    ended = torchrun("prune-train-export", *flags, "--out", tmp_path / "two", "--json")
    code, _, _ = ntksap("prune", *FLAGS, "--out", tmp_path / "one")
    code_of_train, _, _ = ntksap("train", tmp_path / "one", *TRAINING[:-4], "--threads", "1")

    assert [0, 0, 0] == [ended.returncode, code, code_of_train], ended.stderr
    assert json.loads(ended.stdout)["parity"]
    assert "train on 2 processes on cpu in fp32" in ended.stderr
    assert 1 == ended.stderr.count("export ...")
    one, two = (tmp_path / name for name in ("one", "two"))
    digests = [json.loads((run / "mask.json").read_text())["digest"] for run in (one, two)]
    assert digests[0] == digests[1]
    losses = [json.loads((run / "metrics.json").read_text())["final"]["train_loss"] for run in (one, two)]
    # Both add in another order, and channels with hardly a weight have hardly a variance to divide by: in float32 it
    # shows, in float64 the weights agree to 3e-11 after these four steps.
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)
    tensors = [SparseCheckpoint.load(run / "model.safetensors").tensors for run in (one, two)]
    assert tensors[0].keys() == tensors[1].keys()
    far = {name: float((tensors[0][name] - tensors[1][name]).abs().max()) for name in tensors[0]}
    assert {} == {name: distance for name, distance in far.items() if distance > 0.1}
