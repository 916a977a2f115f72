"""`ntksap analyze` as its user sees it: tables, JSON, refusals with their exit codes, help without torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ntksap_export import networks
from ntksap_export.checkpoint import save_mask
from ntksap_export.cli.analysis_text import analysis_text
from ntksap_export.report import analysis_rows

from ..report.test_report_analysis import analysis
from ..support.nets import random_mask
from ..support.own import own_module
from .test_cli import refused

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "code"
    folder.mkdir()
    return f"{own_module(folder, monkeypatch)}:make"


def saved_mask(own: str, path: Path) -> Path:
    told = {"architecture": own, "method": "snip", "seed": 3, "config": {"image_size": 8, "num_classes": 10}}
    save_mask(path, random_mask(networks.build(own, 10), 0.5), told)
    return path


def test_a_mask_beside_the_dense_network(ntksap: Call, own: str, tmp_path: Path) -> None:
    masks = [saved_mask(own, tmp_path / f"{name}.safetensors") for name in ("one", "two")]
    flags = ("--images", "3", "--probes", "2", "--memory", "500MB", "--out", tmp_path / "out")

    code, out, err = ntksap("analyze", own, "--mask", masks[0], "--mask", masks[1], *flags)
    json_code, as_json, _ = ntksap("analyze", own, "--mask", masks[0], *flags, "--only", "structure", "--json", "-q")

    assert (0, 0) == (code, json_code), err
    lines = out.splitlines()
    assert f"{own}: 3 images of noise" in lines
    heads = ("masks", "tangent kernel", "singular values of d logits / d image", "overlap of masks")
    assert all(any(line.startswith(head) for line in lines) for head in heads)
    assert 4 == sum(line.startswith("one ") for line in lines)
    assert "peak RSS" in err
    assert str(tmp_path / "out" / "analysis.html") in err
    result = json.loads(as_json)
    assert (1, 3, ["dense", "one"]) == (
        result["schema"],
        result["subject"]["seed"],
        [entry["name"] for entry in result["networks"]],
    )
    assert result == json.loads((tmp_path / "out" / "analysis.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("runs/none",), 4, "no such directory 'runs/none'"),
        (("resnet2O",), 2, "unknown model 'resnet2O'"),
        (("resnet20", "--images", "0"), 2, "--images must be at least 2"),
        (("resnet20", "--only", "ntk,jsv"), 2, "--only knows no 'jsv'"),
        (("resnet20", "--memory", "2 gigs"), 2, "--memory must be a size such as 5GB"),
        (("resnet20", "--memory", "1MB"), 2, "Raise --memory"),
        (("resnet20", "--seeds", "0"), 2, "--seeds must be at least 1"),
        (("resnet20", "--mask", "none.safetensors"), 4, "no such mask 'none.safetensors'"),
        (("resnet20", "--weights", "none.pt"), 4, "none.pt"),
        (("resnet20", "--image-size", "2"), 2, "image-size"),
        (("resnet20", "--data", "no/such/folder"), 3, "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    ntksap: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    refused(ntksap("analyze", *arguments, "--out", tmp_path / "out"), code, said)

    assert not (tmp_path / "out").exists()


def test_a_folder_for_a_mask_is_told_the_file_in_it(ntksap: Call, own: str, tmp_path: Path) -> None:
    saved_mask(own, tmp_path / "mask.safetensors")

    refused(ntksap("analyze", own, "--mask", tmp_path), 4, f"give '{tmp_path / 'mask.safetensors'}'")


def test_a_network_without_a_jacobian_is_refused(ntksap: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, x):
        return self.fc(x.mean(dim=(2, 3)).round().detach())


def make(num_classes):
    return Net(num_classes)
"""
    name = f"{own_module(tmp_path, monkeypatch, text)}:make"

    told = ntksap("analyze", name, "--image-size", "8", "--only", "isometry", "--out", tmp_path / "out")

    refused(told, 2, "Jacobian")


def rows(tree: dict[str, Any]) -> list[str]:
    return analysis_text(tree, analysis_rows(tree["networks"])).splitlines()


def test_the_masks_of_epochs_are_not_repeated() -> None:
    lines = rows(analysis())

    starts = {name: sum(line.startswith(f"{name} ") for line in lines) for name in ("dense", "epoch 5", "trained")}
    assert {"dense": 3, "epoch 5": 2, "trained": 2} == starts
    assert ["masked", "grasp", "31.0", "%", "14.0", "%"] == lines[-1].split()


def test_draws_are_told() -> None:
    tree = analysis()
    tree["settings"]["seeds"] = 5

    assert "resnet20: 2 images of cifar10, mean of 5 draws" == rows(tree)[0]


def test_without_masks_a_lone_density_is_not_told() -> None:
    tree = analysis()
    tree["networks"] = tree["networks"][:1]
    del tree["networks"][0]["structure"]

    assert "masks" not in rows(tree)
