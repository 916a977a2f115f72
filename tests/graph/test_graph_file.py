from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph

from .graph_cases import parse


def test_save_and_load_keep_every_byte(tmp_path: Path) -> None:
    graph = Graph(parse(), ("w", "b"))
    path = tmp_path / "new" / "tiny.onnx"
    graph.save(path)

    loaded = Graph.load(path)

    assert graph.to_bytes() == path.read_bytes() == loaded.to_bytes()
    assert ("w", "b") == loaded.parameters
    assert ["tiny.onnx"] == [item.name for item in path.parent.iterdir()]


def test_weights_are_the_initializers_of_two_or_more_axes() -> None:
    weights = dict(Graph(parse(), ("w", "b")).weights())

    assert ["w"] == list(weights)
    assert [[1, 0], [-1, 2], [0, 3]] == weights["w"].tolist()
    assert np.float32 == weights["w"].dtype


def test_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no such file '.*absent\.onnx'"):
        Graph.load(tmp_path / "absent.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a graph", b"\xff" * 64, b"{}\n"], ids=repr)
def test_foreign_file_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign.onnx").write_bytes(content)

    with pytest.raises(ExportError, match=r"foreign\.onnx' is not a valid ONNX graph: .") as caught:
        Graph.load(tmp_path / "foreign.onnx")

    assert 1 == len(str(caught.value).splitlines())


def test_file_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    whole, path = Graph(parse(), ()).to_bytes(), tmp_path / "cut.onnx"
    accepted = []
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            Graph.load(path)
        except ExportError:
            continue
        accepted.append(length)

    assert [] == accepted


def test_name_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(Graph(parse(), ()).to_bytes().replace(b"MatMul", b"Mat\xc1ul"))

    with pytest.raises(ExportError, match="not a valid ONNX graph"):
        Graph.load(path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("raw_data", bytes(28), "'w' has 28 bytes of values where its shape asks for 24"),
        ("data_type", 99, "'w' has the unknown type 99"),
    ],
    ids=["too-many-bytes", "unknown-type"],
)
def test_a_tensor_that_the_checker_lets_pass_is_an_error(tmp_path: Path, field: str, value: object, said: str) -> None:
    proto = parse()
    (weight,) = (item for item in proto.graph.initializer if item.name == "w")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight), "w"))
    setattr(weight, field, value)
    (tmp_path / "odd.onnx").write_bytes(proto.SerializeToString())

    with pytest.raises(ExportError, match=f"odd.onnx' is not a valid ONNX graph: {said}$"):
        Graph.load(tmp_path / "odd.onnx")


def test_graph_with_a_loose_end_is_an_error(tmp_path: Path) -> None:
    proto = parse()
    proto.graph.node[0].input[0] = "elsewhere"
    path = tmp_path / "loose.onnx"
    onnx.save(proto, str(path))

    with pytest.raises(ExportError, match="not a valid ONNX graph"):
        Graph.load(path)
