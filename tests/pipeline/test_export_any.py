"""Export without a run directory: what is written, and what is refused before anything is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from ntksap_export import networks
from ntksap_export.checkpoint import save_mask
from ntksap_export.graph import Graph, read_preprocessing
from ntksap_export.masks import Mask

from ..support.torchvision import torchvision_models

Ntksap = Callable[..., tuple[int, str, str]]


def test_a_checkpoint_is_exported_as_its_run_was(finished_run: Path, tmp_path: Path, ntksap: Ntksap) -> None:
    code, out, err = ntksap(
        "export", finished_run / "model.safetensors", "--out", tmp_path / "net.onnx", "--json", "--quiet"
    )

    assert (0, "") == (code, err)
    before, after = (Graph.load(path) for path in (finished_run / "model.onnx", tmp_path / "net.onnx"))
    assert {name: value.tobytes() for name, value in before.weights()} == {
        name: value.tobytes() for name, value in after.weights()
    }
    told = json.loads(out)
    assert (["net.onnx"], True) == (list(told["files"]), told["parity"]["passed"])
    assert ["net.onnx", "net.parity.json"] == sorted(file.name for file in tmp_path.glob("net*"))


def test_a_named_model_is_exported_with_weights_and_a_mask(tmp_path: Path, ntksap: Ntksap) -> None:
    model = networks.build("lenet5", 7, seed=1)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    draw = torch.Generator().manual_seed(0)
    mask = Mask({name: torch.rand(kept.shape, generator=draw) < 0.5 for name, kept in Mask.dense(model).items()})
    save_mask(tmp_path / "mask.safetensors", mask, {})

    code, out, err = ntksap(
        *("export", "lenet5", "--weights", tmp_path / "w.pt", "--mask", tmp_path / "mask.safetensors"),
        *("--out", tmp_path / "net.onnx", "--input", "uint8", "--mean", ".5,.4,.3", "--std", ".2,.2,.2"),
    )

    assert 0 == code, err
    assert "parity    passed" in out
    graph = Graph.load(tmp_path / "net.onnx")
    weights = {item.name: numpy_helper.to_array(item) for item in graph.proto.graph.initializer}
    assert all(np.array_equal(~kept.numpy(), weights[name] == 0) for name, kept in mask.items())
    told = read_preprocessing(graph.proto)
    assert told is not None
    assert ("uint8", (0.5, 0.4, 0.3)) == (told.dtype, told.graph_mean)


OWN = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        pooled = torch.relu(self.conv(x)).mean((2, 3))
        return {"scores": self.fc(pooled), "features": pooled}
"""


def test_a_model_of_ones_own_is_exported_with_all_its_outputs(
    tmp_path: Path, ntksap: Ntksap, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two_outputs.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    code, _, err = ntksap(
        "export", "two_outputs:Two", "--image-size", 16, "--dynamic-size", "--out", tmp_path / "net.onnx"
    )

    assert 0 == code, err
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    answers = session.run(None, {"images": np.ones((3, 3, 24, 20), np.float32)})
    assert ["scores", "features"] == [value.name for value in session.get_outputs()]
    assert [(3, 5), (3, 4)] == [answer.shape for answer in answers]


def test_a_classifier_of_torchvision_is_exported(tmp_path: Path, ntksap: Ntksap) -> None:
    torchvision_models()
    model = networks.build("torchvision:squeezenet1_1", 4)
    torch.save(model.state_dict(), tmp_path / "w.pt")

    code, _, err = ntksap(
        *("export", "torchvision:squeezenet1_1", "--weights", tmp_path / "w.pt", "--num-classes", 4),
        *("--image-size", 64, "--out", tmp_path / "net.onnx"),
    )

    assert 0 == code, err
    assert set(Mask.dense(model)) <= set(Graph.load(tmp_path / "net.onnx").parameters)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["lenet5", "--weights", "w.pt"], 2, "--out FILE.onnx says where the graph goes"),
        (["lenet5", "--weights", "w.pt", "--out", "net.bin"], 2, "must be a file that ends in .onnx; got 'net.bin'"),
        (["lenet5", "--weights", "w.pt", "--out", "w.pt/net.onnx"], 8, "is no folder"),
        (["lenet5", "--weights", "gone.pt", "--out", "net.onnx"], 4, "gone.pt"),
        (["lenet5"], 4, "no such directory 'lenet5'; name a run directory"),
        (["lenet6", "--weights", "w.pt", "--out", "net.onnx"], 2, "lenet6"),
        (["resnet20", "--weights", "w.pt", "--out", "net.onnx"], 2, "give --num-classes"),
        (["lenet5", "--weights", "w.pt", "--out", "net.onnx", "--num-classes", "9"], 4, "do not fit"),
        (["lenet5", "--weights", "w.pt", "--out", "net.onnx", "--mask", "other.safetensors"], 4, "'fc.weight'"),
        (["lenet5", "--weights", "w.pt", "--out", "net.onnx", "--mask", "gone"], 4, "no such mask 'gone'"),
        (["lenet5", "--weights", "w.pt", "--out", "net.onnx", "--normalize"], 2, "give --mean and --std"),
        (["lenet5", "--weights", "w.pt", "--out", "net.onnx", "--data", "digits"], 2, "--data is for a run directory"),
        (["w.pt", "--out", "net.onnx"], 4, "write `ntksap export MODEL --weights w.pt`"),
        (["folder", "--weights", "w.pt"], 2, "--weights is for a model outside a run"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    arguments: list[str], code: int, said: str, tmp_path: Path, ntksap: Ntksap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(networks.build("lenet5", 7).state_dict(), "w.pt")
    save_mask("other.safetensors", Mask({"fc.weight": torch.ones(2, 3, dtype=torch.bool)}), {})
    Path("folder").mkdir()
    before = sorted(tmp_path.rglob("*"))

    ended, out, err = ntksap("export", *arguments)

    assert (code, "") == (ended, out)
    assert said in err
    assert 1 == len(err.splitlines())
    assert before == sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("flags", [("--int8",), ("--fp16",), ("--calibration-images", "64")])
def test_what_needs_images_is_refused_without_a_run(
    finished_run: Path, tmp_path: Path, ntksap: Ntksap, flags: tuple[str, ...]
) -> None:
    code, _, err = ntksap("export", finished_run / "model.safetensors", "--out", tmp_path / "net.onnx", *flags)

    expected = f"error: {flags[0]} needs images to judge by; name a run directory\n"
    assert (2, expected, []) == (code, err, list(tmp_path.glob("net*")))


def test_one_that_disagrees_leaves_the_good_one_alone(finished_run: Path, tmp_path: Path, ntksap: Ntksap) -> None:
    command = ("export", finished_run / "model.safetensors", "--out", tmp_path / "net.onnx")
    assert 0 == ntksap(*command)[0]
    before = {file.name: file.read_bytes() for file in tmp_path.glob("net*")}

    code, _, err = ntksap(*command, "--atol", "1e-12", "--rtol", "1e-12")

    assert 5 == code, err
    after = {file.name: file.read_bytes() for file in tmp_path.glob("net*")}
    assert {"net.rejected.onnx", "net.rejected.parity.json"} == set(after) - set(before)
    assert before == {name: after[name] for name in before}

    assert 0 == ntksap(*command)[0]
    assert set(before) == {file.name for file in tmp_path.glob("net*")}
