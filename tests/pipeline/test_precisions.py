"""model.fp16.onnx and model.int8.onnx of a run: what they are, what they cost, and what happens when they cost more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

from ntksap_export.checkpoint import load_mask
from ntksap_export.config import make_config
from ntksap_export.data import open_data
from ntksap_export.errors import ConfigError, DataError, ExportError
from ntksap_export.graph import Graph
from ntksap_export.graph.precision import check_int8
from ntksap_export.pipeline import int8 as making
from ntksap_export.pipeline import precisions, run_stage, summary
from ntksap_export.runtime.accuracy import Judged
from ntksap_export.runtime.parity import Limits
from tests.conftest import Recorder

INT8 = {"int8": True, "calibration_images": 32, "max_drop": 100.0}
MADE = ("model.fp16.onnx", "model.int8.onnx")


@pytest.fixture(scope="module")
def exported(_finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("precisions") / "out"
    shutil.copytree(_finished_run, out)
    run_stage("export", out, {**INT8, "fp16": True})
    run_stage("profile", out, {})
    run_stage("report", out, {})
    return out


def stored(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "parity.json").read_text())["precisions"])


def accuracy(path: Path) -> float:
    """Of a graph, by bare onnxruntime on every validation image."""
    data = open_data("digits", image_size=16)
    images = data.val.take(list(range(len(data.val)))).numpy().astype(np.float32) / 255
    mean, std = (np.array(values, np.float32)[None, :, None, None] for values in (data.spec.mean, data.spec.std))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": ((images - mean) / std).astype(np.float32)})
    return float((logits.argmax(1) == data.val.labels.numpy()).mean())


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_accuracy_before_and_after_is_that_of_bare_onnxruntime(exported: Path, name: str) -> None:
    judged = stored(exported)[name]["accuracy"]

    images = len(open_data("digits", image_size=16).val)
    assert images == judged["images"]
    assert judged["before"] == pytest.approx(accuracy(exported / "model.onnx"), abs=1.5 / images)
    assert judged["after"] == pytest.approx(accuracy(exported / f"model.{name}.onnx"), abs=1.5 / images)


def test_every_pruned_weight_is_zero_in_int8(exported: Path) -> None:
    mask, _ = load_mask(exported / "mask.safetensors")
    int8 = Graph.load(exported / "model.int8.onnx")
    values = {item.name: numpy_helper.to_array(item) for item in int8.proto.graph.initializer}
    weights = dict(Graph.load(exported / "model.onnx").weights())  # some have lost channels that the mask emptied

    assert len(mask) == len(stored(exported)["int8"]["int8_layers"])
    for name, kept in mask.items():
        pruned = ~kept.numpy() if kept.shape == weights[name].shape else weights[name] == 0
        assert pruned.any()
        assert not values[f"{name}_quantized"][pruned].any()
        assert not values[f"{name}_zero_point"].any()


def test_they_are_smaller_and_tell_no_path(exported: Path) -> None:
    sizes = [(exported / name).stat().st_size for name in ("model.onnx", *MADE)]

    assert sizes == sorted(sizes, reverse=True)
    for name in MADE:
        content = (exported / name).read_bytes()
        assert str(exported).encode() not in content
        assert b"/tmp" not in content
        assert b"onnx.quantize" not in content


def test_parity_json_has_an_entry_for_each_with_its_limits(exported: Path) -> None:
    entries = stored(exported)

    assert {"fp16", "int8"} == set(entries)
    for name, entry in entries.items():
        assert entry["passed"]
        assert entry["file"] == f"model.{name}.onnx"
        assert entry["bytes"] == (exported / f"model.{name}.onnx").stat().st_size
        assert {precisions.LIMITS[name].rtol} == {check["rtol"] for check in entry["checks"]}
        assert {1, 2, 7} == {check["batch"] for check in entry["checks"]}
    assert {"method": "percentile", "images": 32, "split": "train"} == entries["int8"]["calibration"]
    assert {"ReduceMean": 1} == entries["int8"]["float32_operators"]


def test_summary_report_and_card_say_what_they_cost(exported: Path) -> None:
    told = summary(exported)["precisions"]["int8"]

    html, card = (exported / "report.html").read_text(), (exported / "README.md").read_text()
    assert stored(exported)["int8"]["accuracy"]["after"] == told["after"]
    for text in (html, card):
        assert "model.int8.onnx" in text.replace("\\_", "_")
        assert "22 layers in int8" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert '<section id="precision">' in html


def test_the_profile_measures_them_beside_the_others(exported: Path) -> None:
    cells = json.loads((exported / "profile.json").read_text())["cells"]

    measured = [(cell["variant"], cell["precision"]) for cell in cells if cell["status"] == "measured"]
    assert [("sparse", "fp32"), ("sparse", "fp16"), ("sparse", "int8"), ("dense", "fp32")] == measured


def test_the_same_run_gives_the_same_bytes(exported: Path, finished_run: Path) -> None:
    run_stage("export", finished_run, {**INT8, "fp16": True})

    for name in (*MADE, "model.onnx"):
        assert (exported / name).read_bytes() == (finished_run / name).read_bytes()


def test_without_the_flag_the_file_of_another_export_goes(finished_run: Path) -> None:
    (finished_run / "model.int8.onnx").write_bytes(b"old")
    (finished_run / "rejected.fp16.onnx").write_bytes(b"old")

    run_stage("export", finished_run, {})

    assert {"model.onnx"} == {path.name for path in finished_run.glob("*.onnx")}
    assert {} == stored(finished_run)


def test_their_weights_stand_where_those_of_the_float32_graph_do(finished_run: Path) -> None:
    run_stage("export", finished_run, {"fp16": True, "external_data": "always"})
    graph, data = sorted(finished_run.glob("model.fp16.onnx*"))

    assert graph.stat().st_size + data.stat().st_size == stored(finished_run)["fp16"]["bytes"]
    assert data.name in summary(finished_run)["files"]
    assert 0 < accuracy(graph)

    run_stage("export", finished_run, {"external_data": "auto", "fp16": False})

    assert [] == list(finished_run.glob("*.data"))


def test_one_that_is_too_far_off_is_rejected_and_the_float32_graph_stays(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(precisions.LIMITS, "int8", Limits(rtol=1e-6, max_rms=1e-6))
    before = (finished_run / "model.onnx").read_bytes()

    with pytest.raises(ExportError, match=r"^model\.int8\.onnx: .*; see rejected\.int8\.onnx and parity\.json$"):
        run_stage("export", finished_run, INT8)

    assert before == (finished_run / "model.onnx").read_bytes()
    assert {"model.onnx", "rejected.int8.onnx"} == {path.name for path in finished_run.glob("*.onnx")}
    assert not stored(finished_run)["int8"]["passed"]
    assert json.loads((finished_run / "parity.json").read_text())["passed"]


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (Judged(100, 0.9, 0.9, 1.0, 30.0), None),
        (Judged(100, 0.9, 0.895, 0.9, 30.0), None),
        (Judged(100, 0.9, 0.9, 0.8, 30.0), "80.0% of the first answers of model.int8.onnx are those of model.onnx"),
        (Judged(100, 0.9, 0.88, 0.95, 30.0), "int8 costs 2.00 points of accuracy (90.00% to 88.00%), more than --max-"),
    ],
)
def test_limits(judged: Judged, expected: str | None) -> None:
    class Passed:
        passed = True

    problem = precisions._problem("int8", judged, Passed(), 1.0)  # type: ignore[arg-type]

    assert expected == (None if problem is None else problem[: len(expected or "")])


class Searched:
    """A run whose accuracy drops by a point for each int8 layer beyond `allowed`."""

    def __init__(self, graph: Graph, allowed: int) -> None:
        self.graph, self.allowed = graph, allowed
        self.tried: list[int] = []

    def examine(self, int8: Graph) -> making.Examined:
        self.tried.append(len(check_int8(int8, self.graph)))
        drop = max(0, self.tried[-1] - self.allowed)
        problem = None if self.good(int8, drop) else "too far off"
        return making.Examined(Judged(100, 0.9, 0.9 - 0.01 * drop, 1.0, 30.0), None, problem)  # type: ignore[arg-type]

    def good(self, int8: Graph, drop: float) -> bool:
        return drop <= 0.5


class FakeContext:
    """Settings, and a progress that remembers."""

    def __init__(self, **settings: Any) -> None:
        self.config = make_config({"model": "small", "int8": True, "max_drop": 0.5, **settings})
        self.progress = Recorder()


def made(allowed: int, **settings: Any) -> tuple[Searched, dict[str, Any], Judged, Recorder]:
    from ntksap_export.graph.precision import named
    from tests.runtime.precision_cases import batches, small_graph

    graph = named(small_graph())
    searched, context = Searched(graph, allowed), FakeContext(**settings)
    _, seen, details = making.make_int8(context, graph, batches(), searched.examine)  # type: ignore[arg-type]
    return searched, details, seen.judged, context.progress


def test_the_layer_that_hurts_most_is_left_out_and_the_reason_told() -> None:
    searched, details, judged, progress = made(allowed=2)

    (name,) = details["float32_layers"]
    assert min(details["sensitivity_db"], key=lambda layer: details["sensitivity_db"][layer]) == name
    assert (
        f"alone in int8 it leaves an SQNR of {details['sensitivity_db'][name]:.1f} dB"
        == (details["float32_layers"][name])
    )
    assert [3, 2] == searched.tried
    assert 0 == judged.drop
    assert "  int8: 1 of 3 layers in float32, accuracy drops 0.00 points" == progress.lines[-1]


def test_a_graph_too_far_from_its_model_is_searched_for_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Searched, "good", lambda self, int8, drop: len(check_int8(int8, self.graph)) <= 2)

    searched, details, judged, _ = made(allowed=3)

    assert 1 == len(details["float32_layers"])
    assert [3, 2] == searched.tried
    assert 0 == judged.drop


def test_where_no_choice_helps_all_layers_are_int8_and_the_drop_is_told() -> None:
    _, details, judged, _ = made(allowed=0)

    assert {} == details["float32_layers"]
    assert 3 == len(details["int8_layers"])
    assert pytest.approx(3) == judged.drop


@pytest.mark.parametrize(("keep", "left"), [(("none",), set()), (("conv2", "fc"), {"conv2", "fc"})])
def test_layers_that_were_named_are_not_searched_for(keep: tuple[str, ...], left: set[str]) -> None:
    searched, details, _, _ = made(allowed=0, int8_keep=keep)

    assert left == set(details["float32_layers"])
    assert details["sensitivity_db"] is None
    assert 1 == len(searched.tried)


@pytest.mark.parametrize("asked", ["full", "reduced"])
def test_the_range_of_weights_can_be_asked_for(asked: str) -> None:
    _, details, _, _ = made(allowed=3, int8_range=asked)

    assert {"range": asked, "why": "asked for"} == details["weights"]


def test_too_few_images_to_calibrate_on() -> None:
    with pytest.raises(ConfigError, match=r"^calibration-images must be at least 32; got 8"):
        make_config({"model": "resnet20", "calibration_images": 8})


def test_more_images_than_there_are(finished_run: Path) -> None:
    with pytest.raises(DataError, match=r"^there are \d+ training images, --calibration-images asks for 5000"):
        run_stage("export", finished_run, {**INT8, "calibration_images": 5000})


def test_auto_beside_names_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--int8-keep is auto, none or names of layers; got auto,fc"):
        make_config({"model": "resnet20", "int8_keep": ("auto", "fc")})


def test_the_command_line_names_a_layer_that_is_none(
    finished_run: Path, ntksap: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = ntksap(
        "export", finished_run, "--int8", "--calibration-images", "32", "--int8-keep", "layer9,fc", "-q"
    )

    assert 2 == code
    assert err.startswith("error: the graph has no layer 'layer9'")
    assert 1 == err.count("\n")


def test_an_output_that_cannot_be_written_is_one_line(
    finished_run: Path, ntksap: Callable[..., tuple[int, str, str]]
) -> None:
    (finished_run / "model.int8.onnx").mkdir()

    code, _, err = ntksap("export", finished_run, "--int8", "--calibration-images", "32", "-q")

    assert 8 == code
    assert err.startswith("error: cannot write or read")
    assert 1 == err.count("\n")
