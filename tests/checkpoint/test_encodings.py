from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from ntksap_export.checkpoint import SparseCheckpoint
from ntksap_export.checkpoint.bits import pack, packed_shape, unpack
from ntksap_export.checkpoint.container import open_container
from ntksap_export.checkpoint.encodings import ENCODINGS, Subject
from ntksap_export.checkpoint.writer import container_bytes
from ntksap_export.masks import Mask

from .checkpoint_cases import UNHURRIED, bits, checkpoints, content, document_of, split, tensor_of

KINDS = {"none", "full", "nonzero", "bitmask", "stored"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], [1, 2]),
        ([0, 2, 3, 0, 0, 0, 0, 5, 0, 0, 7], [134, 4]),
    ],
)
def test_published_examples_pack_to_their_bytes(row: list[int], expected: list[int]) -> None:
    packed = pack(torch.tensor([row]) != 0)

    assert [expected] == packed.tolist()


@UNHURRIED
@given(st.lists(st.integers(0, 9), max_size=4), st.integers(0, 99))
def test_unpack_undoes_pack(shape: list[int], seed: int) -> None:
    kept = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5

    packed = pack(kept)

    assert packed_shape(tuple(shape)) == tuple(packed.shape)
    assert bits(kept) == bits(unpack(packed, tuple(shape)))


def test_file_follows_the_published_convention() -> None:
    values = [[1, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0], [0, 2, 3, 0, 0, 0, 0, 5, 0, 0, 7]]
    checkpoint = tensor_of(values, (torch.tensor(values) != 0).tolist())

    header, data = split(checkpoint.to_bytes("bitmask"))

    def part(name: str, dtype: str) -> list[object]:
        first, last = header[name]["data_offsets"]
        return [header[name]["dtype"], header[name]["shape"], np.frombuffer(data[first:last], dtype).tolist()]

    assert {"__metadata__", "fc.shape", "fc.compressed", "fc.bitmask", "fc.row_offsets"} == set(header)
    assert part("fc.shape", "<i8") == ["I64", [2], [2, 11]]
    assert part("fc.compressed", "<f4") == ["F32", [6], [1.0, 9.0, 2.0, 3.0, 5.0, 7.0]]
    assert part("fc.bitmask", "u1") == ["U8", [2, 2], [1, 2, 134, 4]]
    assert part("fc.row_offsets", "<i8") == ["I64", [2], [0, 2]]
    assert {"ntksap"} == set(header["__metadata__"])
    assert {
        "schema": 2,
        "tensors": {"fc.weight": {"encoding": "bitmask", "shape": [2, 11], "mask": "bitmask"}},
        "provenance": checkpoint.provenance.to_json(),
    } == document_of(header)


def test_convolution_is_packed_as_a_matrix_and_read_by_numpy_alone(tmp_path: Path) -> None:
    weight = torch.arange(1.0, 1 + 4 * 3 * 3 * 3).reshape(4, 3, 3, 3)
    kept = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    path = tmp_path / "conv.safetensors"
    weight[~kept] = 0
    tensor_of(weight.tolist(), kept.tolist()).save(path, "bitmask")

    with safe_open(path, framework="np") as file:
        rows, columns = file.get_tensor("fc.shape")
        stored = np.unpackbits(file.get_tensor("fc.bitmask"), axis=1, bitorder="little")[:, :columns]
        decoded = np.zeros((rows, columns), np.float32)
        decoded[stored == 1] = file.get_tensor("fc.compressed")
        offsets = file.get_tensor("fc.row_offsets")

    assert (rows, columns) == (4, 27)
    assert weight.reshape(4, 27).tolist() == decoded.tolist()
    assert np.cumsum([0, *stored.sum(1)[:-1]]).tolist() == offsets.tolist()


@pytest.mark.parametrize(
    ("values", "mask", "encoding", "kind"),
    [
        ([[1.0, 0.0]], [[True, True]], "dense", "full"),
        ([[1.0, 0.0, 3.0]], [[True, False, True]], "dense", "nonzero"),
        ([[1.0, -0.0, 0.0]], [[True, True, False]], "dense", "nonzero"),
        ([[1.0, 0.0, 0.0]], [[True, True, False]], "bitmask-zstd", "stored"),
        ([[1.0] + [0.0] * 63], [[True] + [False] * 63], "gap", "stored"),
        ([[0.5, 0.0, 0.25, 0.0] * 256], [[True, False, True, False] * 256], "bitmask-zstd", "stored"),
        ([[1.0] * 4096], [[True] * 4096], "planes", "full"),
        ([[]], [[]], "dense", "full"),
    ],
    ids=["full", "dense-is-smaller", "kept-minus-zero", "kept-zero", "sparse", "regular", "alike", "empty"],
)
def test_smallest_lossless_encoding_is_chosen(values: list[Any], mask: list[Any], encoding: str, kind: str) -> None:
    (row,) = tensor_of(values, mask).size_report().rows

    assert (encoding, kind) == (row.encoding, row.mask)


def test_choice_is_by_bytes_of_values_and_of_what_the_header_says_of_them() -> None:
    """Each encoding is tried alone; what `auto` takes adds the fewest bytes to the file."""
    generator = torch.Generator().manual_seed(0)
    for shape, density in itertools.product([(4, 8), (16, 16, 3, 3), (64, 64)], [0.01, 0.1, 0.3, 0.5, 0.97, 1.0]):
        kept = torch.rand(shape, generator=generator) < density
        weight = torch.where(kept, torch.randn(shape, generator=generator), 0.0)
        checkpoint = SparseCheckpoint({"fc.weight": weight}, Mask({"fc.weight": kept}), None)

        sizes = {key: len(checkpoint.to_bytes(key)) for key in ("auto", *ENCODINGS)}

        assert sizes["auto"] <= min(sizes.values()) + 24, (shape, density, sizes)  # places in the file take some digits


@pytest.mark.parametrize("key", ENCODINGS)
@UNHURRIED
@given(checkpoint=checkpoints())
def test_every_encoding_gives_back_what_it_accepts(
    key: str, tmp_path_factory: pytest.TempPathFactory, checkpoint: SparseCheckpoint
) -> None:
    encoding = ENCODINGS[key]
    path = tmp_path_factory.mktemp("encoding") / "one.safetensors"
    for name, tensor in checkpoint.tensors.items():
        kept = checkpoint.mask.get(name)
        encoded = encoding.encode(Subject(name, tensor, kept))
        if encoded is None:
            continue
        path.write_bytes(container_bytes(encoded.arrange(), {}))
        with open_container(path) as container:
            decoded = encoding.decode(name, encoded.entry, container)

        assert set(encoding.parts(name)) == set(encoded.sizes)
        assert {part: values.nbytes for part, values in encoded.arrange().items()} == encoded.sizes
        assert key == encoded.entry.encoding
        assert encoded.entry.mask in KINDS
        assert bits(tensor) == bits(decoded.tensor)
        assert (kept is None) == (decoded.kept is None)
        if kept is not None and decoded.kept is not None:
            assert bits(kept) == bits(decoded.kept)


def test_subnormal_counts_as_a_value_when_the_processor_flushes_them() -> None:
    checkpoint = tensor_of([[1e-40, 0.0, 1.0]], [[True, False, True]])
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormals")
    try:
        (row,) = checkpoint.size_report().rows
    finally:
        torch.set_flush_denormal(False)

    assert (row.mask, row.kept) == ("nonzero", 2)
    assert content(checkpoint)["tensors"]["fc.weight"][2][:4] != [0, 0, 0, 0]
