"""Pruning in steps: when is scored and when trained, and that what went stays away."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from ntksap_export.errors import ConfigError, Preempted
from ntksap_export.masks import Mask
from ntksap_export.pruning import Budget, Scorer, Scores, ScoringInputs, make_scorer
from ntksap_export.search import run_search
from ntksap_export.training import train

from ..support.nets import tiny_net
from .cases import SHAPE, After, equal, images, job


@dataclass
class Spy:
    """Scores by magnitude; notes what it was given."""

    default_rounds: int = 5
    revives: bool = True
    seen: list[tuple[int, Mask, dict[str, torch.Tensor]]] = field(default_factory=list)
    inner: Scorer = field(default_factory=lambda: make_scorer("magnitude"))

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Scores:
        state = {name: value.clone() for name, value in model.state_dict().items()}
        self.seen.append((round_index, mask, state))
        assert 4 == inputs.batch_size
        return self.inner.score(model, mask, inputs, round_index)


def test_rounds_are_spread_over_the_steps_with_training_between_them(tmp_path: Path) -> None:
    spy = Spy()
    asked = job(tmp_path, budget=Budget(0.75), steps=3, scorer=spy, inputs=lambda: ScoringInputs(SHAPE, 4))

    found = run_search("steps", asked)

    assert [0, 1, 2, 3, 4, 5] == [index for index, *_ in spy.seen]  # two rounds a step: 5 rounded up
    total = found.mask.total
    shares = [0.25 ** (index / 6) for index in range(6)]
    assert [round(total * share) for share in shares] == [mask.kept for _, mask, _ in spy.seen]
    assert all(equal(spy.seen[index][2], spy.seen[index + 1][2]) for index in (0, 2, 4))
    model = tiny_net(seed=1, classes=10)
    for index in (2, 4):
        train(model, spy.seen[index][1], images(), replace(asked.train, epochs=1))
        assert equal(model.state_dict(), spy.seen[index][2])
    assert equal(model.state_dict(), found.weights)
    assert [("step-001", 1), ("step-002", 1)] == [(row["name"], row["epochs"]) for row in found.log["rounds"]]
    assert (round(0.25 * total), 0, 2) == (found.mask.kept, found.start_epoch, found.log["epochs"])


def test_what_a_step_removed_stays_removed(tmp_path: Path) -> None:
    spy = Spy(default_rounds=1)
    asked = job(tmp_path, budget=Budget(0.75), steps=4, scorer=spy, inputs=lambda: ScoringInputs(SHAPE, 4))

    found = run_search("steps", asked)

    masks = [mask for _, mask, _ in spy.seen] + [found.mask]
    for before, after in pairwise(masks):
        assert all(bool((before[name] | ~after[name]).all()) for name in after)


def test_channels_go_in_steps(tmp_path: Path) -> None:
    asked = job(tmp_path, pattern="channel", steps=3, step_epochs=2, scorer=make_scorer("magnitude"))

    found = run_search("steps", asked)

    assert found.plan is not None
    slim = found.plan.apply(asked.model)
    slim.load_state_dict(found.weights)
    assert found.mask.same_as(Mask.dense(slim))
    assert [2, 2] == [row["epochs"] for row in found.log["rounds"]]
    densities = [row["density"] for row in found.log["rounds"]]
    assert 1 > densities[0] > densities[1] > found.mask.total / Mask.dense(asked.model).total


def test_a_killed_search_finds_the_same_mask(tmp_path: Path) -> None:
    asked = job(tmp_path / "whole", budget=Budget(0.75), steps=3, scorer=make_scorer("magnitude"))
    expected = run_search("steps", asked)
    killed = replace(asked, states=tmp_path / "killed")
    with pytest.raises(Preempted):
        run_search("steps", replace(killed, stop=After(6)))

    found = run_search("steps", killed)

    assert expected.mask.same_as(found.mask)
    assert equal(expected.weights, found.weights)


def test_it_needs_a_scorer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pruning in steps needs a method that scores"):
        run_search("steps", job(tmp_path, steps=2))
