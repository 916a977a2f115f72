"""`ntksap optimize`: a graph of any maker in, a smaller one out, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ntksap_export.graph import Graph, sparsify
from ntksap_export.graph.passes import drop_dead_channels
from ntksap_export.graph.passes.outcome import Outcome

from ..graph.channel_cases import draw, emptied, model, run, shapes

Call = Callable[..., tuple[int, str, str]]


def foreign() -> onnx.ModelProto:
    """As an old exporter writes it: opset 11, norms not folded, initializers among the inputs, notes."""
    body = (
        "a = Conv<pads = [1, 1, 1, 1]>(images, w1) n = BatchNormalization(a, g, b, b, v) r = Relu(n) "
        "last = Conv(r, w2) p = GlobalAveragePool(last) logits = Flatten<axis = 1>(p)"
    )
    w1, beta = emptied(draw(1, 6, 3, 3, 3), 1, 4), draw(3, 6)
    proto = model(
        body, opset=11, ir=6, shape="batch, 3, h, w", w1=w1, g=draw(2, 6), b=beta, v=np.ones(6, np.float32),
        w2=draw(5, 4, 6, 3, 3),
    )  # fmt: skip
    proto.producer_name = "somebody"
    proto.metadata_props.add(key="classes", value="cat,dog")
    return proto


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    Graph(foreign(), ()).save(path)
    return path


def test_a_foreign_graph_is_folded_and_compacted(ntksap: Call, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.onnx"

    code, out, err = ntksap("optimize", source, target)

    after = onnx.load(str(target))
    assert (0, "somebody", "cat,dog") == (code, after.producer_name, after.metadata_props[0].value)
    assert ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten"] == [node.op_type for node in after.graph.node]
    assert {"w1": (4, 3, 3, 3), "a_bias": (4,), "w2": (4, 4, 3, 3)}.items() <= shapes(after).items()
    given = np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(run(after, given), run(foreign(), given), atol=1e-5)
    assert "6 -> 5 nodes" in out
    assert "drop_dead_channels: 2 of 10 channels removed" in out
    assert "in onnxruntime, on noise" in out
    assert "  fold_batchnorm: 1 folded, 0 left\n" in err


def test_json_is_the_log_as_data_and_quiet_is_quiet(ntksap: Call, source: Path, tmp_path: Path) -> None:
    code, out, err = ntksap("optimize", source, tmp_path / "out.onnx", "--json", "--quiet")

    result = json.loads(out)
    assert (0, "") == (code, err)
    assert ["fold_batchnorm", "flush_subnormals", "drop_dead_channels"] == [row["pass"] for row in result["pass_log"]]
    assert [6, 5] == result["nodes"]
    assert [source.stat().st_size, (tmp_path / "out.onnx").stat().st_size] == result["bytes"]
    assert {1, 2} == {check["batch"] for check in result["checks"]}
    assert all(check["passed"] for check in result["checks"])


def test_external_data_are_read(ntksap: Call, tmp_path: Path) -> None:
    pair, target = tmp_path / "pair" / "in.onnx", tmp_path / "out.onnx"
    pair.parent.mkdir()
    onnx.save(foreign(), str(pair), save_as_external_data=True, location="in.data", size_threshold=100)

    code, out, _ = ntksap("optimize", pair, target, "--json")

    result = json.loads(out)
    assert (0, [str(target)], True) == (code, result["files"], (pair.parent / "in.data").is_file())
    sizes = [sum(file.stat().st_size for file in files) for files in (pair.parent.iterdir(), (target,))]
    assert sizes == result["bytes"]
    given = np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(run(onnx.load(str(target)), given), run(foreign(), given), atol=1e-5)


def test_the_data_of_the_graph_that_is_read_are_never_replaced(ntksap: Call, tmp_path: Path) -> None:
    pair, data = tmp_path / "in.onnx", tmp_path / "in.data"
    onnx.save(foreign(), str(pair), save_as_external_data=True, location="in.data", size_threshold=100)
    before = data.read_bytes()

    code, _, err = ntksap("optimize", pair, data, "--overwrite")

    said = f"error: '{data}' holds the weights of '{pair}'; name another file\n"
    assert (2, said, before) == (code, err, data.read_bytes())


def test_passes_work_on_sparse_initializers_which_stay_sparse_where_that_is_smaller(
    ntksap: Call, tmp_path: Path
) -> None:
    proto = foreign()
    few = np.zeros((4, 6, 3, 3), np.float32)
    few[:, 5, 1, 1] = draw(7, 4)
    for name, value in (("w1", emptied(draw(1, 6, 3, 3, 3), 0, 1, 2, 3, 4)), ("w2", few)):
        (item,) = [item for item in proto.graph.initializer if item.name == name]
        item.CopyFrom(numpy_helper.from_array(value, name))
    Graph(proto, ()).save(tmp_path / "dense.onnx")
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    sparse = sparsify(tmp_path / "dense.onnx", source)

    code, out, err = ntksap("optimize", source, target, "--json")

    result, after = json.loads(out), Graph.load(target)
    assert (0, ("w1", "w2")) == (code, sparse), err
    assert [2, 1] == result["sparse_initializers"]
    assert "drop_dead_channels: 5 of 10 channels removed" in err
    assert ("w2",) == after.sparse
    given = np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(run(after.proto, given), run(proto, given), atol=1e-5)


def test_what_a_pass_leaves_is_shown_with_its_reason(ntksap: Call, tmp_path: Path) -> None:
    body = "n = BatchNormalization(images, g, b, b, g) p = GlobalAveragePool(n) logits = Flatten<axis = 1>(p)"
    Graph(model(body, out="batch, 3", g=np.ones(3, np.float32), b=draw(1, 3)), ()).save(tmp_path / "in.onnx")

    code, out, err = ntksap("optimize", tmp_path / "in.onnx", tmp_path / "out.onnx", "--json")

    why = "there is no Conv, ConvTranspose or Gemm before it"
    assert 0 == code
    assert f"  left: BatchNormalization 'n': {why}\n" in err
    assert [{"what": "BatchNormalization 'n'", "why": why}] == json.loads(out)["pass_log"][0]["left"]


@pytest.mark.parametrize(
    ("passes", "names"),
    [
        ("strip_metadata", ["strip_metadata"]),
        ("-drop_dead_channels", ["fold_batchnorm", "flush_subnormals", "strip_metadata"]),
        ("none", []),
        ("drop_dead_channels, fold_batchnorm", ["drop_dead_channels", "fold_batchnorm"]),
    ],
)
def test_passes_are_chosen(ntksap: Call, source: Path, tmp_path: Path, passes: str, names: list[str]) -> None:
    code, out, _ = ntksap("optimize", source, tmp_path / "out.onnx", "--passes", passes, "--json")

    assert (0, names) == (code, [row["pass"] for row in json.loads(out)["pass_log"]])


def test_the_graph_that_is_read_is_replaced_only_on_request(ntksap: Call, source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    (tmp_path / "link.onnx").symlink_to(source)

    for target in (source, tmp_path / "link.onnx"):
        code, _, err = ntksap("optimize", source, target)
        said = f"error: '{target}' is the graph that is read; name another file, or add --overwrite to replace it\n"
        assert (2, said) == (code, err)
    assert before == source.read_bytes()

    code, _, _ = ntksap("optimize", source, source, "--overwrite")
    assert 0 == code
    assert before != source.read_bytes()


def test_a_graph_that_differs_is_not_placed(
    ntksap: Call, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(proto: onnx.ModelProto) -> Outcome:
        (item,) = [item for item in proto.graph.initializer if item.name == "w2"]
        item.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(item), "w2"))
        return Outcome("ruined")

    monkeypatch.setattr(drop_dead_channels, "apply_", ruin)
    target = tmp_path / "out.onnx"
    target.write_bytes(b"old")

    code, out, err = ntksap("optimize", source, target)

    assert (5, "", b"old") == (code, out, target.read_bytes())
    assert "error: the optimized graph differs by " in err
    assert "nothing was written. Leave a pass out with --passes -NAME, of fold_batchnorm, " in err
    assert ["in.onnx", "out.onnx"] == sorted(path.name for path in tmp_path.iterdir())
    assert 0 == ntksap("optimize", source, target, "--no-check")[0]


def test_an_unknown_operator_is_left_alone_and_not_compared(ntksap: Call, tmp_path: Path) -> None:
    proto = model("a = own.Magic(images) p = GlobalAveragePool(a) logits = Flatten<axis = 1>(p)")
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    Graph(proto, ()).save(source)

    code, _, err = ntksap("optimize", source, target)
    assert (5, False) == (code, target.exists())
    assert "--no-check goes on without comparing" in err

    code, out, _ = ntksap("optimize", source, target, "--no-check")
    assert 0 == code
    assert "not compared" in out
    assert source.read_bytes() == target.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("absent.onnx", "new/out.onnx"), 5, "no such file 'absent.onnx'"),
        (("garbage.onnx", "out.onnx"), 5, "'garbage.onnx' is not a valid ONNX graph"),
        (("in.onnx", "folder"), 2, "'folder' is a directory; name the file to write"),
        (("in.onnx", "out.onnx", "--passes", "polish"), 2, "unknown pass 'polish'; choose from fold_batchnorm, "),
        (
            ("in.onnx", "garbage.onnx/out.onnx"),
            8,
            "cannot write or read 'garbage.onnx': File exists; free space or name another place",
        ),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    ntksap: Call, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], code: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.onnx").write_bytes(b"\x07garbage\n" * 9)
    (tmp_path / "folder").mkdir()

    got, out, err = ntksap("optimize", "--quiet", *arguments)

    assert (code, "", 1) == (got, out, len(err.splitlines()))
    assert f"error: {message}" in err
    assert not (tmp_path / "out.onnx").exists()
    assert not (tmp_path / "new").exists()
    assert source.is_file()


def test_passes_of_a_run_are_a_setting_of_its_export(ntksap: Call, finished_run: Path) -> None:
    stored = json.loads((finished_run / "parity.json").read_text())
    assert ["fold_batchnorm", "flush_subnormals", "drop_dead_channels", "strip_metadata"] == [
        row["pass"] for row in stored["pass_log"]
    ]
    assert [f"{row['pass']}: {row['said']}" for row in stored["pass_log"]] == stored["passes"]

    code, _, err = ntksap("export", finished_run, "--passes", "-drop_dead_channels")

    assert 0 == code, err
    assert "  flush_subnormals: " in err
    assert "drop_dead_channels" not in err
    full = Graph.load(finished_run / "model.onnx")
    assert (64, 64, 3, 3) == shapes(full.proto)["layer3.2.conv2.weight"]

    code, _, err = ntksap("export", finished_run, "--passes", "polish")
    assert 2 == code
    assert "unknown pass 'polish'" in err
    assert (finished_run / "model.onnx").is_file()
