"""`ntksap inspect` as its user sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .test_cli import refused

Call = Callable[..., tuple[int, str, str]]


def saved(path: Path, first: float = 1.0) -> Path:
    weight = torch.ones(8, 16)
    weight[:, ::2] = 0
    weight[0, :2] = torch.tensor([0, first])
    weight[1, 2:4] = torch.tensor([1, 0])
    save_file({"w": weight}, path)
    return path


def test_a_pattern_is_shown(ntksap: Call, tmp_path: Path) -> None:
    code, out, err = ntksap("inspect", saved(tmp_path / "a.safetensors"))

    assert (0, "") == (code, err)
    row = next(line for line in out.splitlines() if line.startswith("w "))
    shown = "w 8x16 float32 dense 512 50.00% 1:2 along input channels (zeros), 7 of 16 inputs empty"
    assert shown == " ".join(row.split())


def test_the_same_content_is_exit_code_0(ntksap: Call, tmp_path: Path) -> None:
    first = saved(tmp_path / "a.safetensors")
    torch.save(load_file(first), tmp_path / "c.pt")

    code, out, err = ntksap("inspect", first, tmp_path / "c.pt")

    assert (0, "", "the same content: 1 of 1 common tensors are equal\n") == (code, err, out)


def test_other_content_is_exit_code_1(ntksap: Call, tmp_path: Path) -> None:
    paths = saved(tmp_path / "a.safetensors"), saved(tmp_path / "b.safetensors", 3.5)

    code, out, err = ntksap("inspect", *paths)
    json_code, as_json, _ = ntksap("inspect", *paths, "--json")

    assert (1, 1, "") == (code, json_code, err)
    assert "w: 1 values, by up to 2.5" == out.splitlines()[0]
    assert not json.loads(as_json)["same"]


def test_an_error_is_neither(ntksap: Call, tmp_path: Path) -> None:
    refused(ntksap("inspect", saved(tmp_path / "a.safetensors"), tmp_path / "absent"), 4, "no such file", "absent")


def test_help_tells_the_exit_codes(ntksap: Call) -> None:
    _, out, _ = ntksap("inspect", "--help")

    assert "0 if names, shapes" in " ".join(out.split())


def test_names_cannot_write_on_the_terminal(ntksap: Call, tmp_path: Path) -> None:
    names = ["a\x1b[31mred\nb", "x" * 3000 + "end", "w\u00e9ight"]
    save_file({name: torch.ones(2) for name in names}, tmp_path / "a.safetensors")
    save_file({"other": torch.ones(2)}, tmp_path / "b.safetensors")

    shown = ntksap("inspect", tmp_path / "a.safetensors")[1]
    difference = ntksap("inspect", tmp_path / "a.safetensors", tmp_path / "b.safetensors")[1]

    for text in (shown, difference):
        assert r"a\x1b[31mred\nb" in text
        assert "w\u00e9ight" in text
        assert "x" * 60 + "..." + "x" * 54 + "end" in text
        assert "x" * 61 not in text
    assert max(map(len, shown.splitlines())) < 200
