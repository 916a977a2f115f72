"""prune(): exact, nested, repeatable, and the model is left as it was found."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.errors import ConfigError, ScoreError
from ntksap_export.masks import Mask
from ntksap_export.pruning import SCORERS, Budget, NtkSap, Scorer, ScoringInputs, find_limits, make_scorer, prune
from ntksap_export.pruning.scorers.lamp import Lamp
from ntksap_export.pruning.scorers.magnitude import Magnitude
from ntksap_export.pruning.scorers.random import RandomDensities

from ..support.nets import tiny_net
from ..support.untouched import everything_of


def scoring_inputs(shape: tuple[int, int, int], classes: int, batch_size: int = 4, seed: int = 1) -> ScoringInputs:
    """Inputs with data for the methods that read them; all of it follows from the seed."""
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(batch_size, *shape, generator=generator), torch.arange(batch_size) % classes
    return ScoringInputs(shape, batch_size=batch_size, seed=seed, data=data)


INPUTS = scoring_inputs((3, 9, 9), 3)
TOTAL = 618


@pytest.fixture(params=[name for name, entry in SCORERS.items() if not entry.filters])
def scorer(request: pytest.FixtureRequest) -> Scorer:
    """Every method of the table that can choose single weights."""
    return make_scorer(request.param)


def runs_the_model(scorer: Scorer) -> bool:
    return not isinstance(scorer, Magnitude | RandomDensities | Lamp)


@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9, 0.999])
def test_the_final_count_is_exact(scorer: Scorer, sparsity: float) -> None:
    mask = prune(tiny_net(), scorer, INPUTS, Budget(sparsity), rounds=3)

    assert max(1, round(TOTAL * (1 - sparsity))) == mask.kept
    assert TOTAL == mask.total
    assert ["conv1.weight", "conv2.weight", "fc.weight"] == list(mask)


def test_every_round_keeps_a_part_of_the_one_before(scorer: Scorer) -> None:
    rounds: list[tuple[int, Mask]] = []

    final = prune(tiny_net(), scorer, INPUTS, Budget(0.9), rounds=4, on_round=lambda *told: rounds.append(told))

    assert [1, 2, 3, 4] == [index for index, _ in rounds]
    assert [round(TOTAL * 0.1 ** (step / 4)) for step in (1, 2, 3, 4)] == [mask.kept for _, mask in rounds]
    for (_, earlier), (_, later) in pairwise(rounds) if not scorer.revives else ():
        assert not any(bool((later[name] & ~earlier[name]).any()) for name in final)
    assert final.same_as(rounds[-1][1])


def test_rounds_default_to_the_methods_own(scorer: Scorer) -> None:
    rounds: list[int] = []

    prune(tiny_net(), scorer, INPUTS, Budget(0.5), on_round=lambda index, _: rounds.append(index))

    assert scorer.default_rounds == len(rounds)


def test_each_round_scores_what_the_last_one_left() -> None:
    @dataclass
    class Spy:
        default_rounds: int = 3
        revives: bool = False

        def score(
            self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int
        ) -> dict[str, torch.Tensor]:
            seen.append((round_index, mask.kept))
            return {name: torch.ones(kept.shape) for name, kept in mask.items()}

    seen: list[tuple[int, int]] = []
    prune(tiny_net(), Spy(), INPUTS, Budget(0.875))

    assert [(0, 618), (1, 309), (2, round(618 * 0.25))] == seen


def test_nothing_of_the_model_and_no_random_state_is_touched(scorer: Scorer) -> None:
    model = tiny_net(dropout=0.5)
    model.train()
    model.bn2.eval()
    model.conv2.weight.requires_grad_(False)
    model.bn1.running_mean.fill_(3.0)  # type: ignore[union-attr]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = everything_of(model)

    prune(model, scorer, INPUTS, Budget(0.8), rounds=2)

    assert before == everything_of(model)


def test_the_model_is_given_back_even_when_scoring_fails(scorer: Scorer) -> None:
    model = tiny_net().train()
    wrong = scoring_inputs((5, 9, 9), 3)

    with pytest.raises(RuntimeError) if runs_the_model(scorer) else nullcontext():
        prune(model, scorer, wrong, Budget(0.5), rounds=1)
    assert all(module.training and not module._forward_pre_hooks for module in model.modules())


def test_same_seed_same_mask_other_seed_other_mask(scorer: Scorer) -> None:
    def pruned(seed: int) -> Mask:
        torch.manual_seed(random.randrange(2**31))
        return prune(tiny_net(seed), scorer, scoring_inputs((3, 9, 9), 3, seed=seed), Budget(0.8), rounds=2)

    first, again, other = pruned(3), pruned(3), pruned(4)

    assert first.same_as(again)
    assert not first.same_as(other)


def test_train_and_eval_mode_give_the_same_mask(scorer: Scorer) -> None:
    in_train = prune(tiny_net(dropout=0.5).train(), scorer, INPUTS, Budget(0.8), rounds=2)
    in_eval = prune(tiny_net(dropout=0.5).eval(), scorer, INPUTS, Budget(0.8), rounds=2)

    assert in_train.same_as(in_eval)


def test_ntksap_does_not_read_the_weights_that_the_model_has() -> None:
    masks = [prune(tiny_net(), NtkSap(), INPUTS, Budget(0.8), rounds=2)]
    changed = tiny_net()
    with torch.no_grad():
        for layer in (changed.conv1, changed.conv2, changed.fc):
            layer.weight.normal_(generator=torch.Generator().manual_seed(0))
        changed.bn1.weight.fill_(5.0)
    masks.append(prune(changed, NtkSap(), INPUTS, Budget(0.8), rounds=2))

    assert masks[0].same_as(masks[1])


@pytest.mark.parametrize(
    "options", [{"dropout": 0.5}, {"affine": False}, {"track": False}, {"affine": False, "track": False}], ids=str
)
def test_unusual_models_can_be_scored(scorer: Scorer, options: dict[str, float]) -> None:
    mask = prune(tiny_net(**options), scorer, INPUTS, Budget(0.75), rounds=2)

    assert round(TOTAL * 0.25) == mask.kept
    if isinstance(scorer, NtkSap):
        assert all(bool(kept.any()) and not bool(kept.all()) for kept in mask.values())


def test_dropout_and_affine_do_not_change_a_score(scorer: Scorer) -> None:
    plain = scorer.score(tiny_net(), Mask.dense(tiny_net()), INPUTS, 0)

    for options in ({"dropout": 0.5}, {"affine": False}):
        net = tiny_net(**options)
        other = scorer.score(net, Mask.dense(net), INPUTS, 0)
        assert all(torch.equal(plain[name], other[name]) for name in plain), options


def test_frozen_parameters_are_scored_like_others(scorer: Scorer) -> None:
    frozen = tiny_net().requires_grad_(False)

    expected = prune(tiny_net(), scorer, INPUTS, Budget(0.8), rounds=2)
    assert expected.same_as(prune(frozen, scorer, INPUTS, Budget(0.8), rounds=2))


def test_a_caller_without_gradients_gets_the_same_mask(scorer: Scorer) -> None:
    expected = prune(tiny_net(), scorer, INPUTS, Budget(0.8), rounds=2)

    with torch.no_grad():
        mask = prune(tiny_net(), scorer, INPUTS, Budget(0.8), rounds=2)

    assert expected.same_as(mask)


def test_the_order_of_memory_does_not_change_the_mask(scorer: Scorer) -> None:
    channels_last = tiny_net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    expected = prune(tiny_net(), scorer, INPUTS, Budget(0.8), rounds=2)
    assert expected.same_as(prune(channels_last, scorer, INPUTS, Budget(0.8), rounds=2))


def test_a_weight_that_two_layers_share_is_pruned_once(scorer: Scorer) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.Linear(12, 2))
    model[3].weight = model[1].weight

    mask = prune(model, scorer, scoring_inputs((3, 2, 2), 2), Budget(0.5), rounds=2)

    assert ["1.weight", "4.weight"] == list(mask)
    assert (144 + 24) // 2 == mask.kept


@pytest.mark.parametrize("asked", ["fc", "fc.weight"])
def test_a_layer_kept_dense_stays_whole_and_counts(scorer: Scorer, asked: str) -> None:
    mask = prune(tiny_net(), scorer, INPUTS, Budget(0.9), rounds=3, keep_dense=[asked])

    assert bool(mask["fc.weight"].all())
    assert round(TOTAL * 0.1) == mask.kept


def test_all_layers_may_stay_dense_if_nothing_is_to_go(scorer: Scorer) -> None:
    mask = prune(tiny_net(), scorer, INPUTS, Budget(0.0), rounds=1, keep_dense=["conv1", "conv2", "fc"])

    assert TOTAL == mask.kept


def test_more_kept_dense_than_the_budget_allows(scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="--keep-dense keeps 432 weights, the budget allows 62; lower --sparsity"):
        prune(tiny_net(), scorer, INPUTS, Budget(0.9), rounds=1, keep_dense=["conv2"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("conv3", r"--keep-dense: no prunable layer 'conv3'; did you mean conv[12] or conv[12]\?"),
        ("bn1", r"no prunable layer 'bn1'; did you mean conv1\?"),
        ("head", r"no prunable layer 'head'; see the layer table of --dry-run"),
        ("fc.bias", r"no prunable layer 'fc.bias'"),
    ],
)
def test_an_unknown_layer_suggests_near_ones(asked: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prune(tiny_net(), NtkSap(), INPUTS, Budget(0.5), rounds=1, keep_dense=["fc", asked])


def test_names_are_resolved_to_parameters() -> None:
    limits = find_limits(tiny_net(), (3, 9, 9), Budget(0.1), keep_dense=["conv1", "fc.weight", "fc"])

    assert frozenset({"conv1.weight", "fc.weight"}) == limits.rules.whole


def test_dense_layers_above_the_budget_are_refused_before_any_round() -> None:
    rounds: list[int] = []

    with pytest.raises(ConfigError, match=r"--keep-dense keeps .* the budget allows"):
        prune(
            tiny_net(),
            NtkSap(),
            INPUTS,
            Budget(0.99),
            rounds=3,
            keep_dense=["conv2"],
            on_round=lambda number, _: rounds.append(number),
        )

    assert rounds == []


class NormTwice(nn.Module):
    """One BatchNorm that is called in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.bn, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.conv2(self.bn(self.conv1(x)).relu()))
        logits: torch.Tensor = self.fc(x.relu().mean((2, 3)))
        return logits


