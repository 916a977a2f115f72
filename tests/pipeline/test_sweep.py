"""A sweep of a tiny network: what it leaves, what it does the second time, and where a cell fails or all is stopped."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.errors import NtksapError, Preempted, RunDirectoryError, TrainingError
from ntksap_export.pipeline import Demands, RunDir, plan_sweep, run_road, sweep, sweep_exit_code, sweep_measure
from ntksap_export.pipeline.precisions import RejectedError
from ntksap_export.pipeline.sweep_choice import point_text
from tests.conftest import Recorder
from tests.support.engine import needs_engine
from tests.support.own import own_module

from .sweep_cases import NAMES, SETTINGS, TINY, FakeProfile

sweep_module = sys.modules[sweep.__module__]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        yield f"{own_module(tmp_path_factory.mktemp('code'), patch, TINY)}:make"


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> FakeProfile:
    fake = FakeProfile()
    monkeypatch.setattr(sweep_measure, "profile", fake)
    return fake


@pytest.fixture(scope="module")
def _finished(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_measure, "profile", FakeProfile())
        sweep({"model": tiny, **SETTINGS}, out, command="ntksap sweep tiny")
    return out


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_finished, tmp_path / "sweep"))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def breaking(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, after: bool = False) -> list[str]:
    """Have `run_road` raise `error` for the cell `name`, before or after its work; the cells that ran."""
    ran: list[str] = []

    def road(config: Any, out: Path, **options: Any) -> Path:
        ran.append(out.name)
        if out.name == name and not after:
            raise error
        run_road(config, out, **options)
        if out.name == name:
            raise error
        return out

    monkeypatch.setattr(sweep_module, "run_road", road)
    return ran


def test_each_cell_is_a_whole_run_and_all_are_in_one_table(finished: Path) -> None:
    tree = json.loads((finished / "sweep.json").read_text())

    assert NAMES == [cell["dir"] for cell in tree["cells"]]
    assert ["finished"] * 3 == [cell["status"] for cell in tree["cells"]]
    assert [0.0, 0.5, 0.75] == [cell["sparsity"] for cell in tree["cells"]]
    assert {"method": ["magnitude"], "pattern": ["unstructured"], "sparsity": [0.5, 0.75], "precision": ["fp32"]} == (
        tree["axes"]
    )
    assert "ntksap sweep tiny" == tree["command"]
    assert (tree["chosen"], tree["limits"]) == (None, Demands().to_json())
    assert sorted(path.name for path in finished.iterdir()) == sorted(
        [".ntksap", *NAMES, "profile.json", "sweep.html", "sweep.json"]
    )
    for name in NAMES:
        run = RunDir(finished / name)
        assert [True] * 5 == [run.finished(stage) for stage in ("prune", "train", "export", "profile", "report")]


def test_a_float32_graph_that_was_judged_has_the_accuracy_it_was_judged_with(
    finished: Path, tiny: str, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training in bfloat16 validates in it too; beside int8 stands what model.onnx answers."""
    judged = {"precisions": {"int8": {"accuracy": {"before": 0.125, "after": 0.25}}}}
    read = RunDir.read_json
    monkeypatch.setattr(RunDir, "read_json", lambda run, name: judged if name == "parity.json" else read(run, name))

    tree = sweep({"model": tiny, **SETTINGS}, finished)

    assert [0.125] * 3 == [cell["points"][0]["accuracy"] for cell in tree["cells"]]


def test_points_say_what_was_measured_of_which_file(finished: Path) -> None:
    tree = json.loads((finished / "sweep.json").read_text())

    for place, cell in enumerate(tree["cells"]):
        metrics = json.loads((finished / cell["dir"] / "metrics.json").read_text())
        (point,) = cell["points"]
        assert metrics["final"]["val_accuracy"] == point["accuracy"] == cell["accuracy"]
        assert (finished / cell["dir"] / "model.onnx").stat().st_size == point["size_bytes"]
        assert (10.0 - place, [9.5 - place, 10.5 - place]) == (point["p50_ms"], point["ci_ms"])
        assert ("sparse" if place else "dense", 50_000_000) == (point["variant"], point["run_peak_rss_bytes"])


