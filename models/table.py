"""The table of models: names, where they are made, and what they are. Free of torch, so that listing them is quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of the table of models.

    Attributes:
        factory: `module:function`, called with `num_classes`, with `stem` where `stems` is true, and with `arguments`.
        image_size: side of the square input it was designed for, in pixels.
        stems: whether the first layers can be chosen (`imagenet`: they shrink the image; `cifar`: they leave it).
        summary: what it is, for `ntksap list models`; weights as millions of parameters.
        arguments: more keywords of the factory.
        fixed_size: whether it takes no other image size.
        squared_gain: of the initialization: 2 where ReLU follows, 1 in a linear network, whose signal would grow else.
    """

    factory: str
    image_size: int
    stems: bool
    summary: str
    arguments: Mapping[str, int | bool] = field(default_factory=dict)
    fixed_size: bool = False
    squared_gain: float = 2.0


def _cifar(depth: int, width: int, millions: str) -> ModelInfo:
    wide = f", {width} times as wide" if width > 1 else ""
    arguments = {"depth": depth, "width": width}
    summary = f"CIFAR ResNet{wide}, {millions} M weights"
    return ModelInfo("ntksap_export.models.resnet_cifar:cifar_resnet", 32, False, summary, arguments)


def _wide(depth: int, width: int, millions: str) -> ModelInfo:
    arguments = {"depth": depth, "width": width}
    summary = f"Wide ResNet {depth}-{width}, {millions} M weights"
    return ModelInfo("ntksap_export.models.wide_resnet:wide_resnet", 32, False, summary, arguments)


def _imagenet(module: str, function: str, what: str, millions: str) -> ModelInfo:
    summary = f"{what}, names as in torchvision, {millions} M weights"
    return ModelInfo(f"ntksap_export.models.{module}:{function}", 224, True, summary)


def _vgg(depth: int, millions: str) -> ModelInfo:
    summary = f"CIFAR VGG-{depth} with BatchNorm, {millions} M weights"
    return ModelInfo("ntksap_export.models.vgg:vgg_bn", 32, False, summary, {"depth": depth})


def _small(function: str, linear: bool, what: str) -> ModelInfo:
    return ModelInfo(
        f"ntksap_export.models.small:{function}",
        32,
        False,
        f"{what}, {'linear' if linear else 'ReLU'}, on gray images",
        {"linear": linear},
        fixed_size=True,
        squared_gain=1.0 if linear else 2.0,
    )


MODELS: dict[str, ModelInfo] = {
    "resnet20": _cifar(20, 1, "0.27"),
    "resnet32": _cifar(32, 1, "0.47"),
    "resnet44": _cifar(44, 1, "0.66"),
    "resnet56": _cifar(56, 1, "0.86"),
    "resnet110": _cifar(110, 1, "1.73"),
    "resnet20_x2": _cifar(20, 2, "1.08"),
    "resnet20_x4": _cifar(20, 4, "4.33"),
    "resnet32_x2": _cifar(32, 2, "1.86"),
    "resnet32_x4": _cifar(32, 4, "7.43"),
    "resnet56_x2": _cifar(56, 2, "3.41"),
    "wrn16_8": _wide(16, 8, "10.96"),
    "wrn28_10": _wide(28, 10, "36.48"),
    "wrn40_4": _wide(40, 4, "8.95"),
    "resnet18": _imagenet("resnet", "resnet18", "ResNet", "11.7"),
    "resnet34": _imagenet("resnet", "resnet34", "ResNet", "21.8"),
    "resnet50": _imagenet("resnet", "resnet50", "ResNet", "25.6"),
    "resnet101": _imagenet("resnet", "resnet101", "ResNet", "44.5"),
    "resnet152": _imagenet("resnet", "resnet152", "ResNet", "60.2"),
    "wide_resnet50_2": _imagenet("resnet", "wide_resnet50_2", "ResNet with wide bottlenecks", "68.9"),
    "wide_resnet101_2": _imagenet("resnet", "wide_resnet101_2", "ResNet with wide bottlenecks", "126.9"),
    "mobilenet_v2": _imagenet("mobilenet_v2", "mobilenet_v2", "MobileNetV2", "3.5"),
    "mobilenet_v3_large": _imagenet("mobilenet_v3", "mobilenet_v3_large", "MobileNetV3", "5.5"),
    "vgg11_bn": _vgg(11, "9.2"),
    "vgg13_bn": _vgg(13, "9.4"),
    "vgg16_bn": _vgg(16, "14.7"),
    "vgg19_bn": _vgg(19, "20.0"),
    "mlp7": _small("mlp7", False, "Seven linear layers of width 100"),
    "mlp7_linear": _small("mlp7", True, "Seven linear layers of width 100"),
    "lenet5": _small("lenet5", False, "LeNet-5"),
    "lenet5_linear": _small("lenet5", True, "LeNet-5"),
}
