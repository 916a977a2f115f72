"""Plain safetensors: what comes back, shards, and files that lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import dense, recognise
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError

from ..checkpoint_cases import UNHURRIED, bits
from .memory_source import MemorySource, everything, source_of, sources

ODD_DTYPES = (torch.complex64, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu)


def reread(path: Path, source: Source) -> dict[str, object]:
    dense.write(path, source, None)
    with dense.open_source(path) as again:
        return everything(again)


@given(sources())
@UNHURRIED
def test_values_come_back_and_masks_do_not(tmp_path_factory: pytest.TempPathFactory, source: MemorySource) -> None:
    path = tmp_path_factory.mktemp("dense") / "model.safetensors"
    plain = MemorySource({name: Decoded(value.tensor, None) for name, value in source.values.items()})

    assert everything(plain) == reread(path, source)


@pytest.mark.parametrize("dtype", ODD_DTYPES, ids=str)
def test_dtypes_that_ours_has_not(tmp_path: Path, dtype: torch.dtype) -> None:
    source = source_of(fc__weight=torch.arange(8, dtype=torch.uint8).repeat(dtype.itemsize).view(dtype).reshape(2, 4))

    assert everything(source) == reread(tmp_path / "model.safetensors", source)


def test_the_file_is_what_safetensors_itself_reads_and_transformers_takes(tmp_path: Path) -> None:
    state = {"b.weight": torch.randn(3, 4), "a.bias": torch.ones(3).half(), "n": torch.tensor(7)}

    dense.write(tmp_path / "model.safetensors", source_of(**{k.replace(".", "__"): v for k, v in state.items()}), None)

    found = load_file(tmp_path / "model.safetensors")
    assert {name: bits(value) for name, value in state.items()} == {name: bits(value) for name, value in found.items()}
    with safe_open(tmp_path / "model.safetensors", framework="pt") as handle:
        assert {"format": "pt"} == handle.metadata()


def test_order_does_not_change_the_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    a, b = torch.ones(3), torch.zeros(2, dtype=torch.int8)

    dense.write(first, source_of(a=a, b=b), None)
    dense.write(second, source_of(b=b, a=a), None)

    assert first.read_bytes() == second.read_bytes()


def sharded(folder: Path, weight_map: object = None) -> Path:
    save_file({"a.weight": torch.ones(2)}, folder / "model-1.safetensors")
    save_file({"b.weight": torch.zeros(3)}, folder / "model-2.safetensors")
    index = folder / "model.safetensors.index.json"
    usual = {"a.weight": "model-1.safetensors", "b.weight": "model-2.safetensors"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": usual if weight_map is None else weight_map}))
    return index


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    index = sharded(tmp_path)

    with dense.open_source(index) as source:
        assert everything(source_of(a__weight=torch.ones(2), b__weight=torch.zeros(3))) == everything(source)
    assert "safetensors" == recognise(index)
    assert {index, tmp_path / "model-1.safetensors", tmp_path / "model-2.safetensors"} == set(dense.pieces(index))


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ({"a.weight": "model-1.safetensors", "b.weight": "model-9.safetensors"}, "'model-9.safetensors' is missing"),
        ({"a.weight": "model-1.safetensors", "b.weight": "model-1.safetensors"}, "lists tensor 'b.weight'"),
        ({"b.weight": "model-2.safetensors", "x": "model-2.safetensors"}, "lists tensor 'x' of model-2.safetensors"),
        ({"a.weight": "../model-1.safetensors"}, "files must lie beside the index"),
        ({"a.weight": 3}, "must have a weight_map"),
    ],
)
def test_an_index_that_lies(tmp_path: Path, weight_map: object, said: str) -> None:
    index = sharded(tmp_path, weight_map)

    with pytest.raises(CheckpointError, match=said) as caught, dense.open_source(index) as source:
        everything(source)

    assert 1 == str(caught.value).count(str(index))


def test_an_index_that_forgets(tmp_path: Path) -> None:
    index = sharded(tmp_path, {"b.weight": "model-2.safetensors"})
    save_file({"b.weight": torch.ones(2), "c": torch.ones(1)}, tmp_path / "model-2.safetensors")

    with pytest.raises(CheckpointError, match=r"lacks tensor 'c' of model-2\.safetensors"), dense.open_source(index):
        pass


@pytest.mark.parametrize("count", [0.3, 0.9])
def test_a_truncated_file(tmp_path: Path, count: float) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(50)}, path)
    path.write_bytes(path.read_bytes()[: int(count * path.stat().st_size)])

    with pytest.raises(CheckpointError, match="truncated or damaged"):
        recognise(path)
    with pytest.raises(CheckpointError, match="truncated or damaged"), dense.open_source(path):
        pass


def test_a_bool_that_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3, dtype=torch.bool)}, path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x02")

    with pytest.raises(CheckpointError, match="'a' is bool but holds"), dense.open_source(path) as source:
        source.read("a")


def test_what_safetensors_has_no_code_for(tmp_path: Path) -> None:
    source = source_of(a=torch.ones(2, dtype=torch.complex128))

    with pytest.raises(CheckpointError, match=r"'a' of torch\.complex128 cannot be in a safetensors file"):
        dense.write(tmp_path / "model.safetensors", source, None)