def test_a_cell_has_its_own_rows_beside_the_dense_ones(finished: Path) -> None:
    shares = [json.loads((finished / name / "profile.json").read_text())["cells"] for name in NAMES]

    assert [[("dense", 10.0)], [("dense", 10.0), ("sparse", 9.0)], [("dense", 10.0), ("sparse", 8.0)]] == [
        [(row["variant"], row["latency_ms"]["p50"]) for row in rows] for rows in shares
    ]


def test_the_same_again_trains_and_measures_nothing(
    finished: Path, tiny: str, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, ran = contents(finished), breaking(monkeypatch, "none", AssertionError())

    recorder = Recorder()
    sweep({"model": tiny, **SETTINGS}, finished, command="ntksap sweep tiny", progress=recorder)

    assert ([], []) == (ran, profile.calls)
    assert before == contents(finished)
    assert [f"cell {n} of 3: {name} finished before, skipped" for n, name in enumerate(NAMES, 1)] == recorder.lines[:3]
    assert "measure: finished before, skipped" == recorder.lines[3]


def test_one_more_sparsity_runs_one_more_cell_and_measures_all_again(
    finished: Path, tiny: str, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = breaking(monkeypatch, "none", AssertionError())

    recorder = Recorder()
    tree = sweep({"model": tiny, **SETTINGS, "sparsity": (0.5, 0.75, 0.9)}, finished, progress=recorder)

    assert [] == [line for line in recorder.lines if "\n" in line]  # the tables of each run stay in its files
    assert any(line.startswith("mask health: ") for line in recorder.lines)
    assert ["magnitude-unstructured-0.9"] == ran
    assert [f"{name} fp32" for name in (*NAMES, *ran)] == profile.calls[0][0]
    assert 4 == sum(len(cell["points"]) for cell in tree["cells"])


def test_all_backends_and_batches_are_measured_in_one_go(finished: Path, tiny: str, profile: FakeProfile) -> None:
    changed = {**SETTINGS, "profile_backend": ("onnxruntime", "torch"), "profile_batch": (1, 8)}

    tree = sweep({"model": tiny, **changed}, finished)

    assert [("onnxruntime", "torch")] == [settings.backends for _, settings, _ in profile.calls]
    assert {("fp32",)} == {settings.precisions for _, settings, _ in profile.calls}
    graph, checkpoint = (finished / NAMES[1] / name for name in ("model.onnx", "model.safetensors"))
    sizes = {(point["backend"], point["batch"]): point["size_bytes"] for point in tree["cells"][1]["points"]}
    assert {
        **{("onnxruntime", batch): graph.stat().st_size for batch in (1, 8)},
        **{("torch", batch): checkpoint.stat().st_size for batch in (1, 8)},
    } == sizes


@pytest.mark.parametrize("change", [{"epochs": 2}, {"seed": 1}])
def test_other_settings_are_refused_with_what_differs(
    finished: Path, tiny: str, profile: FakeProfile, change: dict[str, int]
) -> None:
    before, (key, value) = contents(finished), next(iter(change.items()))

    with pytest.raises(RunDirectoryError, match=f"dense' holds a different run: {key} is .* there, {value} here"):
        sweep({"model": tiny, **SETTINGS, **change}, finished)

    assert before == contents(finished)


def test_a_cell_that_fails_is_a_row_and_the_others_go_on(
    finished: Path, tiny: str, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(finished / NAMES[1])
    shutil.rmtree(finished / NAMES[2])
    ran = breaking(monkeypatch, NAMES[1], TrainingError("the loss became NaN"))

    tree = sweep({"model": tiny, **SETTINGS}, finished, demands=Demands(min_accuracy=0.0))

    assert NAMES[1:] == ran
    failed = tree["cells"][1]
    assert ("failed", "the loss became NaN", 6) == (failed["status"], failed["reason"], failed["exit_code"])
    assert ["finished", "failed", "finished"] == [cell["status"] for cell in tree["cells"]]
    assert ["dense fp32", f"{NAMES[2]} fp32"] == profile.calls[0][0]
    assert tree["chosen"] is not None
    assert 6 == sweep_exit_code(tree)
    assert tree == json.loads((finished / "sweep.json").read_text())


def test_without_the_dense_network_the_others_are_measured(
    finished: Path, tiny: str, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(finished / "dense")
    breaking(monkeypatch, "dense", TrainingError("the loss became NaN"))

    tree = sweep({"model": tiny, **SETTINGS}, finished)

    assert ["failed", "finished", "finished"] == [cell["status"] for cell in tree["cells"]]
    assert [f"{name} fp32" for name in NAMES[1:]] == profile.calls[0][0]


def test_where_all_fail_there_is_a_table_of_reasons(
    tiny: str, tmp_path: Path, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "run_road", lambda *_, **__: _raise(TrainingError("the loss became NaN")))

    tree = sweep({"model": tiny, **SETTINGS}, tmp_path / "out", demands=Demands(max_latency_ms=1.0))

    assert ["failed"] * 3 == [cell["status"] for cell in tree["cells"]]
    assert "no point meets the limits: none was measured" == tree["verdict"]
    assert [] == profile.calls


def test_a_rejected_precision_leaves_the_float32_graph_to_measure(
    finished: Path, tiny: str, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(finished / NAMES[1])
    breaking(monkeypatch, NAMES[1], RejectedError("int8 costs 3 points of accuracy"), after=True)

    tree = sweep({"model": tiny, **SETTINGS}, finished)

    cell = tree["cells"][1]
    assert ("finished", "int8 costs 3 points of accuracy") == (cell["status"], cell["reason"])
    assert ["fp32"] == [point["precision"] for point in cell["points"]]
    assert 5 == sweep_exit_code(tree)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Preempted("stopped by SIGTERM")])
def test_what_ends_it_keeps_finished_cells_and_the_same_goes_on(
    finished: Path, tiny: str, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    shutil.rmtree(finished / NAMES[1])
    with monkeypatch.context() as patch:
        breaking(patch, NAMES[1], error)
        with pytest.raises(type(error)):
            sweep({"model": tiny, **SETTINGS}, finished)
    between = json.loads((finished / "sweep.json").read_text())

    assert ["finished", "pending", "finished"] == [cell["status"] for cell in between["cells"]]
    assert ("the sweep has not ended", None) == (between["verdict"], between["chosen"])
    ran = breaking(monkeypatch, "none", AssertionError())
    tree = sweep({"model": tiny, **SETTINGS}, finished)
    assert NAMES[1:2] == ran
    assert ["finished"] * 3 == [cell["status"] for cell in tree["cells"]]


def test_two_sweeps_of_a_directory_exclude_each_other(finished: Path, tiny: str, profile: FakeProfile) -> None:
    before = contents(finished)

    with RunDir(finished).locked(), pytest.raises(RunDirectoryError, match="another ntksap is working in"):
        sweep({"model": tiny, **SETTINGS}, finished)

    assert before == contents(finished)


def test_a_changed_profile_is_measured_again(finished: Path, tiny: str, profile: FakeProfile) -> None:
    (finished / "profile.json").write_text("{}")

    tree = sweep({"model": tiny, **SETTINGS}, finished)

    assert 1 == len(profile.calls)
    assert [1, 1, 1] == [len(cell["points"]) for cell in tree["cells"]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda out: out.write_text(""), "is a file; choose another --out"),
        (lambda out: (out.mkdir(), (out / "notes.txt").write_text("")), "is not empty and holds no sweep of ntksap"),
        (
            lambda out: (
                RunDir(out).record("state.json").parent.mkdir(parents=True)
                or RunDir(out)
                .record("state.json")
                .write_text('{"prune": {"keys": {}, "fingerprint": "", "done": false, "files": {}}}')
            ),
            "holds a run; a sweep needs a directory of its own",
        ),
    ],
)
def test_a_directory_of_something_else_is_refused(
    tiny: str, tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    out = tmp_path / "out"
    make(out)

    with pytest.raises(RunDirectoryError) as caught:
        sweep({"model": tiny, **SETTINGS}, out)

    assert said in str(caught.value)


def test_a_plan_names_cells_and_seconds_and_writes_nothing(tiny: str, tmp_path: Path) -> None:
    settings = {"model": tiny, **SETTINGS, "pattern": ("unstructured", "2:4", "channel"), "control": "shuffle"}

    plan = plan_sweep(settings, tmp_path / "out", precisions=("fp32", "int8"))

    assert [*NAMES, "magnitude-2of4-0.5", "magnitude-channel-0.5", "magnitude-channel-0.75"] == [
        cell["dir"] for cell in plan["cells"]
    ]
    assert ["pending"] * 4 + ["skipped"] * 2 == [cell["status"] for cell in plan["cells"]]
    assert all(cell["estimated_s"] > 0 for cell in plan["cells"][:4])
    assert plan["estimated_s"]["total"] == pytest.approx(
        sum(plan["estimated_s"][part] for part in ("prune", "train", "export", "profile")), abs=0.5
    )
    assert not (tmp_path / "out").exists()


def test_a_budget_in_other_words_is_the_same_sweep(finished: Path, tiny: str) -> None:
    settings = {key: value for key, value in SETTINGS.items() if key != "sparsity"}

    by_density = plan_sweep({"model": tiny, **settings, "density": 0.25}, finished)
    by_budget = plan_sweep({"model": tiny, **settings, "budget": "sparsity=0.75"}, finished)

    assert [NAMES[0], NAMES[2]] == [cell["dir"] for cell in by_density["cells"]]
    assert by_density["cells"] == by_budget["cells"]


def test_a_plan_of_a_finished_sweep_has_nothing_but_the_measuring_to_do(finished: Path, tiny: str) -> None:
    before = contents(finished)

    plan = plan_sweep({"model": tiny, **SETTINGS}, finished)

    assert [["prune", "train", "export"]] * 3 == [cell["done"] for cell in plan["cells"]]
    assert {"profile", "total"} == plan["estimated_s"].keys()
    assert before == contents(finished)


def test_a_budget_that_no_mask_can_meet_skips_its_cell(tiny: str, tmp_path: Path) -> None:
    settings = {"model": tiny, **SETTINGS, "min_layer_density": 0.3}

    plan = plan_sweep(settings, tmp_path / "out")

    assert ["pending", "pending", "skipped"] == [cell["status"] for cell in plan["cells"]]
    assert "min-layer-density" in plan["cells"][2]["reason"]
    with pytest.raises(NtksapError, match="min-layer-density"):
        plan_sweep({**settings, "sparsity": 0.75}, tmp_path / "out")


def _raise(error: Exception) -> None:
    raise error


@needs_engine
def test_each_network_is_measured_in_the_sparse_engine_too(
    tiny: str, tmp_path: Path, profile: FakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ntksap_export.pipeline.engine.compare_speed", lambda *_: {"skipped": "not here"})

    tree = sweep({"model": tiny, **SETTINGS, "sparsity": (0.5,), "engine": True}, tmp_path / "out")

    ((names, _, _),) = profile.calls
    assert [f"{name}{more} fp32" for name in NAMES[:2] for more in ("", " engine")] == names
    assert [["dense", "engine"], ["sparse", "engine"]] == [
        [point["variant"] for point in cell["points"]] for cell in tree["cells"]
    ]
    for cell in tree["cells"]:
        body = cell["points"][1]
        assert (tmp_path / "out" / cell["dir"] / "model.sparse.onnx").stat().st_size == body["size_bytes"]
        assert cell["accuracy"] == body["accuracy"]
    rows = json.loads((tmp_path / "out" / NAMES[1] / "profile.json").read_text())["cells"]
    assert ["dense", "sparse", "engine"] == [row["variant"] for row in rows]
    assert "sparse engine" in (tmp_path / "out" / "sweep.html").read_text()


def test_the_engines_point_is_called_so() -> None:
    point = {"variant": "engine", "precision": "fp32", "backend": "onnxruntime", "device": "cpu", "batch": 1}
    numbers = {"threads": 2, "accuracy": 0.9, "p50_ms": 1.5, "size_bytes": 2e6}

    assert "a engine in onnxruntime on cpu (batch 1, threads 2)" in point_text({"dir": "a"}, {**point, **numbers})
