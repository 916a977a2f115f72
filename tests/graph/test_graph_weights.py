"""Graphs as checkpoints: what is read of them, dense to sparse and back, and files that lie."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ntksap_export.bit_patterns import patterns
from ntksap_export.errors import CheckpointError, ExportError
from ntksap_export.graph import Graph, Weights, densify, is_graph, open_weights, sparsify, weights
from ntksap_export.graph import tensors as graph_tensors

from .conftest import Case
from .graph_cases import BRANCHES, initializer, parse

TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT64: torch.uint64,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}
WIDE = """
    <ir_version: 5, opset_import: ["" : 20]>
    wide (float[batch, 64] images) => (float[batch, 8] logits)
    <float[64, 8] w, float[8] b = {0, 1, 2, 3, 4, 5, 6, 7}>
    {
        product = MatMul(images, w)
        logits = Add(product, b)
    }
"""


def bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    return str(tensor.dtype), tuple(tensor.shape), tensor.contiguous().view(-1).view(torch.uint8).tolist()


def with_values(*items: onnx.TensorProto) -> onnx.ModelProto:
    """The tiny graph with more initializers than its nodes use."""
    proto = parse()
    proto.graph.initializer.extend(items)
    return proto


def sparse_weight(density: float = 0.1, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.where(draw.random((64, 8)) < density, draw.standard_normal((64, 8)), 0).astype(np.float32)


def wide(values: np.ndarray) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(WIDE.replace("float[64, 8] w,", "float[1] w = {0},"))
    (item,) = [item for item in proto.graph.initializer if item.name == "w"]
    item.CopyFrom(numpy_helper.from_array(values, "w"))
    return proto


def saved(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def content(path: Path) -> dict[str, Any]:
    with open_weights(path) as found:
        return {name: bits(found.read(name)[0]) for name in found.names()}


def refusal(path: Path) -> str:
    """What reading says, and both rewritings with it: one line that names the file."""
    said = []
    for work in (content, lambda p: sparsify(p, p.with_name("new")), lambda p: densify(p, p.with_name("new"))):
        with pytest.raises(CheckpointError) as caught:
            work(path)
        said.append(str(caught.value))
    assert said[0].startswith(str(path))
    assert said == said[:1] * 3
    assert "\n" not in said[0]
    assert not path.with_name("new").exists()
    return said[0]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize(("code", "dtype"), TYPES.items(), ids=[str(dtype) for dtype in TYPES.values()])
def test_every_type_is_read_bit_for_bit(tmp_path: Path, code: int, dtype: torch.dtype, raw: bool) -> None:
    values = torch.tensor([[0, 1, 1], [1, 0, 0]]).to(dtype)
    if dtype.is_floating_point:
        values[0, 0] = -0.0
        values[1, 1] = float("nan")
    data = values.view(torch.uint8).numpy().tobytes()
    if raw:
        item = TensorProto(name="x", data_type=code, dims=[2, 3], raw_data=data)
    else:
        _, field, kind = graph_tensors._TYPES[code]
        item = TensorProto(name="x", data_type=code, dims=[2, 3])
        getattr(item, field).extend(np.frombuffer(data, kind).tolist())
    path = saved(tmp_path / "a.onnx", with_values(item))

    with open_weights(path) as found:
        tensor, kept = found.read("x")
        names = found.names()

    assert ("b", "w", "x") == names
    assert bits(values) == bits(tensor)
    assert kept is None


@settings(deadline=None, max_examples=50)
@given(
    dtype=st.sampled_from(list(TYPES.values())),
    shape=st.lists(st.integers(0, 9), max_size=4),
    data=st.data(),
)
def test_sparse_and_dense_forms_hold_the_same_bits(dtype: torch.dtype, shape: list[int], data: st.DataObject) -> None:
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    raw = torch.tensor(list(data.draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8)
    tensor = (raw % 2 if dtype == torch.bool else raw).view(dtype).reshape(shape)

    item = graph_tensors.to_sparse("x", tensor)
    found, kept = graph_tensors.read_sparse(item, Path())

    assert bits(tensor) == bits(found)
    assert bits(kept) == bits(torch.from_numpy(patterns(tensor) != 0).reshape(shape))
    assert bits(tensor) == bits(graph_tensors.read_dense(graph_tensors.to_dense("x", tensor), Path()))
    if tensor.numel():
        onnx.checker.check_tensor(graph_tensors.to_dense("x", tensor))


def test_sparse_and_back_keeps_every_bit_and_the_answers(tmp_path: Path) -> None:
    values = sparse_weight()
    values[0, :3] = [-0.0, np.nan, np.inf]
    values[1, 0] = 1e-40
    dense = saved(tmp_path / "dense.onnx", wide(values))

    names = sparsify(dense, tmp_path / "sparse.onnx")
    again = densify(tmp_path / "sparse.onnx", tmp_path / "again.onnx")

    proto = onnx.load(tmp_path / "sparse.onnx")
    with open_weights(tmp_path / "sparse.onnx") as found:
        tensor, kept = found.read("w")
    assert ("w",) == names == again
    assert (["w"], ["b"]) == (
        [item.values.name for item in proto.graph.sparse_initializer],
        [item.name for item in proto.graph.initializer],
    )
    assert 6 == proto.ir_version
    assert bits(torch.from_numpy(values)) == bits(tensor)
    assert kept is not None
    assert (values.view(np.uint32) != 0).tolist() == kept.tolist()
    assert content(dense) == content(tmp_path / "sparse.onnx") == content(tmp_path / "again.onnx")
    assert (tmp_path / "sparse.onnx").stat().st_size < dense.stat().st_size


def test_twice_gives_equal_bytes_and_nothing_more_to_do(tmp_path: Path) -> None:
    dense = saved(tmp_path / "dense.onnx", wide(sparse_weight()))
    sparsify(dense, tmp_path / "a.onnx")
    sparsify(dense, tmp_path / "b.onnx")

    names = sparsify(tmp_path / "a.onnx", tmp_path / "c.onnx")

    assert () == names
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()


def test_only_what_gets_smaller_becomes_sparse(tmp_path: Path) -> None:
    for density, names in ((0.25, ("w",)), (0.5, ())):
        path = saved(tmp_path / "dense.onnx", wide(sparse_weight(density)))

        assert names == sparsify(path, tmp_path / "new.onnx")
        assert (tmp_path / "new.onnx").stat().st_size <= path.stat().st_size


def test_an_initializer_that_is_an_input_stays_dense(tmp_path: Path) -> None:
    proto = wide(sparse_weight())
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 8]))

    assert () == sparsify(saved(tmp_path / "dense.onnx", proto), tmp_path / "new.onnx")


def test_onnxruntime_gives_the_same_answers(tmp_path: Path, case: Case) -> None:
    proto = copy.deepcopy(case.graph.proto)
    for item in proto.graph.initializer:
        if item.data_type == TensorProto.FLOAT:  # a norm with a negative scale folds a pruned weight to -0.0
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) + np.float32(0), item.name))
    names = sparsify(saved(tmp_path / "dense.onnx", proto), tmp_path / "sparse.onnx")
    images = case.sample.numpy()

    def logits(name: str) -> list[list[float]]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(tmp_path / name, options, providers=["CPUExecutionProvider"])
        found: list[list[float]] = session.run(None, {"images": images})[0].tolist()
        return found

    assert len(names) > 10
    assert logits("dense.onnx") == logits("sparse.onnx")


def external(folder: Path, proto: onnx.ModelProto) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="model.data", size_threshold=0)
    return path


def test_external_data_are_read_and_come_into_the_file(tmp_path: Path) -> None:
    proto = wide(sparse_weight())
    whole = saved(tmp_path / "whole.onnx", proto)
    path = external(tmp_path / "parts", proto)

    names = sparsify(path, tmp_path / "sparse.onnx")

    assert ("w",) == names
    assert content(whole) == content(path) == content(tmp_path / "sparse.onnx")
    assert ["model.data", "model.onnx"] == sorted(file.name for file in (tmp_path / "parts").iterdir())


def relocated(**entries: str) -> Callable[[Path], None]:
    """Other entries of w's external data."""

    def apply(path: Path) -> None:
        proto = onnx.load(path, load_external_data=False)
        (item,) = [item for item in proto.graph.initializer if item.name == "w"]
        for entry in item.external_data:
            entry.value = entries.get(entry.key, entry.value)
        saved(path, proto)

    return apply


