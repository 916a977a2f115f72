"""Lottery tickets: counts by the rule, weights of the epoch that was asked, the same ticket after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ntksap_export.errors import ConfigError, Preempted
from ntksap_export.masks import Mask
from ntksap_export.pruning import Budget
from ntksap_export.search import Found, run_search
from ntksap_export.training import TrainConfig, train

from ..support.nets import tiny_net
from .cases import STEPS, After, equal, images, job


def weights_after(epochs: int, config: TrainConfig) -> dict[str, torch.Tensor]:
    """Of the dense network, `epochs` into the schedule of `config`."""
    model, states = tiny_net(seed=1, classes=10), []
    train(
        model,
        Mask.dense(model),
        images(),
        config,
        on_epoch=lambda _: states.append({name: value.clone() for name, value in model.state_dict().items()}),
    )
    return states[epochs - 1]


def densities(found: Found) -> list[int]:
    return [round(row["density"] * found.mask.total) for row in found.log["rounds"]]


def test_every_round_removes_a_fifth_of_what_is_left_and_the_last_what_is_asked(tmp_path: Path) -> None:
    asked = job(tmp_path)

    found = run_search("lottery", asked)

    total = found.mask.total
    end, expected = round(0.4 * total), [total]
    while (left := expected[-1] - expected[-1] // 5) > end:
        expected.append(left)
    assert expected == densities(found)
    assert end == found.mask.kept


def test_each_round_removes_the_smallest_weights_after_training_from_the_early_ones(tmp_path: Path) -> None:
    asked = job(tmp_path, budget=Budget(0.3), rewind_epoch=1)

    found = run_search("lottery", asked)

    early, model, kept = weights_after(1, asked.train), tiny_net(seed=1, classes=10), Mask.dense(asked.model)
    train(model, kept, images(), asked.train)
    total = kept.total
    for left in (total - total // 5, round(0.7 * total)):
        sizes = torch.cat([(model.get_parameter(name).abs() * kept[name]).flatten() for name in kept])
        threshold = sizes.sort(descending=True).values[left - 1]
        kept = Mask({name: (model.get_parameter(name).abs() >= threshold) & kept[name] for name in kept})
        model.load_state_dict(early)
        train(model, kept, images(), asked.train, start_epoch=1)
    assert kept.same_as(found.mask)
    assert equal(early, found.weights)
    assert (1, [2, 1]) == (found.start_epoch, [row["epochs"] for row in found.log["rounds"]])


def test_without_rewinding_it_starts_from_the_initialization(tmp_path: Path) -> None:
    asked = job(tmp_path, budget=Budget(0.3))
    before = {name: value.clone() for name, value in asked.model.state_dict().items()}

    found = run_search("lottery", asked)

    assert equal(before, found.weights)
    assert equal(before, asked.model.state_dict())
    assert 0 == found.start_epoch


# 2: in the first epoch; 4: right after epoch 1, whose weights are gone back to; 12: in the second round.
@pytest.mark.parametrize("steps", [2, STEPS + 1, 12])
def test_a_killed_search_finds_the_same_ticket(tmp_path: Path, steps: int) -> None:
    asked = job(tmp_path / "whole", budget=Budget(0.5), rewind_epoch=1)
    expected = run_search("lottery", asked)
    killed = replace(asked, states=tmp_path / "killed")
    with pytest.raises(Preempted, match="the same command goes on from there"):
        run_search("lottery", replace(killed, stop=After(steps)))

    found = run_search("lottery", killed)

    assert expected.mask.same_as(found.mask)
    assert equal(expected.weights, found.weights)
    assert [row["val_loss"] for row in expected.log["rounds"]] == [row["val_loss"] for row in found.log["rounds"]]


def test_finished_rounds_are_not_trained_again(tmp_path: Path) -> None:
    asked = job(tmp_path, budget=Budget(0.5), rewind_epoch=1)
    expected = run_search("lottery", asked)

    found = run_search("lottery", replace(asked, stop=After(1)))

    assert expected.mask.same_as(found.mask)
    assert expected.log == found.log


def test_patterns_and_scope_hold(tmp_path: Path) -> None:
    found = run_search("lottery", job(tmp_path / "1", budget=None, pattern="2:4", round_share=0.03))
    even = run_search("lottery", job(tmp_path / "2", budget=Budget(0.5), scope="layer", keep_dense=("fc",)))

    kept = found.mask["fc.weight"].view(10, 2, 4).sum(2)
    assert [2] * 20 == kept.flatten().tolist()
    assert len(found.log["rounds"]) > 1
    shares = [float(even.mask[name].float().mean()) for name in ("conv1.weight", "conv2.weight", "fc.weight")]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    assert 1.0 == shares[2]


def test_filters_go_by_their_norm_after_training_the_same_share_of_each_group(tmp_path: Path) -> None:
    asked = job(tmp_path, budget=Budget(channels=0.5), pattern="channel", scope="layer", round_share=0.9)

    found = run_search("lottery", asked)

    trained = tiny_net(seed=1, classes=10)
    train(trained, Mask.dense(trained), images(), asked.train)
    assert found.plan is not None
    for layer, stay in (("conv1", 3), ("conv2", 4)):
        kept = found.plan.layers[layer].out
        assert kept is not None
        norms = trained.get_parameter(f"{layer}.weight").detach().abs().flatten(1).sum(1)
        assert sorted(norms.topk(stay).indices.tolist()) == list(kept.channels)


def test_a_ticket_of_channels_is_slim(tmp_path: Path) -> None:
    asked = job(tmp_path, pattern="channel", rewind_epoch=1)

    found = run_search("lottery", asked)

    assert found.plan is not None
    slim = found.plan.apply(asked.model)
    slim.load_state_dict(found.weights)
    assert found.mask.same_as(Mask.dense(slim))
    assert found.mask.kept <= 0.4 * Mask.dense(asked.model).total
    dense = tiny_net(seed=1, classes=10)
    dense.load_state_dict(weights_after(1, asked.train))
    assert equal(found.plan.apply(dense).state_dict(), found.weights)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rewind_epoch": 2}, "--rewind-epoch 2 is not before the end of 2 epochs; lower it"),
        ({"rewind_epoch": 1, "search_epochs": 1}, "--rewind-epoch 1 is not before the end of 1 epochs"),
        ({"train": TrainConfig(0)}, "--epochs 0 leaves the search nothing to train for; give --search-epochs"),
        ({"round_share": 1.0}, "round-share must be in"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run_search("lottery", replace(job(tmp_path), **changes))  # type: ignore[arg-type]
