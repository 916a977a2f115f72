"""What the stages of one run share: settings, directory, model and data, each made once and only when needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ntksap_export import networks
from ntksap_export.checkpoint import (
    Provenance,
    SparseCheckpoint,
    library_versions,
    load_mask,
    load_weights_,
    read_weights,
    weights_digest,
)
from ntksap_export.config import FREE_KEYS, RunConfig, flag_name
from ntksap_export.data import DataSet, DataSpec, open_data, skipped_text
from ntksap_export.errors import CheckpointError, RunDirectoryError
from ntksap_export.masks import Mask, split_pattern
from ntksap_export.pipeline.ranks import own_device
from ntksap_export.pipeline.recovering import recover_start_
from ntksap_export.pipeline.run_dir import RunDir
from ntksap_export.pipeline.run_files import CHANNELS, START, weights_file
from ntksap_export.pipeline.tensorboard import check_tensorboard
from ntksap_export.progress import Progress
from ntksap_export.pruning import ChannelPlan, reinit_seed
from ntksap_export.recovery import initialize_
from ntksap_export.search import search_of
from ntksap_export.training import rescale_init_, resolve_device


@dataclass
class Context:
    """One run in progress. `config` is complete (see `resolve`); `data_name` is the data set's own name.

    `recovery` is what the latest `build_to_train` recovered.
    """

    config: RunConfig
    run: RunDir
    progress: Progress
    data_name: str
    command: str = ""
    recovery: dict[str, Any] | None = field(default=None, repr=False)
    _data: DataSet | None = field(default=None, repr=False)

    @cached_property
    def device(self) -> torch.device:
        """Where the run computes, of several processes each on its own GPU; sets the number of threads."""
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        return own_device(resolve_device(self.config.device))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the model's input."""
        size = self.config.image_size
        assert size is not None
        return (3, size, size)

    def architecture(self) -> nn.Module:
        """The model with all its channels and with some weights, on the CPU; `--weights` is not read."""
        return networks.build(**self.model_arguments, seed=self.config.seed)

    def build_dense(self) -> nn.Module:
        """The model at its initialization, drawn or from `--weights`, with all its channels, on the CPU.

        Raises:
            CheckpointError: the file of weights is not there any more, changed, or does not fit.
        """
        if self.config.weights is None:
            return self._drawn(self.config.seed)
        model = self.architecture()
        load_weights_(model, self._weights, self.config.weights)
        return model

    def _drawn(self, seed: int) -> nn.Module:
        """A draw of the initialization that the run trains from."""
        model = networks.build(**self.model_arguments, seed=seed)
        if self.config.init != "default":
            initialize_(model, self.config.init, self.shape, seed)
        return model

    @cached_property
    def _weights(self) -> dict[str, torch.Tensor]:
        path = weights_file(Path(str(self.config.weights)))
        if self.config.weights_sha256 not in (None, weights_digest(path)):
            raise CheckpointError(f"weights '{path}' are not those that this run was begun with; put them back")
        return read_weights(path)

    def build(self) -> nn.Module:
        """The model at its initialization, without the channels that the run removed."""
        return self._without_removed(self.build_dense())

    def build_to_train(self) -> nn.Module:
        """The model that training starts from: its initialization, or with `control reinit` another draw; recovered.

        Where a search found the mask, it is what that left.

        Raises:
            RunDirectoryError: the search's weights are not there.
            CheckpointError: they are broken; or as `build_dense`.
        """
        model = self._start() if self.starts_found else self._first()
        if self.config.recover != "none":
            self.recovery = recover_start_(model, self.mask(), self.config, self.shape, self.device, self.progress)
        return model

    def _first(self) -> nn.Module:
        dense = self.build_dense() if self.config.control != "reinit" else self._drawn(reinit_seed(self.config.seed))
        model = self._without_removed(dense)
        if self.config.rescale_init:
            drawn = {name: weight[0].numel() for name, weight in dense.named_parameters() if weight.ndim > 1}
            rescale_init_(model, self.mask(), drawn)
        return model

    @property
    def starts_found(self) -> bool:
        """Whether training starts from the weights that a search found beside its mask."""
        return search_of(self.config.method, self.config.steps) is not None and self.config.control != "reinit"

    def start_epoch(self) -> int:
        """Epochs of the schedule that lie behind the weights which training starts from.

        Raises:
            RunDirectoryError: mask.json is missing or broken.
        """
        return int(self.run.read_json("mask.json")["search"]["start_epoch"]) if self.starts_found else 0

    def _start(self) -> nn.Module:
        path, model = self.run.file(START), self._without_removed(self.architecture())
        if not path.is_file():
            raise RunDirectoryError(f"'{self.run.path}' has no {START}; run `ntksap prune` first")
        load_weights_(model, read_weights(path), str(path))
        return model

    def channel_plan(self) -> ChannelPlan | None:
        """Which channels the prune stage kept, where it removed whole channels.

        Raises:
            RunDirectoryError: channels.json is missing or broken.
            CheckpointError: it is no plan.
        """
        if not split_pattern(self.config.pattern)[0]:
            return None
        return ChannelPlan.from_json(self.run.read_json(CHANNELS))

    def _without_removed(self, model: nn.Module) -> nn.Module:
        plan = self.channel_plan()
        return model if plan is None else plan.apply(model)

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What names the architecture, for `networks.build`."""
        classes = self.config.num_classes
        assert classes is not None
        return {"name": self.config.model, "num_classes": classes, "stem": self.config.stem}

    def data(self) -> DataSet:
        """The data set, decoded the first time somebody asks."""
        if self._data is None:
            config = self.config
            with self.progress.task("decode images", 1_000) as task:
                shown = 0

                def count(done: int, total: int) -> None:
                    nonlocal shown
                    task.advance(done * 1_000 // total - shown)
                    shown = done * 1_000 // total

                self._data = open_data(
                    config.data,
                    image_size=config.image_size,
                    mean=config.mean,
                    std=config.std,
                    augment=config.augment,
                    cutout=config.cutout,
                    crop_scale=config.crop_scale,
                    crop_ratio=config.crop_ratio,
                    repeats=config.repeats,
                    num_classes=config.num_classes,
                    on_progress=count,
                    workers=config.workers,
                    data_dir=config.data_dir,
                    download=config.download,
                    broken_images=config.broken_images,
                )
            if self._data.skipped:
                self.progress.say(skipped_text(self._data.skipped))
        return self._data

    def mask(self) -> Mask:
        """The mask that the prune stage wrote.

        Raises:
            RunDirectoryError: there is none.
            CheckpointError: it is broken or does not fit the model.
        """
        path = self.run.file("mask.safetensors")
        if not path.is_file():
            raise RunDirectoryError(f"'{self.run.path}' has no mask.safetensors; run `ntksap prune` first")
        mask, _ = load_mask(path)
        mask.check_fits(self._without_removed(self.architecture()))
        return mask

    def trained(self) -> tuple[nn.Module, Mask]:
        """The trained model, on the CPU in eval mode, and its mask.

        Raises:
            RunDirectoryError: there is none.
            CheckpointError: it is broken or does not fit the model.
        """
        path = self.run.file("model.safetensors")
        if not path.is_file():
            raise RunDirectoryError(f"'{self.run.path}' has no model.safetensors; run `ntksap train` first")
        checkpoint = SparseCheckpoint.load(path)
        model = self._without_removed(self.architecture())
        checkpoint.restore_(model)
        return model.eval(), checkpoint.mask

    def provenance(self) -> Provenance:
        """Who made it: settings without paths or clocks, and library versions."""
        settings = self.config.model_dump(mode="json", exclude={"model", "method", "seed", *FREE_KEYS})
        settings["data"] = self.data_name
        return Provenance(
            architecture=self.config.model,
            method=self.config.method,
            seed=self.config.seed,
            config=settings,
            versions=library_versions(),
        )


def check_network(context: Context, starts: bool = True) -> None:
    """Fail early on what would fail late: the device, the model, the size of its input, the weights it starts from.

    Args:
        context: of the run.
        starts: whether the model's initialization is needed; what a later stage takes up was trained already.

    Raises:
        UnavailableError: no such device, or a library that is needed is not installed.
        ConfigError: the model cannot be built so, or cannot take such an image.
        CheckpointError: `--weights` cannot be read, or do not fit.
    """
    from ntksap_export.masks import layer_costs

    _ = context.device
    if starts and context.config.tensorboard:
        check_tensorboard()
    model = networks.check_network(**context.model_arguments, shape=context.shape, seed=context.config.seed)
    layer_costs(model, context.shape)
    if starts:
        context.build_dense()


def config_json(context: Context, spec: DataSpec | None) -> dict[str, Any]:
    """config.json: the architecture and its input as timm names them, and the whole configuration.

    Mean and standard deviation are found when the data are read, in the train stage; before, they are null.
    """
    config = context.config
    mean = spec.mean if spec else config.mean
    std = spec.std if spec else config.std
    settings = {flag_name(key): value for key, value in config.model_dump(mode="json").items()}
    return {
        "architecture": config.model,
        "num_classes": config.num_classes,
        "classes": list(spec.classes) if spec else None,
        "model_args": {"stem": config.stem},
        "pretrained_cfg": {
            "input_size": list(context.shape),
            "mean": list(mean) if mean else None,
            "std": list(std) if std else None,
            "interpolation": "bilinear",
            "crop_pct": 1.0 if config.image_size is not None and config.image_size <= 96 else 0.875,
        },
        "data": {
            "name": context.data_name,
            "train_images": spec.train_images if spec else None,
            "val_images": spec.val_images if spec else None,
            "embedded": config.data == "digits",
        },
        "ntksap": {"config": settings, "provenance": context.provenance().to_json()},
    }