def linked(path: Path) -> None:
    (path.parent / "model.data").rename(path.parent.parent / "elsewhere")
    (path.parent / "model.data").symlink_to(path.parent.parent / "elsewhere")


EXTERNAL_LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (lambda path: (path.parent / "model.data").unlink(), "the data file 'model.data' of 'w' is missing"),
    "cut": (lambda path: (path.parent / "model.data").write_bytes(b"1"), "has 1 bytes, the tensor ends at 2048"),
    "outside": (relocated(location="../elsewhere"), "the data of 'w' lie outside the graph's folder"),
    "absolute": (relocated(location="/etc/passwd"), "the data of 'w' lie outside the graph's folder"),
    "link": (linked, "is a link or no file"),
    "vast length": (relocated(length=str(2**50)), "must have 2048 bytes; its data say '1125899906842624' at '0'"),
    "far offset": (relocated(offset=str(2**50)), "the tensor ends at"),
    "negative offset": (relocated(offset="-1"), "at '-1'"),
    "no number": (relocated(offset="x"), "at 'x'"),
}


@pytest.mark.parametrize(("lie", "message"), EXTERNAL_LIES.values(), ids=EXTERNAL_LIES)
def test_external_data_that_lie_are_refused(tmp_path: Path, lie: Callable[[Path], object], message: str) -> None:
    proto = wide(sparse_weight())
    del proto.graph.initializer[1:]
    path = external(tmp_path / "parts", proto)
    lie(path)

    assert message in refusal(path)


