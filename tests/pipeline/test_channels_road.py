"""Runs that remove whole channels: every stage builds the smaller network again from its name and its plan."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from ntksap_export import models
from ntksap_export.checkpoint import SparseCheckpoint, load_mask
from ntksap_export.errors import CheckpointError, RunDirectoryError
from ntksap_export.pipeline import run_road, run_stage
from ntksap_export.pruning import ChannelPlan

from ..conftest import small_config

CONFIG = small_config(pattern="channel+2:4", sparsity=0.9, method="magnitude", epochs=1)


@pytest.fixture(scope="module")
def slim_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_road(CONFIG, tmp_path_factory.mktemp("channels") / "out")


def plan_of(run: Path) -> ChannelPlan:
    return ChannelPlan.from_json(json.loads((run / "channels.json").read_text()))


def test_the_smaller_network_is_built_from_its_name_and_its_plan(slim_run: Path) -> None:
    dense = models.build("resnet20", num_classes=10, seed=5)
    mask, _ = load_mask(slim_run / "mask.safetensors")

    slim = plan_of(slim_run).apply(dense)
    SparseCheckpoint.load(slim_run / "model.safetensors").restore_(slim)

    mask.check_fits(slim)
    assert sum(p.numel() for p in slim.parameters()) < 0.3 * sum(p.numel() for p in dense.parameters())
    session = onnxruntime.InferenceSession(str(slim_run / "model.onnx"), providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        expected = slim.eval()(images)
    assert torch.allclose(expected, torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), atol=1e-4)


def test_the_graph_has_the_smaller_shapes(slim_run: Path) -> None:
    graph = onnx.load(slim_run / "model.onnx")
    shapes = {one.name: tuple(one.dims) for one in graph.graph.initializer}
    slim = plan_of(slim_run).apply(models.build("resnet20", num_classes=10))

    assert tuple(slim.layer3[0].conv1.weight.shape) == shapes["layer3.0.conv1.weight"]  # type: ignore[union-attr,index]
    assert tuple(slim.fc.weight.shape) == shapes["fc.weight"]  # type: ignore[union-attr]


def test_mask_json_counts_against_the_dense_network(slim_run: Path) -> None:
    told = json.loads((slim_run / "mask.json").read_text())
    mask, _ = load_mask(slim_run / "mask.safetensors")

    assert (270_896, mask.kept) == (told["table"]["weights"], told["table"]["kept"])
    assert mask.kept <= 27_090
    assert {"conv1": "3 input channels do not divide by 4"} == told["left_whole"]
    for name, kept in mask.items():
        if name != "conv1.weight":
            fours = kept.transpose(0, 1).flatten(1).T.reshape(-1, 4)
            assert int(fours.sum(1).max()) <= 2
    assert told["channels"]["kept"] < told["channels"]["channels"]


def test_the_dense_baseline_has_all_channels(slim_run: Path) -> None:
    cells = json.loads((slim_run / "profile.json").read_text())["cells"]

    assert {"sparse", "dense"} == {cell["variant"] for cell in cells if cell["status"] == "measured"}


def test_a_second_run_finds_everything_done(slim_run: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in slim_run.iterdir() if path.is_file()}

    run_road(CONFIG, slim_run)

    assert before == {path.name: path.stat().st_mtime_ns for path in slim_run.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        (lambda file: file.unlink(), RunDirectoryError, "has no channels.json; run `ntksap prune` first"),
        (lambda file: file.write_text("{"), RunDirectoryError, "is not JSON"),
        (lambda file: file.write_text('{"layers": {}, "groups": 3}'), CheckpointError, "a list of groups"),
    ],
)
def test_a_missing_or_broken_plan_is_one_clear_line(
    slim_run: Path, tmp_path: Path, damage: object, error: type[Exception], said: str
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(slim_run, copy)
    damage(copy / "channels.json")  # type: ignore[operator]

    with pytest.raises(error, match=said):
        run_stage("export", copy, {})


def test_report_and_card_tell_the_truth_about_channels(slim_run: Path) -> None:
    card = (slim_run / "README.md").read_text()
    page = (slim_run / "report.html").read_text()

    for text in (card, page):
        assert "channels were removed" in text
        assert "pattern 2:4" in text
    assert "ntk-sap" not in card
    dense = sum(
        value.numel() * value.element_size() for value in models.build("resnet20", num_classes=10).state_dict().values()
    )
    stored = (slim_run / "model.safetensors").stat().st_size
    assert f"checkpoint is {dense / stored:.1f} times smaller" in card


def test_layers_kept_dense_count_in_the_budget_of_both_steps(tmp_path: Path) -> None:
    kept = ("layer3.1.conv1",)
    config = small_config(pattern="channel+2:4", sparsity=0.7, method="magnitude", keep_dense=kept)

    run = run_road(config, tmp_path / "out", stages=("prune",))

    assert json.loads((run / "mask.json").read_text())["table"]["kept"] <= round(270_896 * 0.3)


def test_unstructured_over_channels_leaves_no_stale_plan(tmp_path: Path) -> None:
    run_road(small_config(pattern="channel", method="magnitude"), tmp_path / "out", stages=("prune",))

    run_road(small_config(method="magnitude"), tmp_path / "out", stages=("prune",), overwrite=True)

    assert not (tmp_path / "out" / "channels.json").exists()
