"""Fill in what a configuration leaves open, from the data and the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ntksap_export import networks
from ntksap_export.checkpoint import weights_digest
from ntksap_export.config import DEFAULT_SPARSITY, RunConfig
from ntksap_export.data import Augmentation, Peek, peek, resolve_augmentation
from ntksap_export.errors import CheckpointError, ConfigError, DataError
from ntksap_export.pipeline.methods import check_method
from ntksap_export.pipeline.run_files import weights_file
from ntksap_export.profiling.settings import default_threads
from ntksap_export.pruning import SCORERS, make_scorer
from ntksap_export.search import SEARCHES

# A few minutes on two cores for the embedded sample; a modest schedule for real data. --epochs and --lr overrule.
_DIGITS = {"epochs": 5, "batch_size": 32, "lr": 0.01, "score_batch_size": 32}
_REAL = {"epochs": 30, "batch_size": 128, "lr": 0.1, "score_batch_size": 100}
_ADAMW_LR = 1e-3
_LARGE_SIDE = 64
_IMAGES_PER_CLASS = 10  # for methods that read data, as SynFlow's and NTK-SAP's comparisons have it
_LARGE_SCORE_BATCH = 16


def resolve(config: RunConfig) -> tuple[RunConfig, Peek]:
    """The complete configuration, and what a first look at the data showed.

    Raises:
        ConfigError: an unknown model or method, or values that do not go together.
        UnavailableError: the model's library is not installed.
        CheckpointError: the file of weights is not there, or not the one that was named by its digest.
        DataError: the data cannot be used, or have another number of classes.
    """
    entry = networks.info(config.model)
    check_method(config)
    look = peek(config.data, config.data_dir, config.download, config.broken_images)
    classes = len(look.classes)
    if config.num_classes not in (None, classes):
        raise DataError(
            f"'{config.data}' has {classes} classes; got --num-classes {config.num_classes}. "
            "Leave --num-classes away to take the data's"
        )
    size = config.image_size or _image_size(config.data, look, entry)
    asked = Augmentation(config.augment, config.cutout, config.crop_scale, config.crop_ratio, config.repeats)
    resolve_augmentation(config.data, size, asked)  # one that does not fit is refused here
    if entry.fixed_size and size != entry.image_size:
        raise ConfigError(
            f"{config.model} takes images of {entry.image_size}x{entry.image_size}; got --image-size {size}. "
            "Leave it away"
        )
    if config.stem == "imagenet" and not entry.stems:
        raise ConfigError(f"{config.model} has no imagenet stem; leave --stem away")
    defaults: dict[str, Any] = dict(_DIGITS if config.data == "digits" else _REAL)
    if config.optimizer == "adamw":
        defaults["lr"] = _ADAMW_LR
    if size > _LARGE_SIDE:
        defaults["score_batch_size"] = _LARGE_SCORE_BATCH
    if config.weights is not None:
        defaults["weights_sha256"] = _digest(config)
    elif config.weights_sha256 is not None:
        raise ConfigError("weights-sha256 says which file --weights must be; give --weights too")
    defaults |= {
        "num_classes": classes,
        "image_size": size,
        "score_batches": 1,
        "rounds": 1 if config.method in SEARCHES else make_scorer(config.method).default_rounds,
        "profile_threads": default_threads(),
    }
    if SCORERS.get(config.method) and SCORERS[config.method].needs_data:
        per_batch = config.score_batch_size or defaults["score_batch_size"]
        defaults["score_batches"] = -(-_IMAGES_PER_CLASS * classes // per_batch)
    others = config.flops, config.params, config.budget, config.channel_share
    if not config.own_budget and others == (None, None, None, None):
        defaults["sparsity"] = DEFAULT_SPARSITY
    if config.method in SEARCHES:
        defaults["search_epochs"] = config.epochs or defaults["epochs"]
    missing = {key: value for key, value in defaults.items() if getattr(config, key) is None}
    if config.latency is not None:
        missing["budget"] = str(config.latency.with_threads(default_threads()[0]))
    return config.with_values(**missing), look


def _digest(config: RunConfig) -> str:
    assert config.weights is not None
    digest = weights_digest(weights_file(Path(config.weights)))
    if config.weights_sha256 not in (None, digest):
        raise CheckpointError(
            f"weights '{config.weights}' have SHA-256 {digest[:12]}..., "
            f"{str(config.weights_sha256)[:12]}... was asked for"
        )
    return digest


def _image_size(data: str, look: Peek, entry: networks.NetworkInfo) -> int:
    if data == "digits":
        return entry.sample_size
    if entry.fixed_size:
        return entry.image_size
    return look.own_size if look.own_size is not None and look.own_size <= 96 else entry.image_size