def dense_item(**changes: Any) -> onnx.TensorProto:
    return TensorProto(**{"name": "x", "data_type": TensorProto.FLOAT, "dims": [2], "raw_data": bytes(8), **changes})


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (dense_item(dims=[3]), "'x' (3,) must have 12 bytes; got 8"),
        (dense_item(dims=[2**62, 2**62]), "'x' has the impossible shape"),
        (dense_item(dims=[-2]), "'x' has the impossible shape (-2,)"),
        (dense_item(dims=[2**40]), "must have 4398046511104 bytes; got 8"),
        (TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[3], float_data=[1]), "'x' (3,) has 1 values"),
        (TensorProto(name="x", data_type=TensorProto.INT8, dims=[1], int32_data=[300]), "values beyond its type"),
        (dense_item(data_type=TensorProto.BOOL, dims=[8], raw_data=b"\2" * 8), "bool but holds bytes other than"),
        (dense_item(name="w"), "two initializers have one name"),
        (TensorProto(name="x", dims=[2], data_type=1, segment=TensorProto.Segment(begin=0)), "stored in segments"),
    ],
)
def test_initializers_that_lie_are_refused(tmp_path: Path, item: onnx.TensorProto, message: str) -> None:
    assert message in refusal(saved(tmp_path / "a.onnx", with_values(item)))


def test_a_type_that_torch_lacks_is_named_and_left_alone(tmp_path: Path) -> None:
    item = TensorProto(name="x", data_type=TensorProto.STRING, dims=[1], string_data=[b"cat"])
    path = saved(tmp_path / "a.onnx", with_values(item))

    with open_weights(path) as found, pytest.raises(CheckpointError, match="'x' has type STRING, which is not read"):
        found.read("x")
    sparsify(path, tmp_path / "new.onnx")

    assert [b"cat"] == list(onnx.load(tmp_path / "new.onnx").graph.initializer[-1].string_data)


