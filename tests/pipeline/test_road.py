"""The road: what it leaves behind, what it does the second time, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from ntksap_export import models
from ntksap_export.checkpoint import SparseCheckpoint, load_mask
from ntksap_export.config import make_config
from ntksap_export.data import open_data
from ntksap_export.errors import DataError, ExportError, RunDirectoryError
from ntksap_export.graph import Graph, PassLog
from ntksap_export.pipeline import STAGES, exporting, profiling, run_road, run_stage, summary
from ntksap_export.pipeline.plan import FILES
from ntksap_export.pipeline.run_dir import fingerprint
from ntksap_export.profiling.profile import Variant
from tests.conftest import Recorder, small_config

EXPORTED = (
    "model.onnx",
    "parity.json",
    *(f"{folder}/batch{count}.npz" for folder in ("sample_inputs", "sample_outputs") for count in (1, 2)),
)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_a_run_leaves_every_file_and_nothing_else(finished_run: Path) -> None:
    found = [path for path in finished_run.iterdir() if path.name != ".ntksap"]
    assert sorted(FILES) == sorted(f"{path.name}/" if path.is_dir() else path.name for path in found)


def test_config_json_tells_architecture_and_input(finished_run: Path) -> None:
    config = json.loads((finished_run / "config.json").read_text())

    assert config["architecture"] == "resnet20"
    assert config["num_classes"] == 10
    assert config["pretrained_cfg"]["input_size"] == [3, 16, 16]
    assert len(config["pretrained_cfg"]["mean"]) == 3
    assert config["ntksap"]["config"]["batch-size"] == 128


def test_bare_onnxruntime_reaches_the_accuracy_of_metrics_json(finished_run: Path) -> None:
    config = json.loads((finished_run / "config.json").read_text())["pretrained_cfg"]
    val = open_data("digits", image_size=16).val
    images = val.take(list(range(len(val)))).numpy().astype(np.float32) / 255
    mean, std = (np.array(config[key], np.float32)[None, :, None, None] for key in ("mean", "std"))
    onnx.checker.check_model(str(finished_run / "model.onnx"))
    session = onnxruntime.InferenceSession(str(finished_run / "model.onnx"), providers=["CPUExecutionProvider"])

    (logits,) = session.run(None, {"images": (images - mean) / std})
    accuracy = (logits.argmax(1) == val.labels.numpy()).mean()

    reported = json.loads((finished_run / "metrics.json").read_text())["final"]["val_accuracy"]
    assert reported == pytest.approx(accuracy, abs=1.5 / len(val))


def test_checkpoint_opens_with_safetensors_alone_and_has_the_mask(finished_run: Path) -> None:
    mask, _ = load_mask(finished_run / "mask.safetensors")
    with safe_open(finished_run / "model.safetensors", "pt") as file:
        packed = file.get_tensor("layer3.2.conv2.weight.packed")
        entry = json.loads(file.metadata()["ntksap"])["tensors"]["layer3.2.conv2.weight"]

    assert entry["kept"] == int(mask["layer3.2.conv2.weight"].sum())
    assert sum(entry["bytes"]) == len(packed) < 4 * entry["kept"] + mask["layer3.2.conv2.weight"].numel() // 8


def test_pruned_weights_are_zero_in_checkpoint_and_graph(finished_run: Path) -> None:
    mask, _ = load_mask(finished_run / "mask.safetensors")
    checkpoint = SparseCheckpoint.load(finished_run / "model.safetensors")
    graph = onnx.load(str(finished_run / "model.onnx"))
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in graph.graph.initializer}

    assert mask.kept == round(0.1 * mask.total)
    for name, kept in mask.items():
        assert not checkpoint.tensors[name][~kept].any()
        assert np.count_nonzero(weights[name]) <= int(kept.sum())
        if weights[name].shape == kept.shape:  # else channels were removed
            assert not weights[name][~kept.numpy()].any()


def test_graph_holds_no_path_of_the_machine(finished_run: Path) -> None:
    content = (finished_run / "model.onnx").read_bytes()

    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content
    assert b".py" not in content


def test_second_run_skips_every_stage_and_changes_nothing(finished_run: Path) -> None:
    before, recorder = contents(finished_run), Recorder()

    run_road(small_config(), finished_run, progress=recorder)

    assert [f"{stage}: finished before, skipped" for stage in STAGES] == recorder.lines
    assert before == contents(finished_run)


def test_only_what_was_lost_is_made_again(finished_run: Path) -> None:
    before, recorder = contents(finished_run), Recorder()
    (finished_run / "model.onnx").unlink()

    run_road(small_config(), finished_run, progress=recorder)

    assert "train: finished before, skipped" in recorder.lines
    assert "export ..." in recorder.lines
    assert before["model.onnx"] == (finished_run / "model.onnx").read_bytes()


def test_a_changed_file_is_not_taken_for_a_finished_one(finished_run: Path) -> None:
    recorder = Recorder()
    path = finished_run / "mask.safetensors"
    path.write_bytes(path.read_bytes()[:-1])

    run_road(small_config(), finished_run, progress=recorder)

    assert recorder.lines[0] == "prune ..."


@pytest.mark.parametrize(
    ("change", "said"),
    [({"epochs": 3}, "epochs is 2 there, 3 here"), ({"sparsity": 0.5}, "sparsity is 0.9 there, 0.5 here")],
)
def test_another_run_is_refused_and_nothing_changes(finished_run: Path, change: dict[str, object], said: str) -> None:
    before = contents(finished_run)

    with pytest.raises(RunDirectoryError, match=said):
        run_road(small_config(**change), finished_run)

    assert before == contents(finished_run)


def test_overwrite_replaces_another_run(finished_run: Path) -> None:
    run_road(small_config(epochs=1), finished_run, stages=("prune", "train"), overwrite=True)

    assert json.loads((finished_run / "metrics.json").read_text())["epochs"] == 1


def test_files_of_another_training_do_not_stand_beside_a_new_one(finished_run: Path) -> None:
    graph = (finished_run / "model.onnx").read_bytes()
    run_stage("train", finished_run, {"epochs": 1}, overwrite=True)

    stale = {"model.onnx", "parity.json", "profile.json", "report.html", "README.md"}

    assert stale & contents(finished_run).keys() == set()
    assert graph == (finished_run / ".ntksap" / "stale" / "model.onnx").read_bytes()


def test_files_of_this_training_stay_while_a_later_stage_is_made_again(finished_run: Path) -> None:
    run_stage("export", finished_run, {})

    assert (finished_run / "report.html").is_file()


@pytest.mark.parametrize("text", ["garbage", "[]", '{"prune": 5}', '{"prune": {"keys": 1}}'])
def test_a_broken_record_is_no_record(finished_run: Path, text: str) -> None:
    (finished_run / ".ntksap" / "state.json").write_text(text)

    with pytest.raises(RunDirectoryError, match="holds no run"):
        run_road(small_config(), finished_run)


def test_a_record_from_before_a_setting_existed_is_that_of_its_default(finished_run: Path) -> None:
    path, recorder = finished_run / ".ntksap" / "state.json", Recorder()
    records = json.loads(path.read_text())
    del records["prune"]["keys"]["control"]
    path.write_text(json.dumps(records))

    run_road(small_config(), finished_run, progress=recorder)

    assert [f"{stage}: finished before, skipped" for stage in STAGES] == recorder.lines
    with pytest.raises(RunDirectoryError, match="control is none there, shuffle here"):
        run_road(small_config(control="shuffle"), finished_run)


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(RunDirectoryError, match="not empty"):
        run_road(small_config(), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_other_measuring_settings_only_measure_again(finished_run: Path) -> None:
    recorder = Recorder()

    run_road(small_config(profile_batch=(2,)), finished_run, progress=recorder)

    assert [line.endswith("skipped") for line in recorder.lines if line.startswith(("prune", "train", "export"))] == [
        True,
        True,
        True,
    ]
    assert {row["batch"] for row in summary(finished_run)["latency"] if row["batch"]} == {2}


def test_stages_one_by_one_make_the_same_as_the_chain(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "by_hand"
    run_road(small_config(), out, stages=("prune",))
    run_stage("train", out, {})
    run_stage("export", out, {})

    for name in ("mask.safetensors", "model.safetensors", "model.onnx"):
        assert (finished_run / name).read_bytes() == (out / name).read_bytes()


def test_stage_takes_new_settings_for_itself(tmp_path: Path) -> None:
    run_road(small_config(), tmp_path / "run", stages=("prune",))

    run_stage("train", tmp_path / "run", {"epochs": 1})

    assert summary(tmp_path / "run")["epochs"] == 1
    with pytest.raises(RunDirectoryError, match="epochs is 1 there, 2 here"):
        run_stage("train", tmp_path / "run", {"epochs": 2})


@pytest.mark.parametrize(
    ("stage", "said"), [("train", "ntksap prune"), ("export", "ntksap train"), ("report", "ntksap prune")]
)
def test_a_stage_without_its_input_says_what_to_run(tmp_path: Path, stage: str, said: str) -> None:
    run_road(small_config(), tmp_path / "run", stages=("prune",))
    for name in ("mask.safetensors", "mask.json"):
        (tmp_path / "run" / name).unlink()

    with pytest.raises(RunDirectoryError, match=said):
        run_stage(stage, tmp_path / "run", {})


def breaking(monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]) -> None:
    """Let every graph of an export be changed, in place, after its passes."""
    real = exporting.optimize

    def broken(graph: Graph, passes: tuple[str, ...]) -> tuple[Graph, tuple[PassLog, ...]]:
        made, log = real(graph, passes)
        change(made.proto)
        return made, log

    monkeypatch.setattr(exporting, "optimize", broken)


def test_a_graph_that_disagrees_does_not_take_the_place_of_a_good_one(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight of the graph is made wrong on its way; the run says which module it is in."""
    before = {name: (finished_run / name).read_bytes() for name in EXPORTED}

    def change_weight(proto: onnx.ModelProto) -> None:
        (item,) = (item for item in proto.graph.initializer if item.name == "layer2.1.conv1.weight")
        item.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) + np.float32(0.1), item.name))

    breaking(monkeypatch, change_weight)

    with pytest.raises(
        ExportError, match=r"disagrees .* part first at Conv '.*' \(module layer2\.1\.conv1\)"
    ) as caught:
        run_stage("export", finished_run, {})

    assert 1 == len(str(caught.value).splitlines())
    assert before == {name: (finished_run / name).read_bytes() for name in EXPORTED}
    assert (finished_run / "rejected.onnx").is_file()
    told = json.loads((finished_run / "rejected_parity.json").read_text())
    assert not told["passed"]
    assert "layer2.1.conv1" == told["divergence"]["module"]


