"""`ntksap export` outside a run directory with --engine: of a model, and of an ONNX file of any maker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ntksap_export.graph import Graph
from ntksap_export.pipeline import engine as making
from ntksap_export.runtime.ort import OrtSession
from tests.runtime.precision_cases import batches, small_graph
from tests.support.engine import NOT_BUILT, needs_engine, take_library_away, write_engine_graph

Ntksap = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = {"batch": 1, "threads": 1, "p50_ms": 2.0, "plain_p50_ms": 5.0, "ratio": {"value": 0.4}}
    monkeypatch.setattr(making, "compare_speed", lambda *_: speed)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    small_graph().save(path)
    return path


def one_line(err: str) -> str:
    assert 1 == len(err.splitlines()), err
    return err


@needs_engine
def test_a_foreign_graph_gets_a_graph_for_the_engine_beside_it(foreign: Path, ntksap: Ntksap) -> None:
    before = foreign.read_bytes()

    code, out, err = ntksap("export", foreign, "--engine", "--json", "--quiet")

    told = json.loads(out)
    assert (0, "") == (code, err)
    assert (["net.sparse.onnx"], True) == (list(told["files"]), told["parity"]["passed"])
    assert ({"value": 0.4}, []) == (told["engine"]["speed"]["ratio"], told["engine"]["left"])
    assert {"net.onnx", "net.sparse.onnx"} == {file.name for file in foreign.parent.iterdir()}
    assert before == foreign.read_bytes()
    (images,) = batches(1)
    with OrtSession(foreign) as one, OrtSession(foreign.with_name("net.sparse.onnx")) as other:
        np.testing.assert_allclose(one.run(images), other.run(images), rtol=0, atol=1e-4)


@needs_engine
def test_a_fixed_batch_is_compared_at_that_batch(tmp_path: Path, ntksap: Ntksap) -> None:
    proto = small_graph().proto
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())

    code, out, _ = ntksap(
        "export", tmp_path / "net.onnx", "--engine", "--out", tmp_path / "new" / "of.onnx", "--json", "--quiet"
    )

    told = json.loads(out)
    assert (0, ["of.onnx"]) == (code, list(told["files"]))
    assert {3} == {check["batch"] for check in told["parity"]["checks"]}


@needs_engine
def test_a_checkpoint_gets_both_graphs(finished_run: Path, tmp_path: Path, ntksap: Ntksap) -> None:
    code, out, err = ntksap(
        "export", finished_run / "model.safetensors", "--engine", "--out", tmp_path / "a.onnx", "-q"
    )

    assert (0, "") == (code, err)
    assert "  engine    100.0% of the multiply-accumulates in 1 region; 0.40 times the time of the graph" in out
    assert ["a.onnx", "a.parity.json", "a.sparse.onnx"] == sorted(file.name for file in tmp_path.glob("a.*"))
    assert json.loads((tmp_path / "a.parity.json").read_text())["engine"]["passed"]


def _quantized() -> bytes:
    graph = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[n, 3, 4, 4] x) => (float[n, 3, 4, 4] y)
        <float scale = {0.1}, uint8 zero = {0}>
        { q = QuantizeLinear(x, scale, zero) y = DequantizeLinear(q, scale, zero) }"""
    )
    return bytes(graph.SerializeToString())


def _without_weights() -> bytes:
    text = (
        """<ir_version: 10, opset_import: ["" : 20]> g (float[n, 3, 4, 4] x) => (float[n, 3, 4, 4] y) { y = Relu(x) }"""
    )
    return bytes(onnx.parser.parse_model(text).SerializeToString())


@needs_engine
@pytest.mark.parametrize(
    ("content", "flags", "code", "said"),
    [
        (None, (), 2, "is a graph already; --engine writes it for the sparse engine"),
        (None, ("--engine", "--opset", "18"), 2, "is a graph already; --opset is for the export of a model"),
        (None, ("--engine", "--int8"), 2, "is a graph already; --int8 is for the export of a model"),
        (None, ("--engine", "--mask", "m.safetensors"), 2, "--mask is for a model outside a run"),
        (None, ("--engine", "--image-size", "16"), 2, "got --image-size 16"),
        (None, ("--engine", "--out", "net.txt"), 2, "--out must be a file that ends in .onnx"),
        (_quantized(), ("--engine",), 2, "the sparse engine computes in fp32"),
        (_without_weights(), ("--engine",), 5, "net.sparse.onnx was not made: nothing in the graph is for the sparse"),
        (b"no graph", ("--engine",), 5, "is not a valid ONNX graph"),
        (b"", ("--engine",), 5, "is not a valid ONNX graph"),
    ],
)
def test_what_cannot_be_done_is_a_line_and_leaves_nothing(
    foreign: Path, ntksap: Ntksap, content: bytes | None, flags: tuple[str, ...], code: int, said: str
) -> None:
    if content is not None:
        foreign.write_bytes(content)

    found, out, err = ntksap("export", foreign, *flags, "--quiet")

    assert (code, "") == (found, out), err
    assert said in one_line(err)
    assert ["net.onnx"] == [file.name for file in foreign.parent.iterdir()]


