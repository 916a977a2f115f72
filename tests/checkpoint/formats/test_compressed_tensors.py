from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import compressed_tensors as folder
from ntksap_export.errors import CheckpointError

from ..checkpoint_cases import PROVENANCE, UNHURRIED, forged
from .memory_source import MemorySource, everything, pruned, reading, small, source_of, sources, two_four

CONFIG = {
    "quantization_config": {"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-bitmask"}}
}
ROW = [[1.0, 0, 0, 2, 0, 3, 4, 0]]


reopened, refusal = reading(folder)


def made(path: Path, tensors: dict[str, torch.Tensor], config: Any = CONFIG) -> Path:
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return path


@UNHURRIED
@given(source=sources())
def test_every_bit_comes_back(tmp_path_factory: pytest.TempPathFactory, source: MemorySource) -> None:
    path = tmp_path_factory.mktemp("folder") / "out"
    folder.write(path, source, source.provenance)

    assert everything(source) == reopened(path)


@UNHURRIED
@given(
    shape=st.sampled_from([(4,), (1, 4), (3, 8), (2, 4, 1, 1), (2, 12), (2, 1, 2, 2)]),
    raw=st.data(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.float8_e4m3fn]),
)
def test_every_bit_of_two_four_comes_back(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], raw: st.DataObject, dtype: torch.dtype
) -> None:
    kept = two_four(shape, raw.draw(st.integers(0, 99))).kept
    assert kept is not None
    size = math.prod(shape) * dtype.itemsize
    data = torch.tensor(list(raw.draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8)
    data.view(-1, dtype.itemsize)[~kept.view(-1)] = 0
    source = MemorySource({"a.weight": Decoded(data.view(dtype).reshape(shape), kept)})
    path = tmp_path_factory.mktemp("folder") / "out"
    folder.write(path, source, None, two_four=True)

    assert everything(source) == reopened(path)


def test_two_writes_give_equal_bytes(tmp_path: Path) -> None:
    folder.write(tmp_path / "a", small(), PROVENANCE)
    folder.write(tmp_path / "b", small(), PROVENANCE)

    def content(name: str) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}

    assert {"config.json", "model.safetensors"} == set(content("a"))
    assert content("a") == content("b")


def test_folder_follows_the_published_layout(tmp_path: Path) -> None:
    weight = torch.tensor(ROW)
    folder.write(tmp_path / "out", source_of({"fc.weight": weight != 0}, fc__weight=weight), None)
    folder.write(tmp_path / "24", source_of({"fc.weight": weight != 0}, fc__weight=weight), None, two_four=True)

    bitmask, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "24"))

    assert {
        "fc.shape": [1, 8],
        "fc.compressed": [1, 2, 3, 4],
        "fc.bitmask": [[105]],
        "fc.row_offsets": [0],
    } == {name: tensor.tolist() for name, tensor in bitmask.items()}
    assert {"fc.shape": [[1], [8]], "fc.compressed": [[1, 2, 3, 4]], "fc.bitmask": [[105]]} == {
        name: tensor.tolist() for name, tensor in two.items()
    }
    assert {
        "quantization_config": {
            "version": "0.14.0",
            "quant_method": "compressed-tensors",
            "sparsity_config": {
                "format": "sparse-24-bitmask",
                "targets": None,
                "ignore": None,
                "global_sparsity": 0.5,
                "sparsity_structure": "2:4",
            },
        },
        "ntksap": {"schema": 1, "shapes": {"fc.weight": [1, 8]}},
    } == json.loads((tmp_path / "24" / "config.json").read_text())


def test_tensor_of_four_axes_packed_row_by_row_is_read(tmp_path: Path) -> None:
    value = pruned((2, 3, 2, 5), 0.4)
    assert value.kept is not None
    offsets = [[[0, 0]] * 3, [[int(value.kept[0, i, j].sum()) for j in range(2)] for i in range(3)]]
    packed = [
        [[[sum(int(bit) << place for place, bit in enumerate(row))] for row in kernel] for kernel in filters]
        for filters in value.kept.tolist()
    ]
    parts = {
        "a.shape": torch.tensor([2, 3, 2, 5]),
        "a.compressed": value.tensor[value.kept],
        "a.bitmask": torch.tensor(packed, dtype=torch.uint8),
        "a.row_offsets": torch.tensor(offsets),
    }

    found = reopened(made(tmp_path / "native", parts))

    assert everything(MemorySource({"a.weight": value})) == found


