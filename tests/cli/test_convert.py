"""`ntksap convert` as its user sees it: lines, exit codes, where outputs go, what is refused before any is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from ntksap_export.checkpoint import SparseCheckpoint
from ntksap_export.cli.commands.convert import Dtype, Formats
from ntksap_export.pipeline.convert.options import DTYPES, GRAPHS, SUFFIXES
from tests.checkpoint.checkpoint_cases import bits, checkpoint_of_net
from tests.pipeline.convert_cases import content

Call = Callable[..., tuple[int, str, str]]


def net(path: Path, factor: float = 1.0) -> Path:
    torch.save({"state_dict": {"module.fc.weight": torch.arange(12.0).reshape(3, 4) * factor}}, path)
    return path


def rows(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def refused(result: tuple[int, str, str], code: int, said: str) -> None:
    assert (code, "") == result[:2], result
    (line,) = [line for line in result[2].splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in result[2]


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if ".ntksap" not in path.parts)


def test_one_file(ntksap: Call, tmp_path: Path) -> None:
    source, out = net(tmp_path / "net.pth"), tmp_path / "net.safetensors"

    code, text, _ = ntksap("convert", source, out)
    again = ntksap("convert", source, out)

    assert 0 == code
    assert text.startswith(f"{source} -> {out}: torch to ntksap, 0.00")
    assert (0, f"{out}: unchanged, nothing to do\n") == again[:2]
    weight = torch.arange(12.0).reshape(3, 4)
    assert bits(weight) == bits(SparseCheckpoint.load(out).tensors["fc.weight"])


def test_a_line_of_json_for_each_file(ntksap: Call, tmp_path: Path) -> None:
    checkpoint_of_net().save(tmp_path / "a.safetensors")
    net(tmp_path / "b.pt")
    (tmp_path / "c.pt").write_bytes(b"PK broken")

    arguments = (tmp_path / "a.safetensors", tmp_path / "b.pt", tmp_path / "c.pt", tmp_path / "out")
    code, out, err = ntksap("convert", *arguments, "--to", "safetensors", "--json", "--keep-going")

    first, second, third = rows(out)
    assert 4 == code
    assert ["converted", "converted", "failed"] == [row["status"] for row in (first, second, third)]
    assert ("ntksap", "safetensors", str(tmp_path / "a.safetensors")) == (first["from"], first["to"], first["input"])
    assert str(tmp_path / "out" / "a.safetensors") == first["output"]
    assert (tmp_path / "a.safetensors").stat().st_size == first["bytes_in"]
    assert (tmp_path / "out" / "a.safetensors").stat().st_size == first["bytes_out"]
    assert pytest.approx(first["bytes_in"] / first["bytes_out"], abs=1e-4) == first["ratio"]
    assert pytest.approx(1 - checkpoint_of_net().mask.density) == first["sparsity"]
    assert (None, None) == (second["sparsity"], second["error"])
    assert f"error: {third['error']}\n" in err
    assert str(tmp_path / "c.pt") in third["error"]
    assert (None, None, None) == (third["sha256"], third["bytes_out"], third["ratio"])


def test_without_keep_going_the_first_failure_ends_it(ntksap: Call, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"broken")
    net(tmp_path / "b.pt")

    code, out, err = ntksap("convert", tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "out")

    assert (4, "", 1) == (code, out, err.count("error: "))
    assert not (tmp_path / "out" / "b.safetensors").exists()


def test_processes_give_the_same_bytes_in_the_same_order(ntksap: Call, tmp_path: Path) -> None:
    sources = [net(tmp_path / f"{name}.pt", index) for index, name in enumerate("abc")]
    (tmp_path / "b.pt").write_bytes(b"broken")

    one = ntksap("convert", *sources, tmp_path / "one", "--json", "--keep-going")
    two = ntksap("convert", *sources, tmp_path / "two", "--json", "--keep-going", "--jobs", 2)

    assert (4, 4) == (one[0], two[0])
    keys = ("input", "status", "sha256", "error")
    assert [[row[key] for key in keys] for row in rows(one[1])] == [[row[key] for key in keys] for row in rows(two[1])]
    assert ["a.safetensors", "c.safetensors"] == files(tmp_path / "two")


def test_a_directory_is_its_checkpoints(ntksap: Call, tmp_path: Path, finished_run: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    net(inside / "a.pt")
    finished_run.rename(inside / "run")
    (inside / "notes.txt").write_text("")
    (inside / "deeper").mkdir()
    net(inside / "deeper" / "no.pt")

    code, _, err = ntksap("convert", inside, tmp_path / "out", "--to", "torch")

    assert (0, ["a.pt", "run.pt"]) == (code, files(tmp_path / "out")), err


def test_a_run_directory_takes_its_checkpoint(ntksap: Call, tmp_path: Path, finished_run: Path) -> None:
    assert 0 == ntksap("convert", finished_run, tmp_path / "out.pt", "--to", "torch-prune")[0]

    assert content(finished_run / "model.safetensors") == content(tmp_path / "out.pt")


@pytest.mark.parametrize(
    ("target", "flags", "output"),
    [
        ("out/", (), "out/net.safetensors"),
        ("there", (), "there/net.safetensors"),
        ("there", ("--to", "torch"), "there/net.pt"),
        ("there", ("--to", "npz"), "there/tensors.json"),
        ("full", ("--to", "npz"), "full/net/tensors.json"),
        ("new/er/net.pth", (), "new/er/net.pth"),
        ("net.x", ("--to", "ntksap"), "net.x"),
        ("folder", ("--to", "compressed-tensors"), "folder/config.json"),
    ],
)
def test_where_the_output_goes(ntksap: Call, tmp_path: Path, target: str, flags: tuple[str, ...], output: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    source = net(tmp_path / "net.pt")
    where = f"{tmp_path}/{target}"

    assert 0 == ntksap("convert", source, where, *flags)[0]
    assert (tmp_path / output).is_file()
    assert "unchanged" in ntksap("convert", source, where, *flags)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("a.pt", "out"), 2, "'out' does not say what to write; name it with --to (ntksap, "),
        (("a.pt", "out.safetensors", "--to", "torch"), 2, "says ntksap and --to says torch; give it another suffix"),
        (("a.pt", "b.pt", "out.safetensors"), 2, "several sources need a directory as TARGET"),
        (("a.pt", "sub/a.pt", "out"), 2, "'a.pt' and 'sub/a.pt' would both be 'out/a.safetensors'"),
        (("a.pt", "a.pt"), 2, "'a.pt' is a source too and would be overwritten"),
        (("a.pt", "./sub/../a.pt"), 2, "is a source too and would be overwritten"),
        (("a.pt", "link.pt"), 2, "'link.pt' is a source too and would be overwritten"),
        (("a.pt", "hard.pt"), 2, "'hard.pt' is the file 'a.pt' of a source"),
        (("a.pt", "b.pt", "sub"), 0, ""),
        (("a.pt", "sub/a.pt", "sub", "--to", "torch"), 2, "would both be 'sub/a.pt'"),
        (("b.pt", "sub/a.pt", "sub", "--to", "torch"), 2, "'sub/a.pt' is a source too and would be overwritten"),
        (("sub", "sub/out"), 2, "'sub/out/a.safetensors' lies in the source 'sub'; name a TARGET outside of it"),
        (("folder", "folder/out.pt"), 2, "'folder/out.pt' lies in the source 'folder'"),
        (("index.json", "shard.safetensors", "--to", "safetensors"), 2, "is the file 'shard.safetensors' of a source"),
        (("empty", "out"), 4, "'empty' holds no checkpoint, nor is it one"),
        (("a.pt", "b.pt", "file.txt"), 2, "several sources need a directory as TARGET; got 'file.txt'"),
        (("a.pt", "file.txt", "--to", "npz"), 2, "'file.txt' is a file, and npz is a folder"),
        (("a.pt", "out.onnx"), 2, "a checkpoint holds weights and no graph, so it cannot become onnx"),
        (("a.pt", "o.pt", "--encoding", "bitmask"), 2, "--encoding belongs to --to ntksap; got --to torch"),
        (("a.pt", "o.pt", "--sparse-24"), 2, "--sparse-24 belongs to --to compressed-tensors"),
        (("a.pt", "o.safetensors", "--encoding", "zip"), 2, "--encoding must be one of auto, dense, "),
        (("a.pt", "o.pt", "--threshold", "0"), 2, "--threshold must be a number above 0; got 0"),
        (("a.pt", "o.pt", "--threshold", "nan"), 2, "--threshold must be a number above 0; got nan"),
        (("a.pt", "o.pt", "--max-shard-size", "1GB"), 2, "--max-shard-size belongs to --to ntksap; got --to torch"),
        (("a.pt", "o.safetensors", "--max-shard-size", "0"), 2, "--max-shard-size must be a size such as 5GB"),
        (("a.pt", "o.pt", "--jobs", "0"), 2, "--jobs must be 1 or more; got 0"),
        (("nothing.pt", "o.safetensors"), 4, "nothing.pt: no such file or directory"),
        (("a.pt", "o.safetensors", "--mask", "nothing"), 4, "nothing: no such file or directory"),
        (("file.txt", "o.safetensors"), 4, "npz, folder, or onnx); truncated or damaged"),
        (("a.pt", "o.safetensors", "--prefix", "net."), 4, "'fc.weight' does not begin with 'net.'"),
        (("a.pt", "file.txt/o.pt"), 8, "free space or choose another TARGET"),
    ],
)
def test_what_is_refused(
    ntksap: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sub", "empty", "folder"):
        Path(name).mkdir()
    for name in ("a.pt", "b.pt", "sub/a.pt", "folder/pytorch_model.bin"):
        net(Path(name))
    Path("folder/config.json").write_text("{}")
    Path("file.txt").write_text("text")
    Path("link.pt").symlink_to("a.pt")
    Path("hard.pt").hardlink_to("a.pt")
    assert 0 == ntksap("convert", "a.pt", "shard.safetensors", "--to", "safetensors")[0]
    Path("index.json").write_text('{"weight_map": {"fc.weight": "shard.safetensors"}}')
    before = files(tmp_path)

    result = ntksap("convert", *arguments)

    if code:
        refused(result, code, said)
        assert before == files(tmp_path)
    else:
        assert 0 == result[0]


def test_shards_are_named_by_their_index(ntksap: Call, tmp_path: Path) -> None:
    source = tmp_path / "net.pt"
    torch.save({name: torch.arange(30.0) for name in "ab"}, source)
    code, out, _ = ntksap("convert", source, tmp_path / "x.safetensors", "--max-shard-size", "100B", "--json")

    index = tmp_path / "x.safetensors.index.json"
    assert (0, str(index)) == (code, json.loads(out)["output"])
    assert 0 == ntksap("inspect", source, index)[0]


def test_unknown_words_of_the_help(ntksap: Call, tmp_path: Path) -> None:
    code, _, err = ntksap("convert", net(tmp_path / "a.pt"), tmp_path / "b.pt", "--to", "pickle")

    assert 2 == code
    assert "pickle" in err
    assert tuple(SUFFIXES) == get_args(Formats)
    assert tuple(DTYPES) == get_args(get_args(get_args(Dtype)[0])[0])


def test_graphs(ntksap: Call, tmp_path: Path) -> None:
    weight = np.zeros((64, 64), np.float32)
    weight[3, 5], weight[7, 0] = 1.5, -0.0
    shape = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        shape[:1],
        shape[1:],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    dense, sparse, back = (tmp_path / name for name in ("m.onnx", "s.onnx", "d.onnx"))

    code, _, err = ntksap("convert", dense, sparse, "--to", "onnx-sparse")
    assert 0 == code
    assert f"{sparse}: some runtimes refuse sparse_initializer" in err
    assert sparse.stat().st_size < dense.stat().st_size / 10
    assert 0 == ntksap("convert", sparse, back)[0]
    assert numpy_helper.to_array(onnx.load(back).graph.initializer[0]).tobytes() == weight.tobytes()
    assert 0 == ntksap("convert", sparse, tmp_path / "w.safetensors")[0]
    assert bits(torch.from_numpy(weight)) == content(tmp_path / "w.safetensors")["w"][0]
    refused(ntksap("convert", dense, tmp_path / "n.onnx", "--dtype", "float16"), 2, "--dtype changes weights")
    assert ("onnx", "onnx-sparse") == GRAPHS


def test_external_data_count_as_the_source(ntksap: Call, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(64, dtype=np.float32), "w")
    graph = helper.make_graph([], "g", [], [], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    call = ("convert", tmp_path / "m.onnx", tmp_path / "m.safetensors")
    assert 0 == ntksap(*call)[0]

    (tmp_path / "m.data").write_bytes(np.zeros(64, np.float32).tobytes())

    assert "unchanged" not in ntksap(*call)[1]
    assert bits(torch.zeros(64)) == content(tmp_path / "m.safetensors")["w"][0]


def test_a_kill_leaves_the_old_output(ntksap: Call, tmp_path: Path) -> None:
    torch.save({"a": torch.randn(4_000_000)}, tmp_path / "big.pt")
    (tmp_path / "big.safetensors").write_bytes(b"what was there")
    command = [sys.executable, "-m", "ntksap_export.cli", "convert", tmp_path / "big.pt", tmp_path / "big.safetensors"]

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".big.safetensors.*.part/*")) and time.monotonic() < until:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    assert b"what was there" == (tmp_path / "big.safetensors").read_bytes()
    assert 0 == ntksap("convert", tmp_path / "big.pt", tmp_path / "big.safetensors")[0]
    assert not list(tmp_path.glob(".big.safetensors.*.part"))


def test_quiet_says_nothing_but_results(ntksap: Call, tmp_path: Path) -> None:
    code, out, err = ntksap("convert", net(tmp_path / "a.pt"), tmp_path / "b.safetensors", "--quiet")

    assert (0, 1, "") == (code, len(out.splitlines()), err)
