"""What `ntksap analyze` finds: every network of a run, masks of a model, the numbers of the library."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ntksap_export import networks
from ntksap_export.analysis import alignment, ntk, spectrum_of
from ntksap_export.analysis.overlap import overlap
from ntksap_export.analysis.settled import settled
from ntksap_export.checkpoint import load_mask, save_mask
from ntksap_export.config import make_config
from ntksap_export.errors import CheckpointError, ConfigError, DataError, RunDirectoryError
from ntksap_export.masks import Mask
from ntksap_export.pipeline import run_road
from ntksap_export.pipeline.analysing import Asked, analyze, default_out, read_memory, read_parts
from ntksap_export.pipeline.analysing.averages import deviation_of, mean_of
from ntksap_export.pipeline.analysing.measured import never_ran
from ntksap_export.pipeline.analysing.opened import mask_names
from ntksap_export.progress import Silent

from ..conftest import Recorder
from ..support.nets import random_mask
from ..support.own import own_module

QUICK = {"image_size": 8, "rounds": 1, "epochs": 1, "batch_size": 512, "precision": "fp32", "sparsity": 0.5}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "code"
    folder.mkdir()
    return f"{own_module(folder, monkeypatch)}:make"


def run_of(own: str, out: Path, stages: tuple[str, ...] = ("prune", "train"), **changes: Any) -> Path:
    config = make_config({"model": own, "method": "magnitude", **QUICK, **changes})
    return run_road(config, out, stages=stages)


def look(
    target: object, out: Path, *masks: Path, settings: dict[str, Any] | None = None, **asked: Any
) -> dict[str, Any]:
    given = {"images": 3, "probes": 2, **asked}
    return analyze(str(target), masks, settings or {}, Asked(**given), out, Silent(), "ntksap analyze x")


def small_masks(own: str, folder: Path) -> tuple[Path, Path]:
    model = networks.build(own, 10, 0)
    paths = (folder / "first.safetensors", folder / "second.safetensors")
    for seed, path in enumerate(paths):
        told = {"architecture": own, "method": f"m{seed}", "seed": 0, "config": {"image_size": 8, "num_classes": 10}}
        save_mask(path, random_mask(model, 0.5, seed), told)
    return paths


def test_a_run_before_along_and_after_training(own: str, tmp_path: Path) -> None:
    run = run_of(own, tmp_path / "run", epochs=2, snapshot_epochs=(0, 1))

    result = look(run, run)

    shown = [(one["name"], one["state"], one["epoch"], one["settled"]) for one in result["networks"]]
    assert [
        ("dense", "initialization", None, True),
        ("masked", "initialization", 0, True),
        ("epoch 1", "training", 1, False),
        ("trained", "trained", 2, False),
    ] == shown
    assert [1.0, 0.5, 0.5, 0.5] == pytest.approx([one["density"] for one in result["networks"]], abs=1e-3)
    assert result["settings"]["real"]
    assert "digits" == result["settings"]["data"]
    assert result == json.loads((run / "analysis.json").read_text())
    assert "<h1>Analysis of" in (run / "analysis.html").read_text()
    assert "# Analysis of" in (run / "analysis.md").read_text()
    assert [] == result["overlap"]


def test_the_numbers_are_those_of_the_library(own: str, tmp_path: Path) -> None:
    paths = small_masks(own, tmp_path)

    result = look(own, tmp_path / "out", *paths, form="classes")

    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    dense = ntk(settled(networks.build(own, 10, 0), images), images, form="classes")
    for path, entry in zip(paths, result["networks"][1:], strict=True):
        mask, model = load_mask(path)[0], networks.build(own, 10, 0)
        mask.apply_(model)
        kernel = ntk(settled(model, images), images, form="classes", mask=mask)
        spectrum = spectrum_of(kernel)
        assert list(spectrum.eigenvalues) == pytest.approx(entry["ntk"]["eigenvalues"])
        assert (spectrum.trace, spectrum.eigenvalues[0]) == pytest.approx((entry["ntk"]["trace"], entry["ntk"]["top"]))
        assert alignment(kernel, dense) == pytest.approx(entry["ntk"]["alignment"])
    pair = result["overlap"][0]
    expected = overlap(load_mask(paths[0])[0], load_mask(paths[1])[0])
    assert ("first", "second", expected.jaccard) == (pair["first"], pair["second"], pair["jaccard"])
    assert ["m0", "m1"] == [entry["method"] for entry in result["networks"][1:]]


def test_spectra_are_averaged_over_draws_by_rank(own: str, tmp_path: Path) -> None:
    result = look(own, tmp_path / "out", settings={"image_size": 8}, only=("ntk",), seeds=3)

    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = torch.tensor(
        [spectrum_of(ntk(settled(networks.build(own, 1000, seed), images), images)).eigenvalues for seed in range(3)],
        dtype=torch.float64,
    )
    (entry,) = result["networks"]
    assert 3 == entry["draws"]
    assert found.mean(0).tolist() == pytest.approx(entry["ntk"]["eigenvalues"])
    assert found.std(0).tolist() == pytest.approx(entry["deviations"]["ntk"]["eigenvalues"])
    assert "isometry" not in entry


def test_a_slim_network_stands_beside_the_dense_one(own: str, tmp_path: Path) -> None:
    run = run_of(own, tmp_path / "run", pattern="channel", round_to=1, sparsity=0.6)

    result = look(run, tmp_path / "out", only=("ntk", "structure"))

    dense, masked, trained = result["networks"]
    assert dense["weights"] == masked["weights"] == trained["weights"]
    assert masked["density"] < 0.45
    assert masked["kept"] == masked["structure"]["kept"]
    assert masked["structure"]["live_channels"] < dense["structure"]["live_channels"]
    beside = look(own, tmp_path / "beside", run / "mask.safetensors", only=("ntk",))
    assert ["dense", "run"] == [entry["name"] for entry in beside["networks"]]
    assert masked["kept"] == beside["networks"][1]["kept"]


def test_what_recovery_changed_stands_beside_what_pruning_left(own: str, tmp_path: Path) -> None:
    run = run_of(own, tmp_path / "run", ("prune",), pattern="channel", round_to=1, sparsity=0.6, recover="orthp")

    result = look(run, tmp_path / "out", only=("isometry",))

    shown = [(one["name"], one["state"], one["epoch"]) for one in result["networks"]]
    names = [("dense", "initialization", None), ("masked", "initialization", None), ("recovered", "initialization", 0)]
    assert names == shown
    masked, recovered = (one["isometry"]["layers"][-1]["condition"] for one in result["networks"][1:])
    assert 1 == pytest.approx(recovered, abs=1e-4)
    assert masked > 1.5


def test_weights_bring_their_own_statistics(own: str, tmp_path: Path) -> None:
    run = run_of(own, tmp_path / "run")
    given = {"weights": str(run / "model.safetensors"), "image_size": 8}

    result = look(own, tmp_path / "out", settings=given, only=("ntk",))

    assert [("trained", False)] == [(entry["state"], entry["settled"]) for entry in result["networks"]]
    assert 10 == result["subject"]["num_classes"]
    with pytest.raises(ConfigError, match="--seeds draws initializations, and --weights are not drawn"):
        look(own, tmp_path / "out", settings=given, seeds=2)


@pytest.mark.parametrize("fill", [0.0, 0.25])
def test_statistics_that_a_batch_left_are_kept(fill: float) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    net[1].running_mean.fill_(fill)

    assert (fill == 0) == never_ran(net)
    assert not never_ran(net[:1])


def test_memory_is_refused_before_any_work(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ntksap_export.pipeline.analysing import look as module

    monkeypatch.setattr(module, "look_at", lambda *_: pytest.fail("work was begun"))
    for only in ("ntk", "isometry"):
        with pytest.raises(ConfigError, match=r"needs .*--memory"):
            look(own, tmp_path / "out", settings={"image_size": 8}, only=(only,), memory_bytes=10_000)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_where_it_was_interrupted(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ntksap_export.pipeline.analysing import look as module

    run = run_of(own, tmp_path / "run", ("prune",))
    look(run, run, only=("structure",))
    before = {path.name: path.read_bytes() for path in run.glob("analysis.*")}
    monkeypatch.setattr(module, "mean_of", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        look(run, run, only=("structure",))

    assert before == {path.name: path.read_bytes() for path in run.glob("analysis.*")}
    assert {"analysis.json", "analysis.html", "analysis.md"} == set(before)


def test_a_mask_of_another_network_is_refused(own: str, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_mask(other, Mask({"conv1.weight": torch.ones(2, 3, 3, 3, dtype=torch.bool)}), {})

    with pytest.raises(
        CheckpointError, match=r"other.safetensors' does not fit .*: the mask's 'conv1.weight' has shape"
    ):
        look(own, tmp_path / "out", other)
    with pytest.raises(CheckpointError, match="no such mask"):
        look(own, tmp_path / "out", tmp_path / "absent.safetensors")


def test_a_snapshot_of_another_mask_is_refused(own: str, tmp_path: Path) -> None:
    run, other = (run_of(own, tmp_path / name, snapshot_epochs=(1,), seed=seed) for seed, name in enumerate("ab"))
    name = "snapshots/epoch-001.safetensors"
    (run / name).write_bytes((other / name).read_bytes())

    with pytest.raises(RunDirectoryError, match=r"epoch-001.safetensors' is of another mask than the run's; delete it"):
        look(run, run, only=("structure",))


def test_a_trained_network_of_another_mask_is_left_out(own: str, tmp_path: Path) -> None:
    run, other = (run_of(own, tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    (run / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    progress = Recorder()

    result = analyze(str(run), (), {}, Asked(images=2, only=("structure",)), run, progress)

    assert ["dense", "masked"] == [entry["name"] for entry in result["networks"]]
    assert "model.safetensors is of another mask: left out" in progress.lines


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": 0}, "--images must be at least 2, for kernels compare images; got 0"),
        ({"seeds": 0}, "--seeds must be at least 1; got 0"),
        ({"probes": 1}, "--probes must be at least 2, for an estimate has an error; got 1"),
        ({"only": ()}, "--only must name at least one of ntk, trace, isometry, structure"),
        (
            {"way": "lanzcos"},
            "--way knows no 'lanzcos'; did you mean lanczos? It takes auto, exact, lanczos, randomized",
        ),
        ({"form": "x"}, "--form knows no 'x'; it takes sum, classes, full"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Asked(**changes)

    assert said == str(caught.value)


def test_texts_are_read() -> None:
    assert ("ntk", "structure") == read_parts("structure, ntk")
    assert 2**31 == read_memory("2GiB")
    with pytest.raises(ConfigError, match="--only knows no 'isometri'; did you mean isometry"):
        read_parts("ntk,isometri")
    with pytest.raises(ConfigError, match="--memory must be a size such as 5GB, 500MB or 2GiB; got 'much'"):
        read_memory("much")


def test_targets_that_are_none_say_what_would_be(own: str, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no such directory 'runs/none'; name a run directory or a MODEL"):
        look("runs/none", tmp_path / "out")
    with pytest.raises(ConfigError, match="unknown model 'resnet2O'"):
        look("resnet2O", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file; name its run directory, or write MODEL --weights"):
        look(tmp_path / "file", tmp_path / "out")
    run = run_of(own, tmp_path / "run", ("prune",))
    with pytest.raises(ConfigError, match="a run directory knows its network; leave --image-size away"):
        look(run, tmp_path / "out", settings={"image_size": 16})
    with pytest.raises(DataError, match="has 1442 training images; got --images 5000"):
        look(run, tmp_path / "out", images=5000, only=("structure",))
    with pytest.raises(RunDirectoryError, match="is a file; choose another --out"):
        look(own, tmp_path / "file")


def test_masks_go_by_their_names(tmp_path: Path) -> None:
    def names(*files: str) -> list[str]:
        return mask_names([tmp_path / file for file in files])

    assert ["a", "b"] == names("a.safetensors", "b.safetensors")
    assert ["x", "y"] == names("x/mask.safetensors", "y/mask.safetensors")
    assert ["x/a", "y/a"] == names("x/a.safetensors", "y/a.safetensors")
    assert ["x/dense"] == names("x/dense.safetensors")
    assert ["a.safetensors", "a.pt"] == names("a.safetensors", "a.pt")
    with pytest.raises(ConfigError, match="stands there twice; name it once"):
        names("a.safetensors", "a.safetensors")


def test_means_and_deviations() -> None:
    draws = [
        {"a": 1.0, "b": [1.0, 4.0], "c": None, "d": "x", "e": 7},
        {"a": 4.0, "b": [3.0, 4.0], "c": 2.0, "d": "x", "e": 7},
    ]

    assert {"a": 2.5, "b": [2.0, 4.0], "c": None, "d": "x", "e": 7} == mean_of(draws)
    found = deviation_of(draws)
    assert {"a", "b"} == set(found)
    assert [3 / math.sqrt(2), math.sqrt(2), 0.0] == pytest.approx([found["a"], *found["b"]])


def test_default_places(tmp_path: Path) -> None:
    assert tmp_path == default_out(str(tmp_path))
    assert Path("runs/analysis-torchvision-resnet18") == default_out("torchvision:resnet18")