def test_dense_folder_and_shards_are_read(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(2, 2), "b.weight": torch.randn(2), "a.shape": torch.ones(1)}
    config = {"quantization_config": {"sparsity_config": {"format": "dense"}}}
    whole = made(tmp_path / "whole", tensors, config)
    shards = made(tmp_path / "shards", {"a.weight": tensors["a.weight"], "a.shape": tensors["a.shape"]}, config)
    (shards / "model.safetensors").rename(shards / "1.safetensors")
    save_file({"b.weight": tensors["b.weight"]}, shards / "2.safetensors")
    places = {"a.weight": "1.safetensors", "a.shape": "1.safetensors", "b.weight": "2.safetensors"}
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))

    expected = everything(MemorySource({name: Decoded(tensor, None) for name, tensor in tensors.items()}))

    assert expected == reopened(whole) == reopened(shards)


def test_only_such_folders_match(tmp_path: Path) -> None:
    folder.write(tmp_path / "ours", small(), None)
    made(tmp_path / "hf", {"a": torch.ones(1)}, {"architectures": ["resnet50"]})
    made(tmp_path / "list", {"a": torch.ones(1)}, [1])
    (tmp_path / "file").write_bytes(b"{}")

    found = {name: folder.matches(tmp_path / name) for name in ("ours", "hf", "list", "file", "absent")}

    assert {"ours": True, "hf": False, "list": False, "file": False, "absent": False} == found


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (MemorySource({"a.weight": pruned((2, 8), 0.3)}), {"two_four": True}, "2 of every 4"),
        (MemorySource({"a.weight": two_four((2, 6))}), {"two_four": True}, "'a.weight' (2, 6) does not keep exactly 2"),
        (source_of(a__shape=torch.ones(1)), {}, "'a.shape' would be taken for a part"),
        (MemorySource({"a": pruned((2, 2), 0.5), "a.weight": pruned((2, 2), 0.5)}), {}, "under the name 'a.bitmask'"),
        (source_of(a=torch.ones(1, dtype=torch.complex64)), {}, "has dtype complex64"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(
    tmp_path: Path, source: MemorySource, options: dict[str, bool], message: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        folder.write(tmp_path / "out", source, None, **options)

    assert message in str(caught.value)
    assert [] == list(tmp_path.iterdir())


def rewritten(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(path / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, path / "model.safetensors")

    return apply


def reconfigured(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        change(config)
        (path / "config.json").write_text(json.dumps(config))

    return apply


def moved_beyond(row: torch.Tensor) -> torch.Tensor:
    """The last row of `fc` with as many bits set, one of them after its 11 columns."""
    low, high = row.tolist()
    return torch.tensor([low & (low - 1), high | 128], dtype=torch.uint8)


def cut(path: Path) -> None:
    (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-1])


LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "has neither model.safetensors nor"),
    "cut": (cut, "truncated or damaged"),
    "a part is gone": (rewritten(lambda t: t.pop("fc.row_offsets")), "'fc.row_offsets' is missing"),
    "fewer values": (rewritten(lambda t: t.update({"fc.compressed": t["fc.compressed"][1:]})), "'fc.compressed' must"),
    "values of two axes": (
        rewritten(lambda t: t.update({"fc.compressed": t["fc.compressed"][None]})),
        "'fc.compressed' must be float32",
    ),
    "one bit more": (rewritten(lambda t: t["fc.bitmask"].bitwise_xor_(1)), "must be float32"),
    "bits beyond the row": (
        rewritten(lambda t: t["fc.bitmask"][-1].copy_(moved_beyond(t["fc.bitmask"][-1]))),
        "has bits set beyond column 11",
    ),
    "offsets": (rewritten(lambda t: t["fc.row_offsets"].add_(1)), "'fc.row_offsets' contradicts the bitmask"),
    "vast shape": (rewritten(lambda t: t["fc.shape"].fill_(2**40)), "larger than any file"),
    "wide shape": (rewritten(lambda t: t["fc.shape"].copy_(torch.tensor([5, 2**40]))), "'fc.bitmask' must be uint8"),
    "negative shape": (rewritten(lambda t: t["fc.shape"].fill_(-1)), "shape must be a list of sizes"),
    "shape of bytes": (rewritten(lambda t: t.update({"fc.shape": t["fc.shape"].int()})), "must be int64 [axes]"),
    "shape without axes": (rewritten(lambda t: t.update({"fc.shape": t["fc.shape"][:0]})), "must be int64 [axes]"),
    "stored twice": (rewritten(lambda t: t.update({"fc.weight": torch.ones(1)})), "is stored twice"),
    "format": (
        reconfigured(lambda c: c["quantization_config"]["sparsity_config"].update(format="marlin-24")),
        "format must be one of sparse-bitmask, sparse-24-bitmask, dense; got 'marlin-24'",
    ),
    "quantized": (reconfigured(lambda c: c["quantization_config"].update(config_groups={"g": 1})), "are quantized"),
    "noted shape": (
        reconfigured(lambda c: c["ntksap"]["shapes"].update({"fc.weight": [11, 5]})),
        "is stored as (5, 11)",
    ),
    "noted name": (reconfigured(lambda c: c["ntksap"]["shapes"].update(gone=[1])), "notes a shape of 'gone'"),
    "noted schema": (reconfigured(lambda c: c["ntksap"].update(schema=2)), "has schema 2, known is 1; upgrade"),
    "noted provenance": (reconfigured(lambda c: c["ntksap"].update(provenance=[])), "provenance must have exactly"),
    "not JSON": (lambda path: (path / "config.json").write_text("{"), "is not JSON"),
    "deep JSON": (lambda path: (path / "config.json").write_text("[" * 100_000), "is not JSON"),
}


@pytest.mark.parametrize(("lie", "message"), LIES.values(), ids=LIES)
def test_a_lie_is_one_line(tmp_path: Path, lie: Callable[[Path], object], message: str) -> None:
    folder.write(tmp_path / "out", small(), PROVENANCE)
    lie(tmp_path / "out")

    assert message in refusal(tmp_path / "out")


@pytest.mark.parametrize(
    ("bitmask", "shape", "message"),
    [
        ([[0b00001111]], [[1], [8]], "must keep 2 of every 4"),
        ([[0b01110101]], [[1], [8]], "must be float32 (1, 4)"),
        ([[0b01101001]], [[2], [3]], "which no 2:4 can fill"),
        ([[0b01101001]], [[4], [1]], "which no 2:4 can fill"),
        ([[0b01101001]], [1, 8], "must be int64 [2, 1]"),
    ],
)
def test_a_mask_that_is_not_two_four_is_refused(
    tmp_path: Path, bitmask: list[list[int]], shape: list[Any], message: str
) -> None:
    count = sum(byte.bit_count() for row in bitmask for byte in row)
    parts = {
        "a.shape": torch.tensor(shape),
        "a.compressed": torch.ones(1, count),
        "a.bitmask": torch.tensor(bitmask, dtype=torch.uint8),
    }
    config = {"quantization_config": {"sparsity_config": {"format": "sparse-24-bitmask"}}}

    assert message in refusal(made(tmp_path / "out", parts, config))


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../1.safetensors"}, "files must lie beside the index"),
        ({"a": "/etc/passwd"}, "files must lie beside the index"),
        ({"a": 1}, "must have a weight_map of tensors to files"),
        (None, "must have a weight_map of tensors to files"),
        ({"a": "2.safetensors"}, "its shard '2.safetensors' is missing"),
        ({"b": "1.safetensors"}, "lacks tensor 'a' of 1.safetensors"),
        ({"a": "1.safetensors", "b": "1.safetensors"}, "lists tensor 'b' of 1.safetensors"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, weight_map: object, message: str) -> None:
    path = made(tmp_path / "out", {"a": torch.ones(1)})
    (path / "model.safetensors").rename(path / "1.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    assert message in refusal(path)


def test_an_empty_mask_of_vast_shape_takes_no_memory(tmp_path: Path) -> None:
    parts = {
        "a.shape": ("I64", [2, 1], (2**40).to_bytes(8, "little") + bytes(8)),
        "a.compressed": ("F32", [2**40, 0], b""),
        "a.bitmask": ("U8", [2**40, 0], b""),
    }
    path = made(
        tmp_path / "out",
        {"b": torch.ones(1)},
        {"quantization_config": {"sparsity_config": {"format": "sparse-24-bitmask"}}},
    )
    (path / "model.safetensors").write_bytes(forged(parts, {}))

    with folder.open_source(path) as source:
        value = source.read("a.weight")

    assert (2**40, 0) == tuple(value.tensor.shape)


@UNHURRIED
@given(place=st.integers(0, 2**16), byte=st.integers(0, 255))
def test_a_changed_byte_gives_tensors_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("folder") / "out"
    folder.write(path, small(), None)
    raw = bytearray((path / "model.safetensors").read_bytes())
    raw[place % len(raw)] = byte
    (path / "model.safetensors").write_bytes(raw)
    try:
        found = reopened(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert 4 == len(found["tensors"])
    shutil.rmtree(path)
