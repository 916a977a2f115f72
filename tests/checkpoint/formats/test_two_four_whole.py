"""The 2:4 layout of compressed-tensors beside layers that are kept whole: those are stored dense, and stay masked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import compressed_tensors as folder
from ntksap_export.checkpoint.formats.compressed_tensors import CONFIG_FILE
from ntksap_export.errors import CheckpointError

from .memory_source import MemorySource, everything, pruned, two_four


def _source() -> MemorySource:
    whole = torch.arange(18.0).reshape(2, 9)  # of no width that 2:4 fits, and with a kept 0.0
    return MemorySource(
        {
            "conv1.weight": Decoded(whole, torch.ones(2, 9, dtype=torch.bool)),
            "fc.weight": two_four((4, 8)),
            "fc.bias": Decoded(torch.ones(4), None),
        }
    )


def test_a_whole_layer_is_dense_and_stays_masked(tmp_path: Path) -> None:
    folder.write(tmp_path / "out", _source(), None, two_four=True)

    with folder.open_source(tmp_path / "out") as source:
        found = everything(source)
    assert everything(_source()) == found
    assert torch.equal(torch.arange(18.0).reshape(2, 9), load_file(tmp_path / "out/model.safetensors")["conv1.weight"])
    config = json.loads((tmp_path / "out" / CONFIG_FILE).read_text())
    assert 0.5 == config["quantization_config"]["sparsity_config"]["global_sparsity"]


def test_a_layer_that_is_neither_is_refused(tmp_path: Path) -> None:
    values = {**_source().values, "mid.weight": pruned((4, 8), 0.9)}

    with pytest.raises(CheckpointError, match=r"'mid\.weight' \(4, 8\) does not keep exactly 2 .* of a row, nor all"):
        folder.write(tmp_path / "out", MemorySource(values), None, two_four=True)


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        ("conv1.weight", "must have a list of names as 'whole'; got 'conv1.weight'"),
        ([1], "must have a list of names as 'whole'"),
        (["absent"], "says that 'absent' is kept whole, which is not there"),
        (["fc.weight"], "says that 'fc.weight' is kept whole, which is not there"),
    ],
)
def test_a_lying_note(tmp_path: Path, whole: Any, said: str) -> None:
    folder.write(tmp_path / "out", _source(), None, two_four=True)
    file = tmp_path / "out" / CONFIG_FILE
    config = json.loads(file.read_text())
    config["ntksap"]["whole"] = whole
    file.write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match=said), folder.open_source(tmp_path / "out"):
        pass