@needs_engine
def test_what_is_there_stays_where_the_new_one_cannot_be_made(foreign: Path, ntksap: Ntksap) -> None:
    foreign.write_bytes(_without_weights())
    there = foreign.with_name("net.sparse.onnx")
    there.write_bytes(b"of before")

    code, _, _ = ntksap("export", foreign, "--engine", "--quiet")

    assert (5, b"of before") == (code, there.read_bytes())


def test_a_file_that_nobody_asked_for_is_left_alone(finished_run: Path, tmp_path: Path, ntksap: Ntksap) -> None:
    (tmp_path / "a.sparse.onnx").write_bytes(b"somebody's")

    code, _, _ = ntksap("export", finished_run / "model.safetensors", "--out", tmp_path / "a.onnx", "--quiet")

    assert (0, b"somebody's") == (code, (tmp_path / "a.sparse.onnx").read_bytes())


@needs_engine
def test_the_graph_itself_is_not_overwritten(foreign: Path, ntksap: Ntksap) -> None:
    code, _, err = ntksap("export", foreign, "--engine", "--out", foreign, "--quiet")

    assert 2 == code
    assert "is the graph that is read" in one_line(err)


@pytest.mark.parametrize("model", [True, False])
def test_without_the_library_a_line_says_what_to_install(
    foreign: Path, finished_run: Path, ntksap: Ntksap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: bool
) -> None:
    take_library_away(monkeypatch, tmp_path)
    target = finished_run / "model.safetensors" if model else foreign

    code, out, err = ntksap("export", target, "--engine", "--out", tmp_path / "new.onnx", "--quiet")

    assert (7, "") == (code, out)
    assert NOT_BUILT in one_line(err)
    assert not list(tmp_path.glob("new*"))


@pytest.fixture
def body(foreign: Path) -> Path:
    return write_engine_graph(Graph.load(foreign), foreign.with_name("net.sparse.onnx"))


@pytest.mark.parametrize(
    ("verb", "more", "code", "said"),
    [
        ("export", ("--engine",), 2, "is made for the sparse engine, so it has its nodes already; use the model.onnx"),
        (
            "optimize",
            ("new.onnx",),
            2,
            "is made for the sparse engine, whose nodes no pass looks into; use the model.onnx",
        ),
        (
            "convert",
            ("new.safetensors",),
            4,
            "its weights are packed for the sparse engine; use the model.onnx beside it",
        ),
        ("profile", ("--precision", "int8"), 2, "the sparse engine computes in fp32; profile net.onnx"),
    ],
)
def test_other_verbs_say_which_graph_to_take(
    body: Path, ntksap: Ntksap, verb: str, more: tuple[str, ...], code: int, said: str
) -> None:
    files = [body.parent / each if each.startswith("new") else each for each in more]

    found, out, err = ntksap(verb, body, *files)

    assert (code, "") == (found, out), err
    assert said in one_line(err)
    assert ["net.onnx", "net.sparse.onnx"] == sorted(file.name for file in body.parent.iterdir())


def test_inspect_says_what_the_engine_runs(body: Path, ntksap: Ntksap) -> None:
    code, out, _ = ntksap("inspect", body, "--json")

    told: dict[str, Any] = json.loads(out)["facts"]
    assert 0 == code
    assert {"SparseBody": 1} == told["nodes"]
    assert 1 == told["engine"]["plans"]
    assert {"Conv": 3, "GlobalPool": 1} == told["engine"]["operators"]
    assert "weight sparsity" not in told


@needs_engine
def test_a_damaged_plan_is_a_line_of_the_profile(body: Path, ntksap: Ntksap) -> None:
    content = body.read_bytes()
    at = content.index(b"NTKSPLN1")
    body.write_bytes(content[:at] + b"NTKSPLN9" + content[at + 8 :])

    body.with_name("net.onnx").unlink()  # with it, the dense twin would be measured beside the reason

    for verb, code in (("profile", 7), ("inspect", 4)):
        flags = ("--batch", "1", "--threads", "1", "--device", "cpu", "-q") if verb == "profile" else ()
        found, _, err = ntksap(verb, body, *flags)

        assert code == found
        assert "plan" in one_line(err)
