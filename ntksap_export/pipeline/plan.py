"""What a run would do, without doing it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from ntksap_export.config import RunConfig, flag_name
from ntksap_export.masks import layer_costs
from ntksap_export.pipeline.choose import find_goals, targets
from ntksap_export.pipeline.context import Context, check_network
from ntksap_export.pipeline.engine import BODY, check_engine
from ntksap_export.pipeline.latency import LATENCY_TABLE
from ntksap_export.pipeline.methods import epochs_to_find
from ntksap_export.pipeline.precisions import PRECISIONS
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.run_dir import STAGES, RunDir
from ntksap_export.pipeline.run_files import CHANNELS, START
from ntksap_export.progress import Silent
from ntksap_export.search import search_of
from ntksap_export.training import resolve_precision

FILES = (
    "config.json",
    "mask.safetensors",
    "mask.json",
    "model.safetensors",
    "metrics.json",
    "metrics.jsonl",
    "model.onnx",
    "parity.json",
    "sample_inputs/",
    "sample_outputs/",
    "profile.json",
    "report.html",
    "report.md",
    "report.json",
    "report/",
    "README.md",
)
_TRIAL_IMAGES = 8
_EXPORT_SECONDS = 12.0
_START_SECONDS = 4.0  # a network in a process of its own


def plan(config: RunConfig, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """The resolved plan of a run: settings, layers, FLOPs, densities, an estimate of the time, files.

    Nothing is written. The estimate comes from timing one small training step here.

    Raises:
        The errors that `run_road` raises before it starts.
    """
    config, look = resolve(config)
    run = RunDir(out)
    run.check(config, STAGES, overwrite)
    context = Context(config, run, Silent(), look.name)
    check_network(context)
    check_engine(config.engine)
    dense = context.build_dense()
    goals = targets(context, dense)
    costs = layer_costs(dense, context.shape)
    weights = sum(cost.weights for cost in costs)
    assert config.rounds is not None
    precision = resolve_precision(config.precision, context.device)
    return {
        "config": {flag_name(key): value for key, value in config.model_dump(mode="json").items()},
        "data": {
            "name": look.name,
            "classes": len(look.classes),
            "train_images": look.train_images,
            "val_images": look.val_images,
        },
        "device": context.device.type,
        "precision": precision,
        "layers": [asdict(cost) for cost in costs],
        "prunable_weights": weights,
        **goals,
        "parameters": sum(parameter.numel() for parameter in dense.parameters()),
        "dense_flops": 2 * sum(cost.macs for cost in costs),
        "estimated_s": estimate(context, look.train_images, cache(partial(seconds_per_image, context))),
        "done": [stage for stage in STAGES if run.is_done(stage, config)],
        "files": [
            *FILES,
            *([CHANNELS] if config.pattern.startswith("channel") else []),
            *([START] if search_of(config.method, config.steps) is not None else []),
            *([LATENCY_TABLE] if config.budget is not None else []),
            *(f"model.{name}.onnx" for name in PRECISIONS if getattr(config, name)),
            *([BODY] if config.engine else []),
            *(["tensorboard/"] if config.tensorboard else []),
        ],
    }


def estimate(context: Context, images: int, per_image: Callable[[str], float], networks: int = 2) -> dict[str, float]:
    """Seconds that each stage of a run may take here, roughly, and all of them.

    Args:
        context: of the run.
        images: to train on.
        per_image: precision -> seconds of a training step, as `seconds_per_image` has it.
        networks: that are measured side by side.
    """
    config, precision = context.config, resolve_precision(context.config.precision, context.device)
    assert config.rounds and config.score_batch_size and config.score_batches
    assert config.epochs is not None and config.profile_threads
    scored = config.rounds * config.draws * config.score_batches * config.score_batch_size
    # Scoring an image is two forward and two backward passes in float32: twice a training step of it.
    prune = 2 * scored * per_image("fp32")
    if search_of(config.method, config.steps) is not None:
        limits = find_goals(context, context.build_dense()).first
        prune += epochs_to_find(config, limits) * images * per_image(precision)
    train = config.epochs * images * per_image(precision)
    cells = len(config.profile_backend) * len(config.profile_batch) * len(config.profile_threads)
    profile = cells * networks * (_START_SECONDS + config.profile_min_time)
    parts = {"prune": prune, "train": train, "export": _EXPORT_SECONDS, "profile": profile}
    return {name: round(seconds, 1) for name, seconds in {**parts, "total": sum(parts.values())}.items()}


def seconds_per_image(context: Context, precision: str) -> float:
    """What one image costs in training, from one small step here."""
    model = context.build_dense().to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(_TRIAL_IMAGES, *context.shape, device=context.device)

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast(context.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(images).float().square().sum()
        loss.backward()
        if context.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    step()
    return min(step(), step()) / _TRIAL_IMAGES
