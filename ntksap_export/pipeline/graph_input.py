"""What a run's graph takes: the preprocessing that it states, images for it, and the model behind the same input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ntksap_export.config import RunConfig
from ntksap_export.data import read_validation
from ntksap_export.errors import ConfigError
from ntksap_export.graph import Graph, Normalized, Preprocessing, described, pixels_taken, take_pixels
from ntksap_export.pipeline.context import Context


def preprocessing_of(context: Context) -> Preprocessing:
    """What is done to an image before the run's model takes it."""
    spec = context.run.read_json("config.json")["pretrained_cfg"]
    _, height, width = spec["input_size"]
    return Preprocessing(
        size=(height, width),
        mean=tuple(spec["mean"]),
        std=tuple(spec["std"]),
        interpolation=spec["interpolation"],
        crop_pct=spec["crop_pct"],
    )


def taken_by_graph(config: RunConfig, told: Preprocessing) -> Preprocessing:
    """What is done to an image before the graph takes it."""
    return pixels_taken(told, config.input) if normalizes(config) else told


def normalizes(config: RunConfig) -> bool:
    """Whether the graph normalizes its input itself; bytes cannot be normalized before it."""
    return config.normalize or config.input == "uint8"


def check_normalizes(config: RunConfig, told: Preprocessing | None) -> None:
    """Refuse to normalize by what nobody knows.

    Raises:
        ConfigError: mean and std are asked for in the graph, and not known.
    """
    if told is None and normalizes(config):
        raise ConfigError("to normalize in the graph, give --mean and --std")


def with_input(
    config: RunConfig, graph: Graph, told: Preprocessing | None, classes: Sequence[str] | None
) -> tuple[Graph, tuple[str, ...]]:
    """The graph with the input that the settings ask for, which its metadata state; and what was done, for the log.

    Raises:
        ConfigError: as `check_normalizes`.
    """
    check_normalizes(config, told)
    log: tuple[str, ...] = ()
    if told is None:
        return graph, log
    if normalizes(config):
        graph, said = take_pixels(graph, told.mean, told.std, config.input)
        log = (said,)
    return described(graph, taken_by_graph(config, told), classes), log


def behind_input(config: RunConfig, model: nn.Module, told: Preprocessing) -> nn.Module:
    """The model behind the graph's input: what the graph is compared with."""
    return Normalized(model, taken_by_graph(config, told)) if normalizes(config) else model


def graph_images(context: Context, told: Preprocessing, count: int) -> torch.Tensor:
    """Validation images as the run's graph takes them: float32 (count, 3, S, S), or uint8 (count, S, S, 3).

    Args:
        context: of the run.
        told: of the run's model, as `preprocessing_of`.
        count: how many.
    """
    config = context.config
    pixels = normalizes(config)
    mean, std = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) if pixels else (told.mean, told.std)
    images = read_validation(config.data, count, context.shape[-1], mean, std, config.data_dir, config.broken_images)
    return as_taken(config, images) if pixels else images


def taken_of_normalized(config: RunConfig, told: Preprocessing, images: torch.Tensor) -> torch.Tensor:
    """Normalized images (N, 3, S, S) as the run's graph takes them."""
    if not normalizes(config):
        return images
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (told.mean, told.std))
    return as_taken(config, (images * std + mean).clamp(0, 1))


def as_taken(config: RunConfig, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [0, 1] as a graph that normalizes takes them."""
    if config.input != "uint8":
        return pixels
    return (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