def test_a_graph_that_no_runtime_loads_is_kept_under_another_name(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (finished_run / name).read_bytes() for name in EXPORTED}

    def change_operator(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].op_type = "NoSuchOperator"

    breaking(monkeypatch, change_operator)

    with pytest.raises(ExportError, match=r"cannot load the graph: .*NoSuchOperator.*; see rejected\.onnx"):
        run_stage("export", finished_run, {})

    assert before == {name: (finished_run / name).read_bytes() for name in EXPORTED}
    assert (finished_run / "rejected.onnx").is_file()


def test_a_good_graph_clears_the_rejected_one_away(finished_run: Path) -> None:
    for name in ("rejected.onnx", "rejected_parity.json"):
        (finished_run / name).write_text("{}")
    before = {name: (finished_run / name).read_bytes() for name in EXPORTED}

    run_stage("export", finished_run, {})

    assert not (finished_run / "rejected.onnx").exists()
    assert not (finished_run / "rejected_parity.json").exists()
    assert before == {name: (finished_run / name).read_bytes() for name in EXPORTED}


def test_a_checkpoint_of_another_model_is_refused(finished_run: Path, tmp_path: Path) -> None:
    other = models.build("resnet32", 10)
    mask, _ = load_mask(finished_run / "mask.safetensors")
    checkpoint = SparseCheckpoint.load(finished_run / "model.safetensors")
    SparseCheckpoint.of(other, type(mask).dense(other), checkpoint.provenance).save(finished_run / "model.safetensors")

    with pytest.raises(Exception, match=r"layer1\.3") as caught:
        run_stage("export", finished_run, {})

    assert caught.type.__name__ == "CheckpointError"


