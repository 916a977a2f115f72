"""A stranger's reader, written from docs/format.md alone, reads what we write."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given

from ntksap_export.checkpoint import SparseCheckpoint
from ntksap_export.checkpoint.encodings import ENCODINGS
from ntksap_export.masks import Mask

from . import independent_reader
from .checkpoint_cases import PROVENANCE, UNHURRIED, bits, checkpoint_of_net, checkpoints, two_of_four

READABLE = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
READABLE += (torch.int8, torch.uint8)


def assert_read(checkpoint: SparseCheckpoint, path: Path, encoding: str) -> None:
    checkpoint.save(path, encoding)

    found = independent_reader.read(path)

    assert set(checkpoint.tensors) == set(found)
    for name, tensor in checkpoint.tensors.items():
        values, kept = found[name]
        assert tuple(tensor.shape) == values.shape
        assert bits(tensor)[2] == np.frombuffer(values.tobytes(), np.uint8).tolist()
        assert (kept is None) == (name not in checkpoint.mask)
        if kept is not None:
            assert np.array_equal(checkpoint.mask[name].numpy(), kept)


@pytest.mark.parametrize("encoding", ["auto", *ENCODINGS])
def test_networks_are_read(tmp_path: Path, encoding: str) -> None:
    for number, checkpoint in enumerate([checkpoint_of_net(), two_of_four(), two_of_four((8, 16)), int8_of(16, 2)]):
        assert_read(checkpoint, tmp_path / f"{number}.safetensors", encoding)


def int8_of(m: int, n: int) -> SparseCheckpoint:
    """One int8 weight with the last `n` of every `m` inputs kept, an odd number of groups."""
    kept = (torch.arange(3 * m) % m >= m - n).expand(3, -1).contiguous()
    weight = torch.where(kept, torch.arange(9 * m).reshape(3, -1).to(torch.int8), torch.zeros((), dtype=torch.int8))
    return SparseCheckpoint({"fc.weight": weight}, Mask({"fc.weight": kept}), PROVENANCE)


@UNHURRIED
@given(checkpoint=checkpoints())
def test_anything_is_read(tmp_path_factory: pytest.TempPathFactory, checkpoint: SparseCheckpoint) -> None:
    if any(tensor.dtype not in READABLE for tensor in checkpoint.tensors.values()):
        return
    directory = tmp_path_factory.mktemp("read")
    for encoding in ("auto", *ENCODINGS):
        assert_read(checkpoint, directory / "model.safetensors", encoding)


def test_it_is_short_and_independent() -> None:
    source = Path(independent_reader.__file__).read_text()
    imported = {
        name.name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for name in node.names
    } | {str(node.module) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}

    assert {"json", "math", "numpy", "zstandard"} == imported
    assert sum(bool(line.strip()) for line in source.splitlines()) <= 60
