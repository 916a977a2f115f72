"""The stage `export` with settings beyond the usual, each on a copy of one small finished run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from ntksap_export import models
from ntksap_export.config import make_config
from ntksap_export.errors import ConfigError, RunDirectoryError
from ntksap_export.graph import SPARSE_WARNING, Graph, load_dense, read_preprocessing
from ntksap_export.pipeline import RunDir, inspect_path, profile_targets, run_stage, summary
from ntksap_export.pipeline.run_dir import fingerprint

from ..conftest import Recorder, small_config


def test_weights_in_a_file_of_their_own_are_part_of_the_run(finished_run: Path) -> None:
    before = Graph.load(finished_run / "model.onnx")
    run_stage("export", finished_run, {"external_data": "always"})

    (data,) = [file.name for file in finished_run.glob("model.onnx.*.data")]
    state = json.loads((finished_run / ".ntksap" / "state.json").read_text())
    facts = inspect_path(finished_run / "model.onnx")

    assert {"model.onnx", data, "parity.json"} <= set(state["export"]["files"])
    assert {"model.onnx", data} <= set(summary(finished_run)["files"])
    assert sum((finished_run / name).stat().st_size for name in ("model.onnx", data)) == facts["file_bytes"]
    assert before.to_bytes() == Graph.load(finished_run / "model.onnx").to_bytes()

    measured = profile_targets(
        [str(finished_run / "model.onnx")],
        {"profile_batch": (1,), "profile_device": ("cpu",), "profile_min_time": 0.05, "profile_max_time": 0.05},
    )
    assert {"model.onnx", data} == set(measured["files"])
    assert {"measured"} == {cell["status"] for cell in measured["cells"]}

    config = make_config({**RunDir(finished_run).stored_settings(), "external_data": "always"})
    assert RunDir(finished_run).is_done("export", config)
    (finished_run / data).write_bytes(b"damaged")
    assert not RunDir(finished_run).is_done("export", config)

    run_stage("export", finished_run, {})

    assert [] == list(finished_run.glob("*.data"))


def test_new_keys_change_no_fingerprint_until_they_are_used() -> None:
    """Computed by the version that knew opset, atol and rtol alone."""
    usual = small_config(num_classes=10)

    assert "e5be2cf4b3b2c14c649e75486578650a74856736e422f8a91eee5cb536dd227b" == fingerprint("export", usual)
    assert fingerprint("export", usual) != fingerprint("export", small_config(num_classes=10, dynamic_size=True))


def test_a_graph_of_dynamic_size_comes_out_of_a_run(finished_run: Path) -> None:
    run_stage("export", finished_run, {"dynamic_size": True})

    session = onnxruntime.InferenceSession(str(finished_run / "model.onnx"), providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"images": np.ones((1, 3, *side), np.float32)})[0] for side in ((16, 16), (24, 40))]

    assert [(1, 10), (1, 10)] == [answer.shape for answer in answers]
    checks = json.loads((finished_run / "parity.json").read_text())["checks"]
    larger = [(row["batch"], row["optimization"], row["passed"]) for row in checks if row["images"] == "enlarged"]
    assert [(2, "off", True), (2, "all", True)] == larger


@pytest.mark.parametrize(("setting", "dtype"), [({"normalize": True}, "float32"), ({"input": "uint8"}, "uint8")])
def test_a_graph_that_normalizes_agrees_on_pixels_and_is_measured(
    finished_run: Path, setting: dict[str, object], dtype: str
) -> None:
    before = Graph.load(finished_run / "model.onnx").proto
    run_stage("export", finished_run, {**setting, "profile_device": ("cpu",)})
    parity = json.loads((finished_run / "parity.json").read_text())
    config = json.loads((finished_run / "config.json").read_text())["pretrained_cfg"]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    unit = (pixels / 255).transpose(0, 3, 1, 2)
    mean, std = (np.array(config[key])[None, :, None, None] for key in ("mean", "std"))
    expected = answers(before, ((unit - mean) / std).astype(np.float32))

    graph = Graph.load(finished_run / "model.onnx").proto

    np.testing.assert_allclose(
        answers(graph, pixels if dtype == "uint8" else unit.astype(np.float32)), expected, rtol=1e-3, atol=1e-3
    )
    assert parity["passed"]
    assert any(line.startswith("normalization: std folded") for line in parity["input"])
    told = read_preprocessing(graph)
    assert told is not None
    assert (dtype, list(told.graph_mean or ())) == (told.dtype, config["mean"])

    run_stage("profile", finished_run, {"profile_device": ("cpu",), "profile_batch": (2,)})
    cells = json.loads((finished_run / "profile.json").read_text())["cells"]

    assert [("sparse", "measured"), ("dense", "measured")] == [(cell["variant"], cell["status"]) for cell in cells]
    measured = profile_targets(
        [str(finished_run / "model.onnx")],
        {"profile_batch": (1,), "profile_device": ("cpu",), "profile_min_time": 0.05, "profile_max_time": 0.05},
    )
    assert {"measured"} == {cell["status"] for cell in measured["cells"]}


@pytest.mark.parametrize("setting", [{"normalize": True}, {"input": "uint8"}])
def test_smaller_precisions_take_pixels_too(finished_run: Path, setting: dict[str, object]) -> None:
    asked = {"int8": True, "fp16": True, "calibration_images": 32, "max_drop": 100.0}
    run_stage("export", finished_run, asked)
    plain = json.loads((finished_run / "parity.json").read_text())["precisions"]

    run_stage("export", finished_run, {**asked, **setting})
    found = json.loads((finished_run / "parity.json").read_text())["precisions"]

    assert [True, True] == [found[name]["passed"] for name in ("fp16", "int8")]
    assert plain["fp16"]["accuracy"]["before"] == found["fp16"]["accuracy"]["before"]
    assert abs(plain["int8"]["accuracy"]["after"] - found["int8"]["accuracy"]["after"]) < 0.05


def test_sparse_initializers_are_what_was_compared(finished_run: Path) -> None:
    before = Graph.load(finished_run / "model.onnx")
    size = (finished_run / "model.onnx").stat().st_size
    said = Recorder()

    run_stage("export", finished_run, {"sparse_initializers": True}, progress=said)

    proto = Graph.load(finished_run / "model.onnx").proto
    assert 10 < len(proto.graph.sparse_initializer)
    assert (finished_run / "model.onnx").stat().st_size < size / 2
    assert ["model.onnx"] == [file.name for file in finished_run.glob("*.onnx*")]
    assert any(SPARSE_WARNING in line for line in said.lines)
    assert json.loads((finished_run / "parity.json").read_text())["passed"]
    dense = load_dense(finished_run / "model.onnx")
    assert {name: values.tobytes() for name, values in before.weights()} == {
        name: values.tobytes() for name, values in dense.weights()
    }

    run_stage("profile", finished_run, {"profile_device": ("cpu",)})
    cells = json.loads((finished_run / "profile.json").read_text())["cells"]
    assert [("sparse", "measured"), ("dense", "measured")] == [(cell["variant"], cell["status"]) for cell in cells]


@pytest.mark.parametrize(("passes", "warned"), [(("fold_batchnorm",), True), (("-fold_batchnorm",), False)])
def test_a_graph_that_keeps_the_paths_of_its_maker_is_warned_of(
    finished_run: Path, passes: tuple[str, ...], warned: bool
) -> None:
    said = Recorder()

    run_stage("export", finished_run, {"passes": passes}, progress=said)

    package = str(Path(models.__file__).parent).encode()
    assert warned == (package in (finished_run / "model.onnx").read_bytes())
    assert warned == any("strip_metadata out: the graph names paths" in line for line in said.lines)


def test_sparse_weights_and_a_file_of_their_own_are_refused_together() -> None:
    with pytest.raises(ConfigError, match="--sparse-initializers writes one file"):
        small_config(sparse_initializers=True, external_data="always")


def answers(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


def test_times_of_an_earlier_graph_are_told_by_nobody(finished_run: Path) -> None:
    before = summary(finished_run)
    assert ("report.html" in before["files"], bool(before["latency"])) == (True, True)

    run_stage("export", finished_run, {"opset": 18})

    after = summary(finished_run)
    assert ("report.html" in after["files"], "latency" in after) == (False, False)
    with pytest.raises(RunDirectoryError, match=r"profile\.json' is of an earlier graph; run `ntksap profile` first"):
        run_stage("report", finished_run, {})
