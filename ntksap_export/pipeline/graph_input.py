"""What a run's graph takes: the preprocessing that it states, images for it, and the model behind the same input."""

from __future__ import annotations

import torch
from torch import nn

from ntksap_export.data import read_validation
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


def taken_by_graph(context: Context) -> Preprocessing:
    """What is done to an image before the run's graph takes it."""
    config, told = context.config, preprocessing_of(context)
    return pixels_taken(told, config.input) if normalizes(context) else told


def normalizes(context: Context) -> bool:
    """Whether the run's graph normalizes its input itself; bytes cannot be normalized before it."""
    return context.config.normalize or context.config.input == "uint8"


def with_input(context: Context, graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The graph with the input that the settings ask for, which its metadata state; and what was done, for the log."""
    told = preprocessing_of(context)
    log: tuple[str, ...] = ()
    if normalizes(context):
        graph, said = take_pixels(graph, told.mean, told.std, context.config.input)
        log = (said,)
    classes = context.run.read_json("config.json")["classes"]
    return described(graph, taken_by_graph(context), classes), log


def behind_input(context: Context, model: nn.Module) -> nn.Module:
    """The model behind the graph's input: what the graph is compared with."""
    return Normalized(model, taken_by_graph(context)) if normalizes(context) else model


def normalized_images(context: Context, count: int) -> torch.Tensor:
    """Validation images as the model takes them: float32 (count, 3, S, S)."""
    told = preprocessing_of(context)
    return _read(context, count, told.mean, told.std)


def graph_images(context: Context, count: int) -> torch.Tensor:
    """The same images as the run's graph takes them: as `normalized_images`, in [0, 1], or uint8 (count, S, S, 3)."""
    if not normalizes(context):
        return normalized_images(context, count)
    pixels = _read(context, count, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    if context.config.input != "uint8":
        return pixels
    return (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _read(context: Context, count: int, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    config = context.config
    return read_validation(config.data, count, context.shape[-1], mean, std, config.data_dir, config.broken_images)
