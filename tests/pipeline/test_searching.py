"""Masks that are found by training: what the prune stage leaves, what it depends on, how it goes on after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export import models
from ntksap_export.checkpoint import load_mask, read_weights, save_weights
from ntksap_export.errors import CheckpointError, ConfigError, RunDirectoryError
from ntksap_export.masks import Mask
from ntksap_export.pipeline import resolve, run_road
from ntksap_export.pipeline.methods import check_method, epochs_to_find, schedule_of
from ntksap_export.pipeline.run_dir import RunDir, fingerprint
from ntksap_export.pipeline.run_files import START, weights_file
from ntksap_export.pruning import Budget, find_limits
from ntksap_export.search import trainings
from tests.conftest import Recorder, small_config

LOTTERY = {
    "method": "lottery", "rounds": None, "epochs": 2, "rewind_epoch": 1, "round_share": 0.6, "sparsity": 0.8,
    "image_size": 8, "batch_size": 512,
}  # fmt: skip


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lottery ticket, found and trained, that was killed after its first round."""
    out, calls, train = tmp_path_factory.mktemp("ticket") / "out", 0, trainings.train

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise MemoryError("killed")
        return train(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "train", dying)
        with pytest.raises(MemoryError):
            run_road(small_config(**LOTTERY), out, stages=("prune", "train"))
        run_road(small_config(**LOTTERY), out, stages=("prune", "train"))
    assert calls == 3, "the first round was trained again"
    return out


def test_a_ticket_goes_on_from_the_weights_it_went_back_to(ticket: Path) -> None:
    told = json.loads((ticket / "mask.json").read_text())
    metrics = json.loads((ticket / "metrics.json").read_text())
    mask, _ = load_mask(ticket / "mask.safetensors")

    assert mask.kept == round(0.2 * mask.total) == told["table"]["kept"]
    assert (1, 3, 2) == (told["search"]["start_epoch"], told["search"]["epochs"], len(told["search"]["rounds"]))
    assert [2] == [row["epoch"] for row in metrics["history"]]
    assert set(models.build("resnet20", 10).state_dict()) == set(read_weights(ticket / START))


def test_a_finished_search_is_skipped_and_leaves_nothing_to_go_on_from(ticket: Path) -> None:
    recorder = Recorder()
    run_road(small_config(**LOTTERY), ticket, stages=("prune", "train"), progress=recorder)

    assert ["prune: finished before, skipped", "train: finished before, skipped"] == recorder.lines
    assert not RunDir(ticket).search_states.exists()
    assert START in json.loads((ticket / ".ntksap" / "state.json").read_text())["prune"]["files"]


def test_another_training_would_find_another_mask(ticket: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"lr is 0\.01 there, 0\.02 here"):
        run_road(small_config(**LOTTERY, lr=0.02), ticket, stages=("prune", "train"))


@pytest.mark.parametrize(
    ("changes", "depends"),
    [({}, False), ({"method": "magnitude"}, False), ({"method": "greg"}, True), ({"steps": 3}, True)],
)
def test_the_prune_stage_depends_on_training_where_it_trains(changes: dict[str, Any], depends: bool) -> None:
    config = small_config(**changes)

    assert depends == (fingerprint("prune", config) != fingerprint("prune", config.with_values(lr=0.5)))


@pytest.mark.parametrize(
    ("changes", "epochs", "shares"),
    [
        ({"method": "ntksap", "rounds": 2}, 0, [0.4472, 0.2]),
        ({"method": "lottery", "round_share": 0.5}, 5 * 3 - 2 * 1, [0.5, 0.25, 0.2]),
        ({"method": "edge-popup"}, 5, [0.2]),
        ({"method": "magnitude", "steps": 2, "step_epochs": 4}, 4, [0.4472, 0.2]),
    ],
)
def test_what_a_search_will_train_is_known_before(changes: dict[str, Any], epochs: int, shares: list[float]) -> None:
    config = small_config(rounds=changes.pop("rounds", 1), search_epochs=5, rewind_epoch=1, sparsity=0.8, **changes)
    limits = find_limits(models.build("resnet20", 10), (3, 8, 8), Budget(0.8))

    assert epochs == epochs_to_find(config, limits)
    weights = [left for left, *_ in schedule_of(config, limits)]
    assert pytest.approx(shares, abs=1e-3) == [left / limits.total_weights for left in weights if left is not None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "lotery"}, "unknown method 'lotery'; did you mean lottery"),
        ({"method": "tpp"}, "removes whole channels; got --pattern unstructured. Use --pattern channel"),
        ({"method": "edge-popup", "pattern": "channel"}, "chooses single weights; got --pattern channel"),
        ({"method": "l1"}, "use --pattern channel"),
        ({"method": "greg", "steps": 2}, "leave --steps away"),
        ({"method": "greg", "rescale_init": True}, "--rescale-init rescales drawn weights; --method greg"),
        ({"method": "greg", "epochs": 0}, "--epochs 0 leaves --method greg nothing to train with"),
        ({"method": "lottery", "epochs": 2, "rewind_epoch": 2}, "not before the end of --epochs 2: the ticket would"),
        (
            {"method": "lottery", "epochs": 1, "search_epochs": 5, "rewind_epoch": 3},
            "--rewind-epoch 3 is not before the end of --epochs 1",
        ),
        ({"method": "lottery", "epochs": 4, "search_epochs": 2, "rewind_epoch": 3}, "of --search-epochs 2"),
        ({"method": "magnitude", "steps": 2, "pattern": "channel+2:4"}, "--steps takes one pattern"),
    ],
)
def test_what_a_search_cannot_do_is_refused_early(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_method(small_config(**changes))

    assert said in str(refused.value)


def test_the_length_of_a_search_is_that_of_the_training() -> None:
    config, _ = resolve(small_config(method="lottery", epochs=7, rounds=None))

    assert (7, 1) == (config.search_epochs, config.rounds)


def test_weights_come_back_from_their_file(tmp_path: Path) -> None:
    state = models.build("resnet20", 10, seed=3).state_dict()
    save_weights(tmp_path / "a.safetensors", state)
    back = read_weights(tmp_path / "a.safetensors")

    assert sorted(state) == sorted(back)
    assert all(torch.equal(value, back[name]) for name, value in state.items())


def test_the_weights_of_a_run_are_those_it_trained(finished_run: Path) -> None:
    assert finished_run / "model.safetensors" == weights_file(finished_run)
    assert finished_run / "mask.json" == weights_file(finished_run / "mask.json")


def test_a_directory_without_whole_weights_is_refused(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a directory without a trained run"):
        weights_file(tmp_path)
    told = json.loads((finished_run / "mask.json").read_text())
    (finished_run / "mask.json").write_text(json.dumps({**told, "channels": {"kept": 3, "channels": 4}}))
    with pytest.raises(CheckpointError, match="removed whole channels, which the model still has"):
        weights_file(finished_run)


def test_a_shuffled_ticket_keeps_as_much_of_each_layer(ticket: Path, tmp_path: Path) -> None:
    config = small_config(**{**LOTTERY, "epochs": 1, "rewind_epoch": 0, "round_share": 0.9}, control="shuffle")
    run_road(config, tmp_path / "out", stages=("prune",))
    mask, _ = load_mask(tmp_path / "out" / "mask.safetensors")
    early = read_weights(tmp_path / "out" / START)

    assert isinstance(mask, Mask)
    assert round(0.2 * mask.total) == mask.kept
    assert all(bool(early[name][kept].all()) for name, kept in mask.items()), "weights under a shuffled mask are there"
