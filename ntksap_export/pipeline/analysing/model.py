"""The settings of a model that is named: what flags leave open is found in its data, its masks or its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ntksap_export import networks
from ntksap_export.checkpoint import read_weights
from ntksap_export.config import RunConfig, make_config
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.run_files import weights_file

Provenance = Mapping[str, Any]
_OF_THE_MASK: Final = ("image_size", "stem", "num_classes", "init")
_SMALL: Final = (96, 10)  # side up to which a network is one for small images, and their usual number of classes
_LARGE_CLASSES: Final = 1000


def model_config(
    name: str, masks: Sequence[tuple[Mask, Provenance]], settings: Mapping[str, Any]
) -> tuple[RunConfig, str]:
    """A configuration with classes and image size, and the name of the data.

    Where data are named they say both. Else the flags do, then the first mask (its seed too: it was made for that
    initialization), then the weights; without any of them 10 classes for networks of small images, 1000 for others.

    Raises:
        ConfigError: no such model, or a setting out of range.
        CheckpointError: the weights cannot be read.
        DataError: the data cannot be used.
    """
    info = networks.info(name)
    told = _told_by(name, masks)
    if "data" in settings:
        config, look = resolve(make_config({**told, **settings, "model": name}))
        return config, look.name
    usual = _SMALL[1] if info.image_size <= _SMALL[0] else _LARGE_CLASSES
    known: dict[str, Any] = {"image_size": info.image_size, "num_classes": usual}
    if "weights" in settings and "num_classes" not in settings:
        known["num_classes"] = _classes(name, settings)
    config = make_config({**known, **told, **settings, "model": name})
    if info.fixed_size and config.image_size != info.image_size:
        raise ConfigError(f"{name} takes images of {info.image_size}x{info.image_size}; got {config.image_size}")
    return config, "noise"


def _told_by(name: str, masks: Sequence[tuple[Mask, Provenance]]) -> dict[str, Any]:
    """What the first mask of this very model says of it."""
    for mask, provenance in masks:
        if provenance.get("architecture") != name:
            continue
        settings = provenance.get("config") or {}
        found = {key: settings[key] for key in _OF_THE_MASK if settings.get(key) is not None}
        found.setdefault("num_classes", int(mask[list(mask)[-1]].shape[0]))
        return found | ({"seed": provenance["seed"]} if isinstance(provenance.get("seed"), int) else {})
    return {}


def _classes(name: str, settings: Mapping[str, Any]) -> int:
    """As many as the last layer of the weights has outputs."""
    last = list(Mask.dense(networks.build(name, 2, 0, str(settings.get("stem", "auto")))))[-1]
    tensors = read_weights(weights_file(Path(settings["weights"])))
    if last not in tensors:
        raise ConfigError(f"the weights have no '{last}' that would tell the number of classes; give --num-classes")
    return int(tensors[last].shape[0])
