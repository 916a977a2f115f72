"""Edge-popup: the forward and backward pass of the paper, weights that stay, the mask that was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export.errors import Preempted
from ntksap_export.masks import Mask, split_pattern
from ntksap_export.masks.patterns import Unstructured
from ntksap_export.pruning import Budget
from ntksap_export.search import run_search
from ntksap_export.search.edge_popup import best, draw_scores, with_scores
from ntksap_export.training import evaluate

from ..support.nets import tiny_net
from .cases import After, equal, images, job


def test_forward_and_backward_are_those_of_the_paper() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)).double()
    scores = {name: value.double() for name, value in draw_scores(model, seed=3).items()}
    counts = {"0.weight": 30, "2.weight": 100}
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    network = with_scores(model, scores, counts, Unstructured())

    network(x).square().sum().backward()

    kept = {}
    for name, count in counts.items():  # the k-th highest |s|, the plain way
        threshold = sorted(scores[name].abs().flatten().tolist(), reverse=True)[count - 1]
        kept[name] = (scores[name].abs() >= threshold).double()
    effective = {name: (model.get_parameter(name) * kept[name]).detach().requires_grad_() for name in counts}
    logits = functional.linear(
        functional.conv2d(x, effective["0.weight"], model[0].bias).flatten(1), effective["2.weight"], model[2].bias
    )
    logits.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logits, network(x))
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert ["0.parametrizations.weight.original", "2.parametrizations.weight.original"] == list(trained)
    for (name, weight), parameter in zip(effective.items(), trained.values(), strict=True):
        assert weight.grad is not None
        # d|s| / ds is the sign; the step of the mask counts as 1
        expected = weight.grad * model.get_parameter(name).detach() * scores[name].sign()
        torch.testing.assert_close(parameter.grad, expected)


def test_scores_are_kaiming_uniform_with_the_slope_of_the_paper() -> None:
    scores = draw_scores(nn.Linear(400, 100), seed=0)["weight"]

    bound = (6 / ((1 + 5) * 400)) ** 0.5  # sqrt(6 / ((1 + a^2) fan-in)), a = sqrt 5
    assert float(scores.abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(scores.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert torch.equal(scores, draw_scores(nn.Linear(400, 100), seed=0)["weight"])


@pytest.mark.parametrize("name", ["2:4", "2x4"])
def test_patterns_hold_in_every_forward_pass(name: str) -> None:
    pattern = split_pattern(name)[1]
    assert pattern is not None
    scores = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))

    kept = best(scores, 40 if name == "2:4" else 5, pattern)

    assert 40 == int(kept.sum())
    if name == "2:4":
        assert int(kept.view(8, 4, 4).sum(2).max()) <= 2
        top = scores.abs().view(8, 4, 4).topk(2).values
        assert float(scores[kept].abs().min()) == float(top.flatten().topk(40).values.min())
    else:
        assert {0, 8} == set(kept.view(4, 2, 4, 4).sum((1, 3)).flatten().tolist())


def test_weights_stay_and_the_mask_is_the_one_that_was_judged(tmp_path: Path) -> None:
    asked = job(tmp_path, budget=Budget(0.5), keep_dense=("fc",))
    before = {name: value.clone() for name, value in asked.model.state_dict().items()}

    found = run_search("edge-popup", asked)

    assert {name for name in before if not torch.equal(before[name], found.weights[name])} == {
        name for name in before if "running" in name or "batches" in name
    }
    assert round(0.5 * found.mask.total) == found.mask.kept
    assert bool(found.mask["fc.weight"].all())
    shares = [float(found.mask[name].float().mean()) for name in ("conv1.weight", "conv2.weight")]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    network = tiny_net(seed=1, classes=10)
    network.load_state_dict(found.weights)
    found.mask.apply_(network)
    row = found.log["rounds"][0]
    assert (row["val_loss"], row["val_accuracy"]) == pytest.approx(evaluate(network, images().val))
    assert (0.5, 2, 0) == (pytest.approx(row["density"], abs=0.01), row["epochs"], found.start_epoch)
    assert equal(before, asked.model.state_dict())


def test_training_moves_the_mask_and_learns(tmp_path: Path) -> None:
    asked = job(tmp_path, budget=Budget(0.5), search_epochs=20)
    asked = replace(asked, train=replace(asked.train, lr=1.0))
    drawn = draw_scores(asked.model, asked.seed)

    found = run_search("edge-popup", asked)

    first = Mask({name: best(drawn[name], int(kept.sum()), Unstructured()) for name, kept in found.mask.items()})
    assert first.kept == found.mask.kept
    assert not first.same_as(found.mask)
    assert found.log["rounds"][0]["train_loss"] < 2.25


def test_a_killed_search_finds_the_same_mask(tmp_path: Path) -> None:
    asked = job(tmp_path / "whole")
    asked = replace(asked, train=replace(asked.train, ema=0.5, weight_decay=0.1, clip_norm=1.0, lr=1.0))
    expected = run_search("edge-popup", asked)
    killed = replace(asked, states=tmp_path / "killed")
    with pytest.raises(Preempted):
        run_search("edge-popup", replace(killed, stop=After(4)))

    found = run_search("edge-popup", killed)

    assert expected.mask.same_as(found.mask)
    assert equal(expected.weights, found.weights)
