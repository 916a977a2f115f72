"""model.sparse.onnx of a run: what it is, what is said of it, and what happens where it cannot be made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ntksap_export.config import make_config
from ntksap_export.engine import Converted, Left
from ntksap_export.errors import ConfigError, ExportError, UnavailableError
from ntksap_export.graph import Graph
from ntksap_export.pipeline import engine as making
from ntksap_export.pipeline import plan, run_road, run_stage, summary
from ntksap_export.pipeline.precisions import RejectedError
from ntksap_export.pipeline.run_dir import digest, fingerprint
from ntksap_export.runtime.ort import OrtSession
from tests.conftest import Recorder, small_config
from tests.support.engine import NOT_BUILT, needs_engine, take_library_away

NAME = "model.sparse.onnx"
FAST = {
    "batch": 1, "threads": 1, "p50_ms": 2.0, "plain_p50_ms": 5.0, "ratio": {"value": 0.4, "low": 0.3, "high": 0.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(_finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("engine") / "out"
    shutil.copytree(_finished_run, out)
    run_stage("export", out, {"engine": True})
    run_stage("profile", out, {})
    run_stage("report", out, {})
    return out


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Nothing is timed: names of the two graphs and the threads of each comparison."""
    calls: list[tuple[str, str, int]] = []

    def compare(plain: Path, target: Path, threads: int, fed: making.Fed) -> dict[str, Any]:
        calls.append((plain.name, target.name, threads))
        return FAST

    monkeypatch.setattr(making, "compare_speed", compare)
    return calls


def stored(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "parity.json").read_text())["engine"])


@needs_engine
def test_it_answers_as_model_onnx_does(exported: Path) -> None:
    images = np.random.default_rng(0).standard_normal((5, 3, 16, 16), dtype=np.float32)

    with OrtSession(exported / "model.onnx", optimization="off") as one, OrtSession(exported / NAME) as other:
        expected, actual = one.run(images), other.run(images)

    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


@needs_engine
def test_parity_json_says_how_it_was_checked_and_what_the_engine_runs(exported: Path) -> None:
    entry = stored(exported)

    assert entry["passed"]
    assert (NAME, (exported / NAME).stat().st_size) == (entry["file"], entry["bytes"])
    assert {1e-4} == {check["rtol"] for check in entry["checks"]}
    assert {1, 2, 7} == {check["batch"] for check in entry["checks"]}
    assert {"off", "all"} == {check["optimization"] for check in entry["checks"]}
    assert {"real", "noise"} == {check["images"] for check in entry["checks"]}
    assert (1, 1.0, []) == (entry["regions"], entry["macs_share"], entry["left"])
    assert 1 == entry["speed"]["batch"]


@needs_engine
def test_it_is_a_file_of_the_stage_and_of_the_run(exported: Path) -> None:
    record = json.loads((exported / ".ntksap" / "state.json").read_text())["export"]
    profile = json.loads((exported / "profile.json").read_text())

    assert digest(exported / NAME) == record["files"][NAME]
    assert NAME in summary(exported)["files"]
    assert NAME in profile["files"]
    assert not list(exported.glob("*rejected*"))


@needs_engine
def test_the_profile_measures_it_as_one_more_variant_beside_the_dense_network(exported: Path) -> None:
    cells = json.loads((exported / "profile.json").read_text())["cells"]

    measured = {cell["variant"]: cell for cell in cells if cell["status"] == "measured"}
    assert ["sparse", "engine", "dense"] == list(measured)
    assert ("onnxruntime", "fp32") == (measured["engine"]["backend"], measured["engine"]["precision"])
    assert "dense" == measured["engine"]["ratio"]["baseline"]
    assert (exported / NAME).stat().st_size == measured["engine"]["file_bytes"]


@needs_engine
def test_report_and_card_tell_of_it(exported: Path) -> None:
    html, card = (exported / "report.html").read_text(), (exported / "README.md").read_text()

    assert '<section id="engine">' in html
    for text in (html, card):
        assert NAME in text.replace("\\_", "_")
        assert "with the sparse engine" in text.lower()  # it opens the sentence where the zeros alone gained too
    assert "ntksap_export.engine.register(options)" in card
    assert "RegisterCustomOpsLibrary_V2" in card


@needs_engine
def test_the_same_run_gives_the_same_bytes(
    exported: Path, finished_run: Path, timeless: list[tuple[str, str, int]]
) -> None:
    run_stage("export", finished_run, {"engine": True})

    assert (exported / NAME).read_bytes() == (finished_run / NAME).read_bytes()
    assert [("model.onnx", NAME, 1)] == [(plain, target, 1) for plain, target, _ in timeless]


