"""Each criterion for trained networks beside its formula, written slowly in double precision.

`TinyNet`, 618 weights, with running statistics and scales of its own: trained networks are scored by those.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning import SCORERS, Budget, ScoringInputs, make_scorer, prune, prune_channels
from ntksap_export.pruning.scorers.bn_scale import BnScale, scales_behind
from ntksap_export.pruning.scorers.obd import Obd

from ..support.nets import TinyNet, random_mask, tiny_net
from .channel_nets import NETS, SHAPE, build

Tensors = dict[str, torch.Tensor]
GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.randn(6, 3, 9, 9, generator=GENERATOR)
LABELS = torch.arange(6) % 3
INPUTS = ScoringInputs((3, 9, 9), batch_size=3, batches=2, seed=2, data=(IMAGES, LABELS))


def trained() -> TinyNet:
    """A net as training might leave it: nothing about its norms is as it was drawn."""
    net = tiny_net(seed=5)
    generator = torch.Generator().manual_seed(6)
    for norm in (net.bn1, net.bn2):
        assert norm.running_mean is not None and norm.running_var is not None
        nn.init.uniform_(norm.weight, -1.5, 1.5, generator=generator)
        nn.init.normal_(norm.bias, generator=generator)
        nn.init.normal_(norm.running_mean, generator=generator)
        nn.init.uniform_(norm.running_var, 0.5, 1.5, generator=generator)
    return net


@pytest.fixture(params=[1.0, 0.6], ids=["dense", "masked"])
def case(request: pytest.FixtureRequest) -> tuple[TinyNet, Mask]:
    net = trained()
    return net, Mask.dense(net) if request.param == 1.0 else random_mask(net, request.param)


def kept_weights(net: nn.Module, mask: Mask) -> Tensors:
    return {name: (net.get_parameter(name).detach() * kept).double() for name, kept in mask.items()}


def loss_of(net: TinyNet, mask: Mask, images: slice) -> Callable[[torch.Tensor], torch.Tensor]:
    """The mean cross-entropy of some images as a function of all kept weights in one vector, norms by hand."""
    like = kept_weights(net, mask)
    state = {name: value.double() for name, value in net.state_dict().items()}

    def norm(x: torch.Tensor, layer: str) -> torch.Tensor:
        mean, variance, gamma, beta = (
            state[f"{layer}.{key}"][None, :, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * gamma + beta

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split([weight.numel() for weight in like.values()])
        w1, w2, w3 = (part.view(weight.shape) for part, weight in zip(parts, like.values(), strict=True))
        x = torch.conv2d(IMAGES[images].double(), w1, state["conv1.bias"], padding=1)
        x = torch.conv2d(norm(x, "bn1").clamp(min=0), w2, state["conv2.bias"], stride=2)
        logits = norm(x, "bn2").clamp(min=0).mean(dim=(2, 3)) @ w3.T + state["fc.bias"]
        return (logits.logsumexp(1) - logits.gather(1, LABELS[images][:, None]).squeeze(1)).mean()

    return loss


def joined(tensors: Tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()]).double()


def scored(name: str, net: nn.Module, mask: Mask) -> Tensors:
    return dict(make_scorer(name).score(net, mask, INPUTS, 0))


def gradient(net: TinyNet, mask: Mask, images: slice) -> torch.Tensor:
    here = joined(kept_weights(net, mask)).requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(net, mask, images)(here), here)
    return slope


def test_taylor_is_the_squared_first_order_change_of_the_loss(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    expected = (joined(kept_weights(net, mask)) * gradient(net, mask, slice(0, 6))).square()

    actual = joined(scored("taylor", net, mask))

    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_fisher_takes_the_mean_of_the_squares_and_not_the_square_of_the_mean(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    squares = [gradient(net, mask, slice(index, index + 1)).square() for index in range(6)]
    expected = joined(kept_weights(net, mask)).square() * torch.stack(squares).mean(0) / 2

    actual = joined(scored("fisher", net, mask))

    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_obd_estimates_half_the_curvature_times_the_squared_weight() -> None:
    """With the draws that it takes, exactly; with many, near the diagonal of a whole Hessian."""
    net = trained()
    mask = random_mask(net, 0.6)
    weights, like = joined(kept_weights(net, mask)), kept_weights(net, mask)
    hessians = [
        torch.autograd.functional.hessian(loss_of(net, mask, part), weights, vectorize=True)
        for part in (slice(0, 3), slice(3, 6))
    ]
    draws = []
    for batch, hessian in enumerate(hessians):
        for probe in range(4):
            generator = INPUTS.generator(torch.device("cpu"), 1, batch, probe)
            signs = [torch.randint(0, 2, one.shape, generator=generator, dtype=torch.float32) for one in like.values()]
            v = torch.cat([2 * one.flatten() - 1 for one in signs]).double()
            draws.append(v * (hessian @ v))
    expected = weights.square() * torch.stack(draws).mean(0) / 2

    actual = joined(dict(Obd(probes=4).score(net, mask, INPUTS, 1)))

    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    diagonal = weights.square() * torch.stack([hessian.diagonal() for hessian in hessians]).mean(0) / 2
    many = joined(dict(Obd(probes=60).score(net, mask, INPUTS, 1)))
    assert float(torch.corrcoef(torch.stack([many, diagonal]))[0, 1]) > 0.9
    assert float((many - diagonal).norm()) < 0.5 * float((actual - diagonal).norm())


def test_obd_needs_a_draw() -> None:
    with pytest.raises(ConfigError, match="probes must be at least 1; got 0"):
        make_scorer("obd", probes=0)


def test_lamp_is_the_squared_weight_over_all_that_are_no_smaller(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    with torch.no_grad():
        net.conv2.weight[:2] = net.conv2.weight[:2].round(decimals=1)  # many are equal, some zero
    scores = scored("lamp", net, mask)

    for name, weight in kept_weights(net, mask).items():
        flat = weight.flatten()
        expected = [float(w**2 / flat[flat.abs() >= w.abs()].square().sum()) if w else 0.0 for w in flat]

        torch.testing.assert_close(scores[name].flatten(), torch.tensor(expected, dtype=torch.float64))
        assert float(scores[name].max()) == pytest.approx(1.0) or int((flat.abs() == flat.abs().max()).sum()) > 1


def test_lamp_of_a_layer_of_zeros_is_zero() -> None:
    net = trained()
    nn.init.zeros_(net.fc.weight)

    assert not scored("lamp", net, Mask.dense(net))["fc.weight"].any()


def test_l1_is_the_mean_size_of_a_filters_weights(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    scores = scored("l1", net, mask)

    for name, weight in kept_weights(net, mask).items():
        for row, kept, score in zip(weight, mask[name], scores[name], strict=True):
            expected = float(row.abs().sum() / kept.sum()) if kept.any() else 0.0
            assert expected == pytest.approx(float(score.sum()), rel=1e-6)
        assert not scores[name][~mask[name]].any()


def test_fpgm_is_the_sum_of_the_distances_to_the_other_filters(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    tensors = dict(mask)
    tensors["conv2.weight"] = mask["conv2.weight"].clone()
    tensors["conv2.weight"][3] = False  # a filter that went is no neighbour
    mask = Mask(tensors)
    scores = scored("fpgm", net, mask)

    for name, weight in kept_weights(net, mask).items():
        alive = [index for index in range(len(weight)) if mask[name][index].any()]
        for index in alive:
            expected = sum(float((weight[index] - weight[other]).square().sum().sqrt()) for other in alive)
            assert expected == pytest.approx(float(scores[name][index].sum()), rel=1e-6)
    assert not scores["conv2.weight"][3].any()


def test_bn_scale_is_the_size_of_gamma_behind_the_layer(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    scores = scored("bn-scale", net, mask)

    for layer, norm in (("conv1", net.bn1), ("conv2", net.bn2)):
        rows = scores[f"{layer}.weight"].flatten(1).sum(1)
        expected = norm.weight.detach().double().abs() * mask[f"{layer}.weight"].flatten(1).any(1)
        torch.testing.assert_close(rows, expected)
    assert not scores["fc.weight"].any()


def test_the_norm_behind_a_layer_is_found_by_running_the_model() -> None:
    residual, grouped = (build(NETS[name]) for name in ("residual", "grouped"))

    found = scales_behind(residual, SHAPE)

    assert ["stem.weight", "a1.weight", "short.weight"] == list(found)
    assert torch.equal(residual.get_parameter("short_bn.weight"), found["short.weight"])
    assert ["stem.weight"] == list(scales_behind(grouped, SHAPE))


def test_bn_scale_advises_no_dense_layers_where_no_layer_has_a_norm() -> None:
    net, inputs = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), ScoringInputs((1, 1, 4), batch_size=2)

    with pytest.raises(ConfigError, match=r"right behind '0'; use --method l1$"):
        BnScale().check(net, inputs.shape, ["0.weight"])


def test_bn_scale_refuses_filters_without_a_norm_and_takes_them_as_dense() -> None:
    net, inputs, scorer = build(NETS["residual"]).float(), ScoringInputs(SHAPE, batch_size=2), make_scorer("bn-scale")

    with pytest.raises(ConfigError, match=r"right behind 'a2' \(and 2 more\); add --keep-dense a2 --keep-dense b1 --"):
        prune_channels(net, scorer, inputs, Budget(0.1), round_to=1)
    plan = prune_channels(net, scorer, inputs, Budget(0.1), round_to=1, keep_dense=["a2", "b1", "b2"])

    (group,) = [group for group in plan.groups if group.kept < group.channels]
    assert "a1" == group.layer
    gone = net.get_parameter("a_bn.weight").abs().argsort()[: group.channels - group.kept].tolist()
    assert {*range(4)} - {*gone} == {*plan.layers["a1"].out.channels}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name, entry in SCORERS.items() if entry.filters])
def test_what_judges_filters_chooses_no_single_weights(name: str) -> None:
    with pytest.raises(ConfigError, match="judges whole filters, not single weights; use prune_channels"):
        prune(trained(), make_scorer(name), INPUTS, Budget(0.5))


def test_trained_networks_are_scored_in_eval_mode_by_their_running_statistics() -> None:
    """The same network with the norms' statistics scaled scores otherwise, whatever mode it is in."""
    net = trained()
    mask = Mask.dense(net)
    for name in ("taylor", "fisher", "obd"):
        before = joined(scored(name, net.train(), mask))
        assert torch.equal(before, joined(scored(name, net.eval(), mask)))
        assert net.bn2.running_var is not None
        net.bn2.running_var.mul_(4)
        assert not torch.equal(before, joined(scored(name, net, mask)))
