"""The growing penalty: its factor, its gradient, what it is put on, and what is left afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from ntksap_export.errors import Preempted
from ntksap_export.masks import Mask, split_pattern
from ntksap_export.progress import Silent
from ntksap_export.pruning import make_scorer, prune, prune_channels
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.search import run_search
from ntksap_export.search.growing import Growth, growth_of, l2_of, pruned_weights, removed_rows
from ntksap_export.training import TrainConfig, evaluate

from ..pruning.channel_nets import Residual
from ..support.nets import random_mask, tiny_net
from .cases import SHAPE, SIXTY, After, equal, images, job, without_first


def test_the_factor_is_that_of_the_paper() -> None:
    """TPP on CIFAR-10: reg = 1e-4 * (iterations / 10), to 1."""
    growth = Growth(delta=1e-4, every=10, limit=1.0, steps=200_000)

    factors = [growth.at(step) for step in (0, 9, 10, 19, 20, 50_005, 99_999, 100_000, 150_000)]

    assert [0, 0, 1e-4, 1e-4, 2e-4, 0.5, 0.9999, 1, 1] == pytest.approx(factors, abs=1e-12)
    assert 100_000 == growth.reached


@pytest.mark.parametrize(
    ("steps", "changes", "delta", "every"),
    [
        (60_000, {}, 1e-4, 3),  # 10,000 growths in 30,000 steps
        (100, {}, 0.02, 1),  # more growths than steps: larger ones
        (100, {"reg_delta": 0.1, "reg_limit": 2.0}, 0.1, 2),
        (100, {"reg_every": 7}, 1e-4, 7),
        (1, {}, 1.0, 1),
    ],
)
def test_unless_asked_otherwise_it_grows_for_half_of_the_steps(
    tmp_path: Path, steps: int, changes: dict[str, float], delta: float, every: int
) -> None:
    growth = growth_of(replace(job(tmp_path), **changes), steps)  # type: ignore[arg-type]

    assert (pytest.approx(delta), every) == (growth.delta, growth.every)
    if "reg_every" not in changes:
        assert max(1, steps // 2 - growth.every * 5) <= growth.reached <= max(1, steps // 2)
        assert growth.limit == pytest.approx(growth.at(growth.reached))


def test_the_gradient_is_that_of_half_the_squares_of_what_goes() -> None:
    model = tiny_net().double()
    mask, growth = random_mask(model), Growth(0.01, 2, 1.0, 100)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    plain = {name: model.get_parameter(name) for name in mask}
    loss = sum(0.5 * 0.03 * (weight[~mask[name]] ** 2).sum() for name, weight in plain.items())
    expected = dict(zip(plain, torch.autograd.grad(loss, list(plain.values())), strict=True))  # type: ignore[arg-type]

    l2_of(pruned_weights(model, mask), growth)(7)

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(torch.ones_like(parameter) + expected.get(name, 0.0), parameter.grad)


def test_rows_of_all_layers_that_a_sum_ties_together_go_with_what_stands_beside_them() -> None:
    model = Residual()
    plan = without_first(model)

    weights = {part.name: part for part in removed_rows(model, plan)}
    everything = {part.name: part for part in removed_rows(model, plan, beside=True)}

    tied = plan.layers["stem"].out
    assert tied == plan.layers["a2"].out == plan.layers["stem_bn"].out
    assert tied is not None
    expected = [float(channel not in tied.channels) for channel in range(8)]
    for name in ("stem.weight", "stem.bias", "a2.weight", "a2.bias", "stem_bn.weight", "stem_bn.bias"):
        assert expected == everything[name].gone.flatten().tolist()
    assert {"stem.weight", "a2.weight"} <= set(weights)
    assert all(name.endswith(".weight") and "bn" not in name for name in weights)
    assert "fc.weight" not in everything  # its columns vanish; its rows are the answer


def test_what_no_loss_depends_on_is_left_alone() -> None:
    model = nn.Linear(2, 2)

    l2_of(pruned_weights(model, Mask({"weight": torch.zeros(2, 2, dtype=torch.bool)})), Growth(1, 1, 1, 2))(1)

    assert model.weight.grad is None


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_greg_removes_what_was_smallest_before_and_pushes_it_to_zero(tmp_path: Path, pattern: str) -> None:
    budget = None if pattern == "2:4" else SIXTY
    asked = job(tmp_path, budget=budget, pattern=pattern, search_epochs=6, reg_limit=50.0)

    found = run_search("greg", asked)

    parsed = split_pattern(pattern)[1]
    expected = prune(asked.model, make_scorer("magnitude"), ScoringInputs(SHAPE), budget, pattern=parsed)
    assert expected.same_as(found.mask)
    for name, kept in expected.items():
        if not bool(kept.all()):
            gone, before = found.weights[name][~kept], asked.model.get_parameter(name).detach()[~kept]
            assert float(gone.norm()) < 0.6 * float(before.norm())
    row = found.log["rounds"][0]
    assert (6, 1.0, pytest.approx(50.0)) == (row["epochs"], row["density"], found.log["reg_end"])
    network = tiny_net(seed=1, classes=10)
    network.load_state_dict(found.weights)
    found.mask.apply_(network)
    assert evaluate(network, images().val)[1] == found.log["removed_accuracy"]


def test_a_search_too_short_to_push_anything_out_is_warned_of(tmp_path: Path) -> None:
    class Heard(Silent):
        lines: ClassVar[list[str]] = []

        def say(self, message: str) -> None:
            self.lines.append(message)

    growth, weight = Growth(0.01, 2, 1.0, 300), 1.0
    speed = 0.0
    for step in range(300):  # heavy-ball SGD on reg / 2 * w^2
        speed = 0.9 * speed + growth.at(step) * weight
        weight -= 0.001 * speed

    run_search("greg", job(tmp_path, progress=Heard()))

    config = TrainConfig(1, lr=0.001, momentum=0.9)
    assert weight == pytest.approx(growth.shrinks_to(config), rel=0.1)
    warnings = [line for line in Heard.lines if line.startswith("warning")]
    assert ["in 6 steps the penalty leaves 96.1% of what is to go; raise --search-epochs or --reg-limit"] == [
        line.removeprefix("warning: ") for line in warnings
    ]


@pytest.mark.parametrize("method", ["greg", "tpp"])
def test_channels_that_l1_chose_are_gone(tmp_path: Path, method: str) -> None:
    model = Residual().eval()
    model.fc = nn.Linear(10, 10)
    asked = job(tmp_path, model, pattern="channel", search_epochs=1)
    expected = prune_channels(asked.model, make_scorer("l1"), ScoringInputs(SHAPE), SIXTY, round_to=1)

    found = run_search(method, asked)

    assert expected == found.plan
    slim = expected.apply(asked.model)
    slim.load_state_dict(found.weights)
    assert found.mask.same_as(Mask.dense(slim))
    assert 0 == found.start_epoch
    assert evaluate(slim, images().val)[1] == found.log["removed_accuracy"]


def test_a_killed_search_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    asked = job(tmp_path / "whole", pattern="channel")
    expected = run_search("tpp", asked)
    killed = replace(asked, states=tmp_path / "killed")
    with pytest.raises(Preempted):
        run_search("tpp", replace(killed, stop=After(5)))

    found = run_search("tpp", killed)

    assert expected.plan == found.plan
    assert equal(expected.weights, found.weights)