@needs_engine
def test_without_the_flag_it_goes(finished_run: Path, timeless: list[tuple[str, str, int]]) -> None:
    run_stage("export", finished_run, {"engine": True})
    assert (finished_run / NAME).is_file()
    (finished_run / "rejected.sparse.onnx").write_bytes(b"old")

    run_stage("export", finished_run, {"engine": False})

    assert {"model.onnx"} == {path.name for path in finished_run.glob("*.onnx")}
    assert "engine" not in json.loads((finished_run / "parity.json").read_text())
    assert "engine" not in summary(finished_run)


@needs_engine
def test_its_plan_stands_where_the_weights_of_the_other_graph_do(
    finished_run: Path, timeless: list[tuple[str, str, int]]
) -> None:
    run_stage("export", finished_run, {"engine": True, "external_data": "always"})

    graph, data = sorted(finished_run.glob(f"{NAME}*"))
    assert graph.stat().st_size + data.stat().st_size == stored(finished_run)["bytes"]
    assert data.name in summary(finished_run)["files"]


@needs_engine
def test_where_it_is_slower_the_log_says_which_graph_to_take(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "compare_speed", lambda *_: {**FAST, "p50_ms": 7.5})
    log = Recorder()

    run_stage("export", finished_run, {"engine": True}, progress=log)

    said = (
        "  engine: warning: model.sparse.onnx is slower here, 7.5 ms against 5 ms of model.onnx (batch 1, 1 thread); "
    )
    assert said + "use model.onnx" in log.lines
    assert "  engine: 52 of 52 nodes in 1 region, 100.0% of the multiply-accumulates" in log.lines
    assert 7.5 == stored(finished_run)["speed"]["p50_ms"]


@pytest.mark.parametrize(
    ("speed", "expected"),
    [
        (FAST, "2 ms against 5 ms of a.onnx (batch 1, 1 thread), 2.50 times as fast"),
        ({**FAST, "threads": 2}, "2 ms against 5 ms of a.onnx (batch 1, 2 threads), 2.50 times as fast"),
        ({**FAST, "batch": 8}, "2 ms against 5 ms of a.onnx (batch 8, 1 thread), 2.50 times as fast"),
        ({"skipped": "no memory"}, "not compared with a.onnx in speed: no memory"),
    ],
)
def test_words_for_speed(speed: dict[str, Any], expected: str) -> None:
    assert expected == making.speed_line(speed, "b.onnx", "a.onnx")


def test_speed_is_compared_in_turn_and_with_the_graph_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def profile(variants: Any, settings: Any, *, baseline: str) -> list[dict[str, Any]]:
        asked.append((variants, settings, baseline))
        rows = [
            ("plain", 4.0, {}),
            ("engine", 1.0, {"ratio": {"value": 0.25, "low": 0.2, "high": 0.3, "baseline": "plain"}}),
        ]
        return [{"variant": name, "status": "measured", "latency_ms": {"p50": p50}, **more} for name, p50, more in rows]

    monkeypatch.setattr(making, "profile", profile)

    told = making.compare_speed(Path("model.onnx"), Path(NAME), 2, making.Fed(4, (3, 8, 9)))

    ((variants, settings, baseline),) = asked
    assert [("plain", "model.onnx", False), ("engine", NAME, True)] == [
        (each.name, str(each.graph), each.engine) for each in variants
    ]
    assert ("plain", (4,), (2,)) == (baseline, settings.batches, settings.threads)
    assert [(3, 8, 9)] * 2 == [each.shape for each in variants]
    assert {
        "batch": 4, "threads": 2, "p50_ms": 1.0, "plain_p50_ms": 4.0, "ratio": {"value": 0.25, "low": 0.2, "high": 0.3},
    } == told  # fmt: skip


def test_a_graph_that_could_not_be_timed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"variant": "plain", "status": "measured"}, {"variant": "engine", "status": "skipped", "reason": "killed"}]
    monkeypatch.setattr(making, "profile", lambda *_, **__: rows)

    told = making.compare_speed(Path("a"), Path("b"), 1, making.Fed(2, (3, 8, 8)))

    assert {"batch": 2, "threads": 1, "skipped": "killed"} == told


