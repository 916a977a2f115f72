"""A user's own network on the road, and weights from a file: every stage and process finds them again, or says so."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch

from ntksap_export import networks
from ntksap_export.checkpoint import SparseCheckpoint, load_mask
from ntksap_export.cli.settings import default_out
from ntksap_export.config import RunConfig, make_config
from ntksap_export.errors import CheckpointError, ConfigError, RunDirectoryError
from ntksap_export.pipeline import plan, run_road, run_stage
from ntksap_export.pruning import ChannelPlan

from ..conftest import small_config
from ..support.own import own_module


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "code"
    folder.mkdir()
    return f"{own_module(folder, monkeypatch)}:make"


def quick(model: str, **changes: object) -> RunConfig:
    return small_config(model=model, epochs=1, rounds=1, profile_device=("cpu",), profile_threads=(1,), **changes)


def test_the_whole_road_with_torch_measured_in_its_own_process(own: str, tmp_path: Path) -> None:
    out = run_road(quick(own, profile_backend=("torch",), sparsity=0.5), tmp_path / "run")

    config = json.loads((out / "config.json").read_text())
    cells = json.loads((out / "profile.json").read_text())["cells"]
    assert own == config["architecture"] == config["ntksap"]["provenance"]["architecture"]
    assert str(tmp_path) not in (out / "config.json").read_text()
    assert ["measured", "measured"] == [cell["status"] for cell in cells], cells
    assert own.partition(":")[0] in (out / "README.md").read_text().replace("\\", "")


def test_channels_are_removed_and_built_again_from_name_and_plan(own: str, tmp_path: Path) -> None:
    config = quick(own, pattern="channel", round_to=1, sparsity=0.6, method="magnitude")

    out = run_road(config, tmp_path / "run", stages=("prune", "train", "export"))

    channels = ChannelPlan.from_json(json.loads((out / "channels.json").read_text()))
    slim = channels.apply(networks.build(own, 10))
    mask, _ = load_mask(out / "mask.safetensors")
    mask.check_fits(slim)
    SparseCheckpoint.load(out / "model.safetensors").restore_(slim)
    shapes = [tuple(one.dims) for one in onnx.load(out / "model.onnx").graph.initializer]
    convolution = slim.get_parameter("conv2.weight")
    assert tuple(convolution.shape) in shapes
    assert convolution.numel() < 0.6 * 16 * 8 * 9


def test_a_later_stage_that_does_not_find_the_module_names_it(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run_road(quick(own), tmp_path / "run", stages=("prune",))
    module = own.partition(":")[0]
    monkeypatch.delitem(sys.modules, module)
    shutil.rmtree(tmp_path / "code")

    with pytest.raises(
        ConfigError, match=f"model '{own}': no module '{module}' is found; start ntksap in the directory"
    ):
        run_stage("train", out, {})


@pytest.mark.parametrize("factory", ["of_seven", "raising", "nothing_to_prune", "other_each_time"])
def test_a_network_that_will_not_do_writes_nothing(own: str, tmp_path: Path, factory: str) -> None:
    with pytest.raises(ConfigError, match=factory):
        run_road(quick(own.replace(":make", f":{factory}")), tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_a_plan_of_an_own_network(own: str, tmp_path: Path) -> None:
    planned = plan(quick(own, sparsity=0.5), tmp_path / "run")

    assert ["conv1.weight", "conv2.weight", "fc.weight"] == [layer["name"] for layer in planned["layers"]]
    assert 32 == plan(make_config({"model": own, "rounds": 1}), tmp_path / "run")["config"]["image-size"]


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("resnet20", "resnet20-digits-ntksap-90"),
        ("torchvision:vgg16_bn", "torchvision-vgg16_bn-digits-ntksap-90"),
        ("timm:resnet50.a1_in1k", "timm-resnet50.a1_in1k-digits-ntksap-90"),
        ("my.nets:Net.make", "my.nets-Net.make-digits-ntksap-90"),
        ("../../up:x", "..-..-up-x-digits-ntksap-90"),
    ],
)
def test_directories_of_runs_have_plain_names(model: str, folder: str) -> None:
    assert Path("runs") / folder == default_out(make_config({"model": model}))


def test_a_pattern_of_shards_makes_a_plain_name() -> None:
    config = make_config({"model": "resnet20", "data": "some/where/{train,test}-{000..012}.tar"})

    assert Path("runs/resnet20-train-test-000..012-.tar-ntksap-90") == default_out(config)


def test_networks_of_one_size_take_no_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mlp7 takes images of 32x32; got --image-size 16. Leave it away"):
        run_road(quick("mlp7"), tmp_path / "run")


def weights_of(own: str, path: Path, seed: int = 7) -> Path:
    torch.save(networks.build(own, 10, seed=seed).state_dict(), path)
    return path


def test_weights_of_a_file_are_where_the_run_starts(own: str, tmp_path: Path) -> None:
    file = weights_of(own, tmp_path / "weights.pt")
    config = quick(own, method="magnitude", sparsity=0.5)

    started = run_road(config.with_values(weights=str(file)), tmp_path / "a", stages=("prune", "train"))
    drawn = run_road(config.with_values(seed=7), tmp_path / "b", stages=("prune",))
    other = run_road(config, tmp_path / "c", stages=("prune",))

    masks = [load_mask(run / "mask.safetensors")[0] for run in (started, drawn, other)]
    assert masks[0].same_as(masks[1])
    assert not masks[0].same_as(masks[2])
    provenance = SparseCheckpoint.load(started / "model.safetensors").provenance.to_json()
    assert 64 == len(provenance["config"]["weights_sha256"])
    assert str(tmp_path) not in json.dumps(provenance)


def test_training_starts_from_the_weights_and_export_does_without_them(own: str, tmp_path: Path) -> None:
    file = weights_of(own, tmp_path / "weights.pt")
    config = quick(own, method="magnitude", sparsity=0.5, lr=1e-12, weight_decay=0.0, weights=str(file))

    out = run_road(config, tmp_path / "run", stages=("prune", "train"))
    file.unlink()
    run_stage("export", out, {})

    mask, _ = load_mask(out / "mask.safetensors")
    trained = SparseCheckpoint.load(out / "model.safetensors").tensors
    start = networks.build(own, 10, seed=7).state_dict()
    for name, kept in mask.items():
        assert torch.allclose(start[name] * kept, trained[name], atol=1e-7)


def test_weights_that_moved_are_the_same_run_and_others_are_not(own: str, tmp_path: Path) -> None:
    file = weights_of(own, tmp_path / "weights.pt")
    config = quick(own, method="magnitude", weights=str(file))
    out = run_road(config, tmp_path / "run", stages=("prune",))
    moved = file.rename(tmp_path / "moved.pt")

    run_road(config.with_values(weights=str(moved)), out, stages=("prune",))
    with pytest.raises(CheckpointError, match=r"weights '.*weights.pt': no such file"):
        run_stage("train", out, {"weights": str(file)})
    weights_of(own, file, seed=8)
    with pytest.raises(CheckpointError, match="are not those that this run was begun with; put them back"):
        run_stage("train", out, {"weights": str(file)})
    with pytest.raises(RunDirectoryError, match=r"weights-sha256 is .* there, .* here"):
        run_road(config, out, stages=("prune",))
    with pytest.raises(CheckpointError, match=r"have SHA-256 .* was asked for"):
        run_road(config.with_values(weights_sha256="0" * 64), tmp_path / "other")


def test_weights_that_do_not_fit_write_nothing(own: str, tmp_path: Path) -> None:
    torch.save(networks.build(own, 7).state_dict(), tmp_path / "seven.pt")
    (tmp_path / "garbage").write_bytes(b"garbage" * 9)

    for name, said in (
        ("seven.pt", r"'fc.weight': file \(7, 16\), model \(10, 16\)"),
        ("garbage", "neither safetensors"),
    ):
        with pytest.raises(CheckpointError, match=said):
            run_road(quick(own, weights=str(tmp_path / name)), tmp_path / "run")
        assert not (tmp_path / "run").exists()
