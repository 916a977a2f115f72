"""Which settings the result of a stage depends on, besides those of the stages before it."""

from __future__ import annotations

from typing import Any

from ntksap_export.config import RunConfig, defaults
from ntksap_export.search import search_of


def keys_of(stage: str, config: RunConfig) -> dict[str, Any]:
    """The settings of `stage` as plain JSON values; a mask that is found by training depends on how a run trains.

    Raises:
        ConfigError: `--steps` beside a method that trains by itself.
    """
    trains = stage == "prune" and search_of(config.method, config.steps) is not None
    return config.keys_of(stage) | (config.keys_of("train") if trains else {})


def usual_of(stage: str) -> dict[str, Any]:
    """The default of every setting that `keys_of` may name."""
    return defaults(stage) | (defaults("train") if stage == "prune" else {})