@pytest.mark.parametrize(
    ("axes", "images", "expected"),
    [
        (["N", 3, 8, 9], (7, 3, 8, 9), making.Fed(1, (3, 8, 9))),
        ([4, 3, 8, 9], (4, 3, 8, 9), making.Fed(4, (3, 8, 9))),
        ([4, 8, 9, 3], (4, 8, 9, 3), making.Fed(4, (3, 8, 9))),
    ],
)
def test_speed_is_compared_at_the_batch_and_the_size_that_the_graph_takes(
    axes: list[int | str], images: tuple[int, ...], expected: making.Fed
) -> None:
    value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, axes)
    graph = Graph(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [value], [])), {})

    assert expected == making.Fed.of(graph, images)


def test_what_is_not_counted_is_said() -> None:
    entry = {"macs_share": 1.0, "uncounted": ["GRU", "LSTM"]}

    assert "100.0% of the multiply-accumulates" == making.share_words({"macs_share": 1.0})
    assert "100.0% of the counted multiply-accumulates; GRU, LSTM not counted, with onnxruntime" == making.share_words(
        entry
    )


def wrong(graph: Graph) -> Converted:
    """No node of the engine, and another answer: the last bias is another."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    bias = next(item for item in proto.graph.initializer if item.name == "fc.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    nodes = [node.name or node.output[0] for node in graph.proto.graph.node]
    left = (Left(nodes[-1], "Gemm", "it was left for the test"),)
    return Converted(replace(graph, proto=proto), tuple(nodes[:-1]), left, 1)


def test_one_that_disagrees_is_rejected_and_the_float32_graph_stays(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ntksap_export.engine.conversion.convert", wrong)
    monkeypatch.setattr("ntksap_export.pipeline.road.check_engine", lambda asked: None)
    before, log = (finished_run / "model.onnx").read_bytes(), Recorder()

    with pytest.raises(RejectedError, match=r"^model\.sparse\.onnx: .*; see rejected\.sparse\.onnx; see parity\.json$"):
        run_stage("export", finished_run, {"engine": True}, progress=log)

    assert before == (finished_run / "model.onnx").read_bytes()
    assert {"model.onnx", "rejected.sparse.onnx"} == {path.name for path in finished_run.glob("*.onnx")}
    assert not stored(finished_run)["passed"]
    assert json.loads((finished_run / "parity.json").read_text())["passed"]
    assert any("not covered: Gemm " in line and "it was left for the test" in line for line in log.lines)
    assert 0 < stored(finished_run)["macs_share"] < 1


def test_a_network_that_the_engine_does_not_cover_is_a_line(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(graph: Graph) -> Converted:
        raise ExportError("nothing in the graph is for the sparse engine: it has no nodes")

    monkeypatch.setattr("ntksap_export.engine.conversion.convert", nothing)
    monkeypatch.setattr("ntksap_export.pipeline.road.check_engine", lambda asked: None)

    with pytest.raises(RejectedError) as error:
        run_stage("export", finished_run, {"engine": True})

    assert (
        "model.sparse.onnx was not made: nothing in the graph is for the sparse engine: it has no nodes; leave "
        "--engine away; see parity.json" == str(error.value)
    )
    assert {"model.onnx"} == {path.name for path in finished_run.glob("*.onnx")}


def test_without_the_library_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_library_away(monkeypatch, tmp_path)
    config, out = small_config(engine=True), tmp_path / "out"

    for begin in (lambda: run_road(config, out), lambda: plan(config, out)):
        with pytest.raises(UnavailableError) as error:
            begin()
        assert str(error.value).startswith(NOT_BUILT)
    assert not out.exists()


def test_without_the_library_a_finished_run_stays_as_it_is(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_library_away(monkeypatch, tmp_path)
    before = (finished_run / "parity.json").read_bytes()

    with pytest.raises(UnavailableError):
        run_stage("export", finished_run, {"engine": True})

    assert before == (finished_run / "parity.json").read_bytes()
    run_stage("report", finished_run, {"engine": True})  # what needs no engine goes on


def test_one_size_of_images() -> None:
    with pytest.raises(ConfigError, match=r"^--engine plans for one size of images; leave --dynamic-size away$"):
        make_config({"model": "resnet20", "engine": True, "dynamic_size": True})


def test_runs_without_it_keep_their_fingerprint() -> None:
    without, having = make_config({"model": "resnet20"}), make_config({"model": "resnet20", "engine": True})

    assert fingerprint("train", without) == fingerprint("train", having)
    assert fingerprint("export", without) == fingerprint("export", make_config({"model": "resnet20", "engine": False}))
    assert fingerprint("export", without) != fingerprint("export", having)
