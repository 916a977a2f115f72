"""What a run's graph takes, as its metadata say it."""

from __future__ import annotations

from ntksap_export.graph import Preprocessing
from ntksap_export.pipeline.context import Context


def preprocessing_of(context: Context) -> tuple[Preprocessing, tuple[str, ...] | None]:
    """What is done to an image before the run's model takes it, and the names of its classes."""
    told = context.run.read_json("config.json")
    spec = told["pretrained_cfg"]
    _, height, width = spec["input_size"]
    made = Preprocessing(
        size=(height, width),
        mean=tuple(spec["mean"]),
        std=tuple(spec["std"]),
        interpolation=spec["interpolation"],
        crop_pct=spec["crop_pct"],
    )
    return made, None if told["classes"] is None else tuple(told["classes"])
