from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import npz
from ntksap_export.errors import CheckpointError

from ..checkpoint_cases import PROVENANCE, UNHURRIED
from .memory_source import MemorySource, everything, pruned, reading, small, source_of, sources

FOREIGN = {torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}


reopened, refusal = reading(npz)


@UNHURRIED
@given(source=sources())
def test_every_bit_comes_back(tmp_path_factory: pytest.TempPathFactory, source: MemorySource) -> None:
    assume(not FOREIGN & {value.tensor.dtype for value in source.values.values()})
    path = tmp_path_factory.mktemp("folder") / "out"
    npz.write(path, source, source.provenance)

    assert everything(source) == reopened(path)


def test_two_writes_give_equal_bytes_without_a_clock(tmp_path: Path) -> None:
    npz.write(tmp_path / "a", small(), PROVENANCE)
    npz.write(tmp_path / "b", small(), PROVENANCE)

    def content(name: str) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}

    assert {"tensors.json", "conv.weight.npz", "fc.weight.npz", "fc.bias.npy", "steps.npy"} == set(content("a"))
    assert content("a") == content("b")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8, torch.float16, torch.uint16], ids=str)
def test_scipy_reads_ours(tmp_path: Path, dtype: torch.dtype) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="needs the extra `interop`")
    value = pruned((4, 3, 3, 3), 0.3, torch.int8).tensor
    kept = pruned((4, 3, 3, 3), 0.3, torch.int8).kept
    assert kept is not None
    npz.write(tmp_path / "out", source_of({"a.weight": kept}, a__weight=value.abs().to(dtype)), None)

    found = sparse.load_npz(tmp_path / "out" / "a.weight.npz")

    assert "csr" == found.format
    assert (4, 27) == found.shape
    assert int(kept.sum()) == found.nnz  # a kept zero among them
    assert value.abs().reshape(4, 27).tolist() == found.astype(np.float64).toarray().tolist()


@pytest.mark.parametrize("compressed", [True, False])
def test_we_read_scipys(tmp_path: Path, compressed: bool) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="needs the extra `interop`")
    dense = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    sparse.save_npz(tmp_path / "a.weight.npz", sparse.csr_array(dense.numpy()), compressed=compressed)
    np.save(tmp_path / "a.bias.npy", np.asfortranarray([[1, 2], [3, 4]], dtype=">i4"))

    expected = source_of({"a.weight": dense != 0}, a__weight=dense, a__bias=torch.tensor([[1, 2], [3, 4]]).int())

    assert npz.matches(tmp_path)
    assert everything(expected) == reopened(tmp_path)


def test_other_matrices_of_scipy_are_refused(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="needs the extra `interop`")
    sparse.save_npz(tmp_path / "a.npz", sparse.csc_array(np.eye(2)))

    assert "is a sparse matrix of format 'csc'; save it with .tocsr()" in refusal(tmp_path)


def test_names_that_are_no_file_names_come_back(tmp_path: Path) -> None:
    names = ["a/b", "../up", "A.weight", "a.weight", "tensors.json", ".hidden", "x" * 300, "é", "", "tensor_3", "a.npy"]
    source = MemorySource({name: Decoded(torch.tensor(number), None) for number, name in enumerate(names)})
    npz.write(tmp_path / "out", source, None)

    assert everything(source) == reopened(tmp_path / "out")
    assert 1 + len(names) == len({file.name.lower() for file in (tmp_path / "out").iterdir()})
    assert ["out"] == [file.name for file in tmp_path.iterdir()]


def test_dtype_that_numpy_lacks_is_refused_and_nothing_left(tmp_path: Path) -> None:
    source = source_of(a=torch.ones(1), b=torch.ones(1, dtype=torch.bfloat16))

    with pytest.raises(CheckpointError, match="'b' has dtype bfloat16, which numpy has not; convert with --dtype"):
        npz.write(tmp_path / "out", source, None)

    assert [] == list(tmp_path.iterdir())


def test_only_such_folders_match(tmp_path: Path) -> None:
    npz.write(tmp_path / "ours", small(), None)
    (tmp_path / "mixed").mkdir()
    np.savez(tmp_path / "mixed" / "a.npz", x=np.ones(1))
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "tensors.json").write_text("[]")
    (tmp_path / "empty").mkdir()

    names = ("ours", "mixed", "json", "empty", "absent", "ours/steps.npy")
    found = {name: npz.matches(tmp_path / name) for name in names}

    assert {**dict.fromkeys(names, False), "ours": True} == found


def repacked(**changes: Any) -> Callable[[Path], None]:
    """Other arrays in fc.weight.npz: an array, a function of the old one, or None for none."""

    def apply(path: Path) -> None:
        with np.load(path / "fc.weight.npz") as archive:
            arrays = dict(archive)
        for name, change in changes.items():
            arrays[name] = change(arrays[name]) if callable(change) else change
        np.savez(path / "fc.weight.npz", **{name: array for name, array in arrays.items() if array is not None})

    return apply


def reindexed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        index = json.loads((path / "tensors.json").read_text())
        change(index)
        (path / "tensors.json").write_text(json.dumps(index))

    return apply