def test_class_count_that_does_not_fit_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="10 classes"):
        run_road(make_config({"model": "resnet20", "num_classes": 7}), tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_two_runs_with_one_seed_are_the_same_run(finished_run: Path, tmp_path: Path) -> None:
    run_road(small_config(), tmp_path / "again", stages=("prune", "train"))

    assert (finished_run / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()


def test_the_run_leaves_torch_threads_and_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    run_road(small_config(rounds=1), tmp_path / "run", stages=("prune",))

    assert torch.equal(before, torch.get_rng_state())


def test_a_run_of_a_version_without_patterns_is_taken_over(finished_run: Path) -> None:
    """Records that an earlier version wrote lack the settings that came later; sparsity 0.9 was then the default."""
    state = finished_run / ".ntksap" / "state.json"
    records = json.loads(state.read_text())
    for record in records.values():
        for key in ("flops", "params", "pattern", "scope", "min_layer_density", "round_to", "channel_sparsity"):
            record["keys"].pop(key, None)
    state.write_text(json.dumps(records))
    before = contents(finished_run)

    run_road(small_config(sparsity=0.9), finished_run, command="ntksap prune-train-export resnet20")

    assert before == contents(finished_run)


def test_a_compacted_graph_is_measured_beside_the_whole_network(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, _ = load_mask(finished_run / "mask.safetensors")
    graphs = {}

    def look(variants: Sequence[Variant], settings: object, **other: object) -> list[dict[str, object]]:
        for variant in variants:
            assert variant.graph is not None
            initializers = onnx.load(str(variant.graph)).graph.initializer
            graphs[variant.name] = {item.name: tuple(item.dims) for item in initializers}
        return []

    monkeypatch.setattr(profiling, "profile", look)
    run_stage("profile", finished_run, {})

    assert any(graphs["sparse"].get(name) != tuple(kept.shape) for name, kept in mask.items())
    assert all(graphs["dense"][name] == tuple(kept.shape) for name, kept in mask.items())


def test_fingerprints_of_earlier_versions_still_hold() -> None:
    """Computed by a version without patterns and other budgets than sparsity."""
    config = make_config({"model": "resnet20", "sparsity": 0.9, "epochs": 3})

    assert fingerprint("train", config) == "ec8746f11615fb55e859304dc97a1b067dea9a79eb5dbe896bbced57db4e661e"
