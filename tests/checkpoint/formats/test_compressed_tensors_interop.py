"""Folders that the real compressed-tensors reads and writes (extra `interop`)."""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ntksap_export import optional
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import compressed_tensors as folder
from ntksap_export.errors import UnavailableError

from ..checkpoint_cases import bits
from .memory_source import MemorySource, everything, pruned, two_four


@pytest.fixture(scope="module")
def compressors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        with contextlib.suppress(UnavailableError):
            optional.load_torchvision("ops")  # which transformers imports, and which needs help beside some torch
        pytest.importorskip("compressed_tensors", reason="needs the extra `interop`")
        import compressed_tensors.compressors as found
        from compressed_tensors.config import BitmaskConfig, Sparse24BitMaskConfig
    return {
        "sparse-bitmask": found.BitmaskCompressor(config=BitmaskConfig()),
        "sparse-24-bitmask": found.Sparse24BitMaskCompressor(config=Sparse24BitMaskConfig(sparsity_structure="2:4")),
    }


def configured(path: Path, layout: str) -> None:
    sparsity = {"format": layout, "targets": None, "ignore": None}
    config = {"quantization_config": {"quant_method": "compressed-tensors", "sparsity_config": sparsity}}
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8], ids=str)
def test_it_reads_our_bitmask(tmp_path: Path, compressors: Any, dtype: torch.dtype) -> None:
    values = {
        "conv.weight": pruned((4, 3, 3, 3), 0.3, dtype),
        "norm.weight": pruned((13,), 0.5, dtype, seed=1),
        "fc.weight": pruned((5, 11), 0.2, dtype, seed=2),
        "fc.bias": Decoded(torch.ones(5, dtype=dtype), None),
        "dense.weight": Decoded(torch.ones(3, 2, dtype=dtype), None),
    }
    folder.write(tmp_path / "out", MemorySource(values), None)

    found = dict(compressors["sparse-bitmask"].decompress(str(tmp_path / "out")))

    shapes = {name: value.tensor.shape for name, value in values.items()} | {"conv.weight": torch.Size((4, 27))}
    assert {name: bits(value.tensor.reshape(shapes[name])) for name, value in values.items()} == {
        name: bits(tensor) for name, tensor in found.items()
    }


def test_it_reads_our_two_four(tmp_path: Path, compressors: Any) -> None:
    values = {"fc.weight": two_four((6, 16)), "conv.weight": two_four((4, 8, 1, 1)), "fc.bias": pruned((6,), 1.0)}
    values["fc.bias"] = Decoded(values["fc.bias"].tensor, None)
    values["first.weight"] = Decoded(torch.arange(6.0).reshape(2, 3), torch.ones(2, 3, dtype=torch.bool))
    folder.write(tmp_path / "out", MemorySource(values), None, two_four=True)

    found = dict(compressors["sparse-24-bitmask"].decompress(str(tmp_path / "out")))

    assert (4, 8) == tuple(found["conv.weight"].shape)
    assert {name: bits(value.tensor.flatten()) for name, value in values.items()} == {
        name: bits(tensor.flatten()) for name, tensor in found.items()
    }


def test_its_config_reads_ours(tmp_path: Path, compressors: Any) -> None:
    from compressed_tensors.compressors import ModelCompressor

    folder.write(tmp_path / "out", MemorySource({"fc.weight": two_four((6, 16))}), None, two_four=True)
    config = json.loads((tmp_path / "out" / "config.json").read_text())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ModelCompressor.from_compression_config(config["quantization_config"])

    assert ("sparse-24-bitmask", "2:4", 0.5) == (
        found.sparsity_config.format,
        found.sparsity_config.sparsity_structure,
        found.sparsity_config.global_sparsity,
    )


@pytest.mark.parametrize("layout", ["sparse-bitmask", "sparse-24-bitmask"])
def test_we_read_what_it_writes(tmp_path: Path, compressors: Any, layout: str) -> None:
    shapes = {"fc.weight": (6, 16), "odd.weight": (4, 6)}
    if layout == "sparse-bitmask":
        shapes |= {
            "conv.weight": (4, 3, 3, 3),
            "point.weight": (8, 4, 1, 1),
            "norm.weight": (13,),
            "odd.weight": (3, 5),
        }
    values = {name: pruned(shape, 0.4, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}
    if layout == "sparse-24-bitmask":
        values = {name: two_four(shape) for name, shape in shapes.items()}
    state = {name: value.tensor for name, value in values.items()} | {"fc.bias": torch.ones(6)}
    save_file(compressors[layout].compress(state), tmp_path / "model.safetensors")
    configured(tmp_path, layout)

    # what it keeps is what is not zero: a -0.0 comes back as 0.0
    expected = {name: Decoded(tensor + 0.0, tensor != 0) for name, tensor in state.items() if name != "fc.bias"}
    expected["fc.bias"] = Decoded(torch.ones(6), None)
    with folder.open_source(tmp_path) as source:
        assert everything(MemorySource(expected)) == everything(source)