def sparse_item(places: Any, values: Any = (1.0, 2.0), dims: Any = (2, 3), kind: Any = np.int64) -> Any:
    return onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.array(values, dtype=np.float32), "s"),
        indices=numpy_helper.from_array(np.array(places, dtype=kind), "i"),
        dims=dims,
    )


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (sparse_item([1]), "indices of the sparse 's' must be 2 int64"),
        (sparse_item([0, 1], kind=np.int32), "indices of the sparse 's' must be 2 int64; got torch.int32"),
        (sparse_item([0, 6]), "lie outside (2, 3)"),
        (sparse_item([-1, 1]), "lie outside (2, 3)"),
        (sparse_item([-1, -1, 1], values=(1.0, 2.0, 3.0)), "lie outside (2, 3)"),
        (sparse_item([3, 1]), "lie outside (2, 3)"),
        (sparse_item([0, 4, 2, 5], values=(1.0,) * 4), "must rise"),
        (sparse_item([1, 1]), "must rise"),
        (sparse_item([[0, 1], [2, 0]]), "lie outside (2, 3)"),
        (sparse_item([[0, 1], [0, -1]]), "lie outside (2, 3)"),
        (sparse_item([[1, 0], [0, 1]]), "lie outside (2, 3)"),
        (sparse_item([0, 1], dims=(2**20, 2**20)), "would take 4398046511104 bytes, of which 24 are stored"),
        (sparse_item([0, 1], dims=(2**40, 2**40)), "has the impossible shape"),
        (sparse_item([0, 1], values=((1.0,), (2.0,))), "must be in a row; got (2, 1)"),
    ],
)
def test_sparse_initializers_that_lie_are_refused(tmp_path: Path, item: Any, message: str) -> None:
    proto = parse()
    proto.graph.sparse_initializer.append(item)

    assert message in refusal(saved(tmp_path / "a.onnx", proto))


def test_positions_as_coordinates_are_read(tmp_path: Path) -> None:
    proto = parse()
    proto.graph.sparse_initializer.append(sparse_item([[0, 1], [1, 2]]))

    with open_weights(saved(tmp_path / "a.onnx", proto)) as found:
        tensor, kept = found.read("s")

    assert [[0, 1, 0], [0, 0, 2]] == tensor.tolist()
    assert kept is not None
    assert [[False, True, False], [False, False, True]] == kept.tolist()


def test_a_stored_zero_is_kept(tmp_path: Path) -> None:
    proto = parse()
    proto.graph.sparse_initializer.append(sparse_item([0, 1], values=(0.0, 2.0)))

    with open_weights(saved(tmp_path / "a.onnx", proto)) as found:
        _, kept = found.read("s")

    assert kept is not None
    assert 2 == int(kept.sum())


def test_a_result_above_two_gib_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "dense.onnx", wide(sparse_weight()))
    sparsify(path, tmp_path / "sparse.onnx")
    monkeypatch.setattr(weights, "_LARGEST", 1500)

    with pytest.raises(ExportError, match="does not fit one file of 2 GiB"):
        densify(tmp_path / "sparse.onnx", tmp_path / "new.onnx")

    assert not (tmp_path / "new.onnx").exists()


def test_graphs_are_known_by_content(tmp_path: Path, case: Case) -> None:
    Graph(parse(BRANCHES), ()).save(tmp_path / "branches")
    case.graph.save(tmp_path / "resnet")
    whole = (tmp_path / "branches").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-1])
    (tmp_path / "more").write_bytes(whole + b"\0")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("08 hello")
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt")
    names = ("branches", "resnet", "cut", "more", "empty", "text", "model.pt", "absent", ".")

    assert ["branches", "resnet"] == [name for name in names if is_graph(tmp_path / name)]


@pytest.mark.parametrize("raw", [b"PK\x03\x04", b"\xff" * 64, b"{}\n"], ids=repr)
def test_what_is_no_graph_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(raw)

    assert "not a valid ONNX graph: " in refusal(tmp_path / "a.onnx")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path / 'a.onnx'}: no such file" == refusal(tmp_path / "a.onnx")


def test_weights_of_the_tiny_graph() -> None:
    found = Weights(Path("tiny.onnx"), parse())

    assert None is found.provenance
    assert initializer(parse(), "w").tolist() == found.read("w")[0].tolist()


@settings(deadline=None)
@given(place=st.integers(0, 2**16), byte=st.integers(0, 255))
def test_a_changed_byte_gives_tensors_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    folder = tmp_path_factory.mktemp("graph")
    sparsify(saved(folder / "dense.onnx", wide(sparse_weight())), folder / "a.onnx")
    raw = bytearray((folder / "a.onnx").read_bytes())
    raw[place % len(raw)] = byte
    (folder / "a.onnx").write_bytes(raw)
    for work in (content, lambda path: densify(path, folder / "new.onnx")):
        try:
            found = work(folder / "a.onnx")
        except CheckpointError as error:
            assert "\n" not in str(error)
        else:
            assert isinstance(found, dict | tuple)
