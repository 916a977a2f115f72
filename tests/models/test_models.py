"""The table of models: what `build` promises for each of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.masks import Mask
from ntksap_export.models.initialization import initialize_, weight_std

NAMES = tuple(models.MODELS)
WITH_STEMS = tuple(name for name, info in models.MODELS.items() if info.stems)


@pytest.mark.parametrize(
    ("name", "classes", "prunable"),
    [("resnet20", 10, 270_896), ("vgg16_bn", 100, 14_761_664), ("resnet18", 1000, 11_678_912)],
)
def test_prunable_weights_are_as_many_as_in_the_paper(name: str, classes: int, prunable: int) -> None:
    model = models.build(name, num_classes=classes)

    assert prunable == Mask.dense(model).total


@pytest.mark.parametrize(("name", "layers"), [("resnet20", 20), ("resnet32", 32), ("resnet56", 56)])
def test_cifar_resnets_have_the_depth_of_their_name(name: str, layers: int) -> None:
    model = models.build(name, num_classes=10)

    counted = [key for key in Mask.dense(model) if "shortcut" not in key]
    assert layers == len(counted)


@pytest.mark.parametrize("name", NAMES)
def test_runs_on_its_own_image_size(name: str) -> None:
    model = models.build(name, num_classes=7).eval()
    size = models.info(name).image_size

    with torch.no_grad():
        logits = model(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)))

    assert (2, 7) == tuple(logits.shape)
    assert bool(logits.isfinite().all())
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", WITH_STEMS)
def test_cifar_stem_keeps_the_resolution_of_small_images(name: str) -> None:
    model = models.build(name, num_classes=7, stem="cifar").eval()
    shapes: list[tuple[int, ...]] = []
    model.get_submodule("layer1").register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))

    with torch.no_grad():
        logits = model(torch.zeros(1, 3, 32, 32))

    assert (1, 7) == tuple(logits.shape)
    assert [(1, 64, 32, 32)] == shapes


@pytest.mark.parametrize("name", WITH_STEMS)
def test_auto_stem_is_the_one_designed_for(name: str) -> None:
    auto = models.build(name, num_classes=3, stem="auto")
    designed = models.build(name, num_classes=3, stem="imagenet")

    assert (64, 3, 7, 7) == tuple(auto.get_parameter("conv1.weight").shape)
    assert list(designed.state_dict()) == list(auto.state_dict())


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vgg16_bn"])
def test_same_seed_same_weights_other_seed_other_weights(name: str) -> None:
    first, again, other = (models.build(name, num_classes=4, seed=seed).state_dict() for seed in (3, 3, 4))

    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    drawn = [key for key in first if first[key].dim() > 1]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


def test_weights_do_not_depend_on_the_callers_random_state() -> None:
    torch.manual_seed(1)
    first = models.build("resnet20", num_classes=4, seed=3).state_dict()
    torch.manual_seed(2)
    again = models.build("resnet20", num_classes=4, seed=3).state_dict()

    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())


def test_the_callers_random_state_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()

    models.build("resnet20", num_classes=4, seed=3)

    assert torch.equal(before, torch.get_rng_state())
    assert [] == seeded


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_callers_cuda_random_state_is_left_alone() -> None:
    before = torch.cuda.get_rng_state()

    models.build("resnet20", num_classes=4, seed=3)

    assert torch.equal(before, torch.cuda.get_rng_state())


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50", "vgg16_bn"])
def test_weights_are_drawn_kaiming_normal_fan_in(name: str) -> None:
    model = models.build(name, num_classes=100)

    for key in Mask.dense(model):
        weight = model.get_parameter(key).detach()
        expected = math.sqrt(2 / math.prod(weight.shape[1:]))
        tolerance = 5 / math.sqrt(2 * weight.numel())  # five standard errors of a standard deviation
        assert expected == pytest.approx(weight.std().item(), rel=tolerance), key
        assert 0 == pytest.approx(weight.mean().item(), abs=5 * expected / math.sqrt(weight.numel())), key
        assert expected == pytest.approx(weight_std(weight)), key


def test_norms_start_at_one_and_zero_and_biases_are_not_touched() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    conv, norm = model
    bias = conv.bias.detach().clone()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.constant_(tensor, 7.0)

    initialize_(model)

    assert torch.equal(bias, conv.bias)
    assert [1.0] * 4 == norm.weight.tolist() == norm.running_var.tolist()
    assert [0.0] * 4 == norm.bias.tolist() == norm.running_mean.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_starts_in_train_mode_in_float32(name: str) -> None:
    model = models.build(name, num_classes=2)

    assert all(module.training for module in model.modules())
    assert {torch.float32} == {parameter.dtype for parameter in model.parameters()}
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("name", "near"), [("resnet51", "resnet50"), ("vgg16", "vgg16_bn"), ("Resnet18", "resnet18")])
def test_an_unknown_name_suggests_near_ones(name: str, near: str) -> None:
    with pytest.raises(models.UnknownModelError, match=f"unknown model '{name}'; did you mean .*{near}"):
        models.build(name, num_classes=2)


def test_a_name_like_no_other_lists_them_all() -> None:
    with pytest.raises(models.UnknownModelError, match=r"choose from resnet20, .*vgg16_bn"):
        models.info("bert")


@pytest.mark.parametrize("classes", [0, -3])
def test_fewer_than_one_class_is_refused(classes: int) -> None:
    with pytest.raises(ValueError, match=f"num_classes must be at least 1; got {classes}"):
        models.build("resnet20", num_classes=classes)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(ValueError, match="stem must be auto, imagenet or cifar; got 'mnist'"):
        models.build("resnet18", num_classes=2, stem="mnist")


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn"])
def test_an_imagenet_stem_on_a_cifar_model_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no imagenet stem; choose resnet18"):
        models.build(name, num_classes=2, stem="imagenet")
