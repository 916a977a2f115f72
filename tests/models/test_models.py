"""The table of models: what `build` promises for each of them."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.masks import Mask
from ntksap_export.models.initialization import initialize_, weight_std

# One of each family; what all share with it is tested on the meta device, where nothing is drawn.
FAMILIES = ("resnet20", "wrn16_8", "resnet18", "mobilenet_v2", "mobilenet_v3_large", "vgg11_bn", "mlp7", "lenet5")
RESNETS = ("resnet18", "resnet50")
MOBILE = ("mobilenet_v2", "mobilenet_v3_large")


def ghost(name: str, num_classes: int, **options: str) -> nn.Module:
    """The network without values."""
    entry = models.info(name)
    module, function = entry.factory.split(":")
    if entry.stems:
        options = {"stem": "imagenet", **options}
    with torch.device("meta"):
        network = getattr(import_module(module), function)(num_classes=num_classes, **options, **entry.arguments)
    assert isinstance(network, nn.Module)
    return network


@pytest.mark.parametrize(
    ("name", "classes", "prunable"),
    [("resnet20", 10, 270_896), ("vgg16_bn", 100, 14_761_664), ("resnet18", 1000, 11_678_912)],
)
def test_prunable_weights_are_as_many_as_in_the_paper(name: str, classes: int, prunable: int) -> None:
    assert prunable == Mask.dense(ghost(name, classes)).total


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("resnet50", 1000, 25_557_032),  # torchvision, as all with 1000 classes
        ("resnet101", 1000, 44_549_160),
        ("resnet152", 1000, 60_192_808),
        ("wide_resnet50_2", 1000, 68_883_240),
        ("wide_resnet101_2", 1000, 126_886_696),
        ("mobilenet_v2", 1000, 3_504_872),
        ("mobilenet_v3_large", 1000, 5_483_032),
        ("vgg11_bn", 1000, 132_868_840 - 123_642_856 + 513_000),  # one linear layer instead of torchvision's three
        ("vgg19_bn", 1000, 143_678_248 - 123_642_856 + 513_000),
        ("lenet5", 10, 61_706),  # LeCun et al. 1998 with full connections
        ("mlp7", 10, 1024 * 100 + 5 * 100 * 100 + 100 * 10 + 6 * 100 + 10),
    ],
)
def test_parameters_are_as_many_as_elsewhere(name: str, classes: int, parameters: int) -> None:
    assert parameters == sum(parameter.numel() for parameter in ghost(name, classes).parameters())


@pytest.mark.parametrize(("name", "millions"), [("wrn16_8", 11.0), ("wrn28_10", 36.5), ("wrn40_4", 8.9)])
def test_wide_resnets_are_as_large_as_in_their_paper(name: str, millions: float) -> None:
    parameters = sum(parameter.numel() for parameter in ghost(name, 10).parameters())

    assert millions == pytest.approx(parameters / 1e6, abs=0.06)


@pytest.mark.parametrize("name", [name for name in models.MODELS if "M weights" in models.info(name).summary])
def test_the_list_tells_how_many_weights(name: str) -> None:
    entry = models.info(name)
    parameters = sum(parameter.numel() for parameter in ghost(name, 1000 if entry.stems else 10).parameters())

    said = re.findall(r"([\d.]+) M weights", entry.summary)
    digits = len(said[0].partition(".")[2])
    assert [f"{parameters / 1e6:.{digits}f}"] == said


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar_resnets_have_the_depth_of_their_name(depth: int) -> None:
    model = ghost(f"resnet{depth}", 10)

    assert depth == len([key for key in Mask.dense(model) if "shortcut" not in key])


@pytest.mark.parametrize(("name", "depth"), [("wrn16_8", 16), ("wrn28_10", 28), ("wrn40_4", 40)])
def test_wide_resnets_have_the_depth_of_their_name(name: str, depth: int) -> None:
    convolutions = [module for module in ghost(name, 10).modules() if isinstance(module, nn.Conv2d)]

    assert depth == len(convolutions)


@pytest.mark.parametrize("name", ["resnet20_x2", "resnet20_x4", "resnet32_x2", "resnet32_x4", "resnet56_x2"])
def test_a_wide_cifar_resnet_is_the_narrow_one_with_more_channels(name: str) -> None:
    narrow, _, times = name.partition("_x")
    expected = {key: tensor.shape for key, tensor in ghost(narrow, 10).named_parameters()}

    for key, tensor in ghost(name, 10).named_parameters():
        channels = 10 if key.startswith("fc.") and tensor.shape[0] == 10 else expected[key][0] * int(times)
        assert channels == tensor.shape[0], key


@pytest.mark.parametrize("name", models.MODELS)
def test_takes_its_own_image_size(name: str) -> None:
    size = models.info(name).image_size

    assert (2, 7) == tuple(ghost(name, 7)(torch.empty(2, 3, size, size, device="meta")).shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_each_image_differently(name: str) -> None:
    model = models.build(name, num_classes=7).eval()
    size = min(64, models.info(name).image_size)

    with torch.no_grad():
        logits = model(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)))

    assert (2, 7) == tuple(logits.shape)
    assert bool(logits.isfinite().all())
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize(("name", "side"), [*((name, 32) for name in RESNETS), *((name, 4) for name in MOBILE)])
def test_cifar_stem_keeps_the_resolution_of_small_images(name: str, side: int) -> None:
    model = ghost(name, 7, stem="cifar")
    seen: list[int] = []
    watched = model.get_submodule("layer1" if name in RESNETS else "avgpool")
    watched.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))

    logits = model(torch.empty(1, 3, 32, 32, device="meta"))

    assert (1, 7) == tuple(logits.shape)
    assert [side] == seen


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large"])
def test_auto_stem_is_the_one_designed_for(name: str) -> None:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        auto, designed, small = (
            models.build(name, num_classes=3, stem=stem).eval()(images) for stem in ("auto", "imagenet", "cifar")
        )

    assert torch.equal(designed, auto)
    assert not torch.equal(small, auto)


@pytest.mark.parametrize("name", ["mlp7_linear", "lenet5_linear"])
def test_linear_networks_are_drawn_with_gain_1(name: str) -> None:
    model = models.build(name, num_classes=5)

    for key in Mask.dense(model):
        weight = model.get_parameter(key).detach()
        tolerance = 5 / math.sqrt(2 * weight.numel())
        assert 1 / math.sqrt(weight[0].numel()) == pytest.approx(weight.std().item(), rel=tolerance), key


@pytest.mark.parametrize("name", ["mlp7_linear", "lenet5_linear"])
def test_linear_networks_have_no_activation(name: str) -> None:
    linear, relu = models.build(name, num_classes=5), models.build(name.removesuffix("_linear"), num_classes=5)

    assert list(relu.state_dict()) == list(linear.state_dict())
    assert not any(isinstance(module, nn.ReLU) for module in linear.modules())
    assert any(isinstance(module, nn.ReLU) for module in relu.modules())


def test_the_linear_mlp_is_one_matrix() -> None:
    model = models.build("mlp7_linear", num_classes=5).double()
    matrix = torch.eye(1024, dtype=torch.float64)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            matrix = layer.weight.detach() @ matrix
    images = torch.randn(3, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        answer = model(images) - model(torch.zeros_like(images))

    assert torch.allclose(images.flatten(1) @ matrix.T, answer)


@pytest.mark.parametrize("name", ["mlp7", "lenet5_linear"])
def test_small_networks_see_color_as_gray(name: str) -> None:
    model = models.build(name, num_classes=5)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        assert torch.equal(model(images.mean(1, keepdim=True)), model(images))


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


@pytest.mark.parametrize("name", [*FAMILIES, "resnet50"])
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


@pytest.mark.parametrize("name", FAMILIES)
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
    with pytest.raises(models.UnknownModelError, match=r"choose from resnet20, .*lenet5_linear"):
        models.info("gpt")


@pytest.mark.parametrize("classes", [0, -3])
def test_fewer_than_one_class_is_refused(classes: int) -> None:
    with pytest.raises(ValueError, match=f"num_classes must be at least 1; got {classes}"):
        models.build("resnet20", num_classes=classes)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(ValueError, match="stem must be auto, imagenet or cifar; got 'mnist'"):
        models.build("resnet18", num_classes=2, stem="mnist")


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn"])
def test_an_imagenet_stem_on_a_cifar_model_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no imagenet stem; choose one such as resnet18"):
        models.build(name, num_classes=2, stem="imagenet")


def test_the_table_is_read_without_torch() -> None:
    code = (
        "import sys; from ntksap_export.models import MODELS; assert len(MODELS) > 20; sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
