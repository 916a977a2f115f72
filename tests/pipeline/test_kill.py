"""`kill -9` at any moment, the same command again: the result is that of a run that was never killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SMALL_FLAGS

COMMAND = [sys.executable, "-m", "ntksap_export.cli", "prune-train-export", "resnet20", *SMALL_FLAGS, "--out"]


def begun(stage: str) -> Callable[[Path], bool]:
    return lambda out: (
        (out / ".ntksap" / "state.json").is_file() and f'"{stage}"' in (out / ".ntksap" / "state.json").read_text()
    )


def first_epoch(out: Path) -> bool:
    return (out / "metrics.jsonl").is_file()


def within_epoch(out: Path) -> bool:
    return (out / ".ntksap" / "training" / "index.json").is_file()


def kill_when(moment: Callable[[Path], bool], out: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, str(out), "--checkpoint-minutes", "1e-6"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not moment(out):
        assert process.poll() is None, "the run ended before the moment came"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    "moment",
    [
        within_epoch,
        *(
            pytest.param(moment, marks=pytest.mark.slow)
            for moment in (begun("prune"), first_epoch, begun("export"), begun("profile"))
        ),
    ],
)
def test_killed_run_goes_on_and_ends_the_same(
    moment: Callable[[Path], bool], finished_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    kill_when(moment, out)
    ended = subprocess.run([*COMMAND, str(out)], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    for name in ("mask.safetensors", "model.safetensors", "model.onnx"):
        assert (finished_run / name).read_bytes() == (out / name).read_bytes()
    assert not list(out.rglob("*.part"))
    if moment in (within_epoch, first_epoch):
        assert "training goes on after epoch " in ended.stderr


def test_sigterm_saves_within_an_epoch_and_has_its_own_code(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen([*COMMAND, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (out / "metrics.jsonl").is_file():  # the second epoch has begun, or will
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    ended = subprocess.run([*COMMAND, str(out)], capture_output=True, text=True, check=False)

    assert 143 == process.returncode, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: stopped by SIGTERM, the state after epoch 1"), err
    assert last.endswith("is saved; the same command goes on from there")
    assert 0 == ended.returncode, ended.stderr
    assert "training goes on after epoch 1" in ended.stderr
    assert (finished_run / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_sigterm_outside_training_ends_with_its_own_code(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen([*COMMAND, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not begun("prune")(out):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()

    assert 143 == process.returncode
    assert err.strip().splitlines()[-1].startswith("error: stopped by SIGTERM; the same command goes on")
    assert "Traceback" not in err


def test_control_c_ends_with_one_line_and_its_own_code(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not begun("prune")(out):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()

    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("error: interrupted; the same command goes on")
    assert "Traceback" not in err


def test_two_processes_do_not_share_a_directory(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = subprocess.Popen([*COMMAND, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not begun("prune")(out):
        assert first.poll() is None
        time.sleep(0.005)
    second = subprocess.run([*COMMAND, str(out)], capture_output=True, text=True, check=False)
    first.kill()
    first.wait()

    assert second.returncode == 4
    assert "another ntksap is working" in second.stderr


def test_a_full_disk_leaves_one_line_and_no_half_file(tmp_path: Path) -> None:
    # A limit on the size of files stands in for a full disk: the write fails in the middle, with OSError.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "from ntksap_export.cli.app import main; sys.argv[0] = 'ntksap'; main()"
    )
    out = tmp_path / "run"
    ended = subprocess.run(
        [sys.executable, "-c", code, *COMMAND[3:], str(out)], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 8, ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("error: cannot write or read")
    assert "Traceback" not in ended.stderr
    assert not (out / "mask.safetensors").exists()
    assert not list(out.rglob("*.part"))
