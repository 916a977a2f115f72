"""`ntksap sweep` as its user sees it: refusals, the plan, the table of points, exit codes; killed and begun again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ntksap_export.cli.settings import load_settings, sweep_out
from ntksap_export.pipeline import sweep_measure
from tests.pipeline.sweep_cases import TINY, FakeProfile
from tests.support.own import own_module

Call = Callable[..., tuple[int, str, str]]
FLAGS = (
    *("--image-size", "8", "--method", "magnitude", "--sparsity", "0.5,0.75", "--rounds", "1", "--epochs", "1"),
    *("--batch-size", "256", "--train-precision", "fp32", "--profile-batch", "1", "--profile-threads", "1"),
    *("--profile-backend", "onnxruntime", "--profile-device", "cpu"),
    *("--profile-min-time", "0.05", "--profile-max-time", "0.1"),
)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "name a MODEL, see `ntksap list models`"),
        (("resnet5O",), 2, "unknown model 'resnet5O'"),
        (("resnet20", "--sparsity", "0.8,x"), 2, "--sparsity takes numbers separated by commas; got '0.8,x'"),
        (("resnet20", "--sparsity", "80"), 2, "For 80 % write --sparsity 0.8"),
        (("resnet20", "--method", "snip,ntk-sap"), 2, "unknown method 'ntk-sap'; did you mean ntksap"),
        (("resnet20", "--pattern", "2to4"), 2, "unknown pattern '2to4'"),
        (("resnet20", "--pattern", "2:4", "--sparsity", "0.8"), 2, "--sparsity applies to none of the patterns 2:4"),
        (("resnet20", "--precision", "fp32,int4"), 2, "--precision takes fp32, fp16, int8"),
        (("resnet20", "--train-precision", "fp8"), 2, "precision: input should be"),
        (("resnet20", "--max-latency", "0"), 2, "--max-latency must be above 0 ms"),
        (("resnet20", "--max-size", "-3"), 2, "--max-size must be above 0 MB; got -3"),
        (("resnet20", "--min-accuracy", "90"), 2, "For 90 % write --min-accuracy 0.9"),
        (("resnet20", "--data", "no/such/folder"), 3, "does not exist"),
        (("resnet20", "--passes", "no_pass"), 2, "no_pass"),
        (("resnet20", "--config", "no_such.toml"), 2, "no such file"),
    ],
)
def test_bad_input_is_a_line_and_writes_nothing(
    ntksap: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    out = tmp_path / "out"

    found, stdout, stderr = ntksap("sweep", *arguments, "--out", out)

    assert (code, "") == (found, stdout), stderr
    assert 1 == len(stderr.splitlines())
    assert said in stderr
    assert not out.exists()


def test_several_processes_are_refused(ntksap: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "x",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)

    code, _, stderr = ntksap("sweep", "resnet20", "--out", tmp_path / "out")

    assert 2 == code
    assert "`ntksap sweep` runs in one process" in stderr


def test_a_dry_run_prints_the_cells_and_writes_nothing(ntksap: Call, tmp_path: Path) -> None:
    flags = ("resnet20", *FLAGS, "--pattern", "unstructured,2:4", "--out", tmp_path / "out", "--dry-run")

    code, stdout, stderr = ntksap("sweep", *flags)
    _, told, _ = ntksap("sweep", *flags, "--json")

    assert (0, "") == (code, stderr)
    names = [line.split()[0] for line in stdout.splitlines()[3:7]]
    assert ["dense", "magnitude-unstructured-0.5", "magnitude-unstructured-0.75", "magnitude-2of4-0.5"] == names
    assert names == [cell["dir"] for cell in json.loads(told)["cells"]]
    assert "prune, train, export" in stdout
    assert "estimated time: profile" in stdout
    assert [] == list(tmp_path.iterdir())


def test_a_file_has_lists_and_flags_overrule_it(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text('model = "resnet20"\npattern = ["2:4", "4x1"]\nsparsity = [0.5, 0.7]\nepochs = 3\n')

    values = load_settings(None, file, {"sparsity": "0.25,0.75", "method": "snip", "epochs": None})

    assert {
        "model": "resnet20",
        "pattern": ["2:4", "4x1"],
        "sparsity": (0.25, 0.75),
        "method": ("snip",),
        "epochs": 3,
    } == values
    assert Path("runs/sweep-resnet20-digits") == sweep_out(values)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, str]]:
    """A sweep that was killed within its second cell and begun again; with the environment that finds its network."""
    code, out = tmp_path_factory.mktemp("code"), tmp_path_factory.mktemp("sweep") / "out"
    with pytest.MonkeyPatch.context() as patch:
        model = f"{own_module(code, patch, TINY)}:make"
    found = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ntksap_export.cli", "sweep", model, *FLAGS, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=found)
    second, deadline = out / "magnitude-unstructured-0.5" / "mask.safetensors", time.monotonic() + 300
    while not second.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    between = json.loads((out / "sweep.json").read_text())
    assert ["finished", "pending", "pending"] == [cell["status"] for cell in between["cells"]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=found)
    assert ended.returncode == 0, ended.stderr
    assert "cell 1 of 3: dense finished before, skipped" in ended.stderr
    assert "cell 2 of 3: magnitude-unstructured-0.5 ..." in ended.stderr
    assert "  dense" in ended.stdout
    return model, out, found


def test_a_killed_sweep_ends_as_one_that_was_not(
    ntksap: Call, swept: tuple[str, Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out, found = swept
    monkeypatch.syspath_prepend(found["PYTHONPATH"])

    code, _, stderr = ntksap(
        "prune-train-export", model, *FLAGS[:4], "--sparsity", "0.5", *FLAGS[6:12], "--precision", "fp32",
        *FLAGS[14:], "--threads", "1", "--out", tmp_path / "alone",
    )  # fmt: skip

    assert 0 == code, stderr
    for name in ("mask.safetensors", "model.safetensors", "model.onnx"):
        assert (tmp_path / "alone" / name).read_bytes() == (out / "magnitude-unstructured-0.5" / name).read_bytes()
    assert not list(out.rglob("*.part"))


def test_the_table_marks_the_front_and_the_chosen_point(
    ntksap: Call, swept: tuple[str, Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out, found = swept
    monkeypatch.syspath_prepend(found["PYTHONPATH"])
    monkeypatch.setattr(sweep_measure, "profile", FakeProfile())
    again = ("sweep", model, *FLAGS, "--profile-percentiles", "50,90", "--out", shutil.copytree(out, tmp_path / "out"))

    met, table, _ = ntksap(*again, "--max-latency", 9.5, "--max-size", 1)
    missed, words, _ = ntksap(*again, "--max-latency", 7, "--min-accuracy", 0)
    _, told, _ = ntksap(*again, "--json")

    assert 0 == met
    lines = table.splitlines()
    assert ["network", "precision"] == lines[0].split()[:2]
    chosen = [line.split()[1] for line in lines if line.startswith(">")]
    (verdict,) = [line for line in lines if line.startswith("chosen: ")]
    assert verdict.startswith(f"chosen: {chosen[0]} fp32 in onnxruntime on cpu (batch 1, threads 1): accuracy ")
    assert 9 == missed
    assert "no point meets the limits; nearest is magnitude-unstructured-0.75 fp32" in words
    assert "misses --max-latency 7 ms by 14.3%" in words
    assert 3 == len(json.loads(told)["cells"])


def test_control_c_keeps_what_is_finished(swept: tuple[str, Path, dict[str, str]], tmp_path: Path) -> None:
    model, out, found = swept
    copy = shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(copy / "magnitude-unstructured-0.75")
    command = [sys.executable, "-m", "ntksap_export.cli", "sweep", model, *FLAGS, "--out", str(copy)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=found,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (copy / "magnitude-unstructured-0.75" / "mask.safetensors").is_file():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()

    assert 130 == process.returncode
    assert stderr.splitlines()[-1].startswith("error: interrupted; the same command goes on")
    cells = json.loads((copy / "sweep.json").read_text())["cells"]
    assert ["finished", "finished", "pending"] == [cell["status"] for cell in cells]