def overwritten(name: str, content: bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        (path / name).write_bytes(content)

    return apply


def header(text: str) -> bytes:
    """A .npy file without values."""
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def bombed(path: Path) -> None:
    """A megabyte that deflates to a kilobyte, under a header that claims a terabyte."""
    with zipfile.ZipFile(path / "fc.weight.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        claimed = header("{'descr': '<f4', 'fortran_order': False, 'shape': (274877906944,), }")
        archive.writestr("data.npy", claimed + bytes(2**20))
        archive.writestr("format.npy", header("{'descr': '|S3', 'fortran_order': False, 'shape': (), }") + b"csr")
        archive.writestr(
            "shape.npy",
            header("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }") + bytes([5, *bytes(7), 11, *bytes(7)]),
        )


def shuffled(ends: np.ndarray) -> np.ndarray:
    return np.concatenate([ends[:1], ends[2:3] + 1, ends[2:]]).astype(ends.dtype)


LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no zip": (overwritten("fc.weight.npz", b"PK"), "it cannot be read"),
    "no data": (repacked(data=None), "data is missing"),
    "pickled data": (repacked(data=np.array([object()])), "which is not read; use numbers"),
    "complex data": (repacked(data=lambda data: data.astype(np.complex128)), "which is not read; use numbers"),
    "fewer data": (repacked(data=lambda data: data[1:]), "indices must be"),
    "data of two axes": (repacked(data=lambda data: data[:, None]), "indices must be"),
    "float indices": (repacked(indices=lambda old: old.astype(np.float32)), "indices must be"),
    "far index": (repacked(indices=lambda old: old + 11), "indices must be from 0 to 10"),
    "negative index": (repacked(indices=lambda old: old - 11), "indices must be from 0 to 10"),
    "one place twice": (repacked(indices=lambda old: old * 0), "stores one place twice"),
    "falling indptr": (repacked(indptr=shuffled), "indptr must rise from 0 to"),
    "short indptr": (repacked(indptr=lambda old: old[1:]), "indptr must be 6 whole numbers"),
    "end of indptr": (repacked(indptr=lambda old: old + 1), "indptr must rise from 0 to"),
    "other shape": (repacked(shape=np.array([5, 12])), "is a matrix (5, 12); tensors.json says (5, 11)"),
    "negative shape": (repacked(shape=np.array([5, -1])), "shape must be a list of sizes"),
    "long shape": (repacked(shape=np.array([5, 1, 11])), "its shape must be two numbers"),
    "format": (repacked(format=np.array([b"csr"])), "format must be a word"),
    "bomb": (bombed, "cannot have 1048576 bytes"),
    "pickle": (overwritten("steps.npy", pickle.dumps(7)), "it cannot be read"),
    "object array": (
        overwritten("steps.npy", header("{'descr': '|O', 'fortran_order': False, 'shape': (), }") + b"\x80\x04."),
        "an array of 'object', which is not read",
    ),
    "vast array": (
        overwritten("steps.npy", header("{'descr': '<i8', 'fortran_order': False, 'shape': (2199023255552,), }")),
        "truncated or damaged",
    ),
    "code in the header": (
        overwritten("steps.npy", header("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': ()}")),
        "it cannot be read",
    ),
    "bool of 2": (
        overwritten("steps.npy", header("{'descr': '|b1', 'fortran_order': False, 'shape': (), }") + b"\x02"),
        "holds bytes other than 0 and 1",
    ),
    "other shape of npy": (
        reindexed(lambda i: i["tensors"]["steps"].update(shape=[1])),
        "is (), tensors.json says (1,)",
    ),
    "file is gone": (lambda path: (path / "steps.npy").unlink(), "lists the missing 'steps.npy'"),
    "file is not listed": (reindexed(lambda i: i["tensors"].pop("steps")), "does not list 'steps.npy'"),
    "file outside": (
        reindexed(lambda i: i["tensors"]["steps"].update(file="../steps.npy")),
        "the entry of 'steps' must have a file beside it",
    ),
    "file twice": (
        reindexed(lambda i: i["tensors"]["steps"].update(file="fc.bias.npy")),
        "gives one file to two names",
    ),
    "schema": (reindexed(lambda i: i.update(schema=2)), "has schema 2, known is 1; upgrade ntksap-export"),
    "format of the index": (reindexed(lambda i: i.update(format="x")), "must have format 'ntksap-npz'"),
    "not JSON": (overwritten("tensors.json", b"{"), "is not JSON"),
}


@pytest.mark.parametrize(("lie", "message"), LIES.values(), ids=LIES)
def test_a_lie_is_one_line(tmp_path: Path, lie: Callable[[Path], object], message: str) -> None:
    npz.write(tmp_path / "out", small(), PROVENANCE)
    lie(tmp_path / "out")

    assert message in refusal(tmp_path / "out")


def test_a_matrix_of_vast_columns_is_refused(tmp_path: Path) -> None:
    ends = np.zeros(2, np.int32)
    np.savez(
        tmp_path / "a.npz", format=b"csr", shape=[1, 2**40], data=np.ones(0, np.float32), indices=ends[:0], indptr=ends
    )

    assert "would take 4398046511104 bytes, of which" in refusal(tmp_path)


@UNHURRIED
@given(place=st.integers(0, 2**16), byte=st.integers(0, 255))
@example(place=31601, byte=1)  # a member that begins before the file
def test_a_changed_byte_gives_tensors_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("folder") / "out"
    npz.write(path, small(), None)
    raw = bytearray((path / "fc.weight.npz").read_bytes())
    raw[place % len(raw)] = byte
    (path / "fc.weight.npz").write_bytes(raw)
    try:
        found = reopened(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert everything(small())["tensors"] == found["tensors"]  # a zip archive has checksums
