"""The outermost fields of an ONNX file, read without onnx: against what onnx itself reads, and of what is none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from ntksap_export.wire import opset_domains

INPUT = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])
OUTPUT = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])


def model(*domains: str) -> bytes:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [INPUT], [OUTPUT])
    opsets = [helper.make_opsetid(domain, 20 - place) for place, domain in enumerate(domains)]
    made = helper.make_model(graph, opset_imports=opsets, producer_name="p" * 300)
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("domains", [("",), ("", "com.microsoft"), ("ntksap_export", ""), ("", "ä", "b" * 200)])
def test_the_domains_are_those_that_onnx_reads(tmp_path: Path, domains: tuple[str, ...]) -> None:
    content = model(*domains)
    (tmp_path / "g.onnx").write_bytes(content)

    assert set(domains) == {entry.domain for entry in onnx.load_from_string(content).opset_import}
    assert set(domains) == opset_domains(content) == opset_domains(tmp_path / "g.onnx")


def test_what_is_no_model_has_none(tmp_path: Path) -> None:
    content = model("", "ntksap_export")

    assert frozenset() == opset_domains(tmp_path / "no.onnx")
    assert frozenset() == opset_domains(tmp_path)
    assert frozenset() == opset_domains(b"")
    assert frozenset() == opset_domains(b"\xff" * 64)
    assert all("ntksap_export" not in opset_domains(content[:end]) for end in range(len(content)))  # it comes last