def test_a_norm_used_twice_is_scored_and_left_as_it_was() -> None:
    model = NormTwice()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    mask = prune(model, NtkSap(), ScoringInputs((3, 8, 8), batch_size=8), Budget(0.5), rounds=2)

    assert round(mask.total * 0.5) == mask.kept
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_nothing_to_prune() -> None:
    with pytest.raises(ConfigError, match="no Conv2d or Linear weight to prune"):
        prune(nn.Sequential(nn.BatchNorm2d(3)), NtkSap(), INPUTS, Budget(0.5))


def test_scores_that_are_not_numbers_name_their_layer() -> None:
    model = tiny_net()
    with torch.no_grad():
        model.fc.bias.fill_(float("nan"))

    with pytest.raises(ScoreError, match=r"the score of 'conv1.weight' has NaN or infinite values"):
        prune(model, NtkSap(), INPUTS, Budget(0.5), rounds=1)


def test_rounds_below_one() -> None:
    with pytest.raises(ConfigError, match="rounds must be at least 1; got 0"):
        prune(tiny_net(), NtkSap(), INPUTS, Budget(0.5), rounds=0)


@pytest.mark.parametrize(
    "name", ["resnet20", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "resnet50", "vgg16_bn"))]
)
def test_real_networks_meet_the_count(scorer: Scorer, name: str) -> None:
    mask = pruned_network(name, scorer)

    assert round(mask.total * (1 - 0.8)) == mask.kept


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_ntksap_empties_no_layer(name: str) -> None:  # SynFlow is known to empty 1x1 shortcuts
    mask = pruned_network(name, NtkSap())

    assert all(bool(kept.any()) for kept in mask.values())
    assert round(mask.total * (1 - 0.8)) == mask.kept


def pruned_network(name: str, scorer: Scorer) -> Mask:
    """The mask of a network of ours at 80 % sparsity."""
    model = models.build(name, num_classes=10, stem="cifar" if models.info(name).stems else "auto")
    size = 32 if name == "vgg16_bn" else 16
    return prune(model, scorer, scoring_inputs((3, size, size), 10), Budget(0.8), rounds=1)
