"""What `ntksap analyze` is pointed at, opened: networks with their masks, each as it can be built again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import nn

from ntksap_export import networks
from ntksap_export.checkpoint import SparseCheckpoint, load_mask
from ntksap_export.checkpoint.formats.files import is_mask_file
from ntksap_export.config import make_config
from ntksap_export.errors import CheckpointError, ConfigError, RunDirectoryError
from ntksap_export.masks import Mask
from ntksap_export.pipeline.analysing.model import model_config
from ntksap_export.pipeline.choice import lift
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.run_dir import RunDir, read_json_file
from ntksap_export.pipeline.run_files import CHANNELS
from ntksap_export.pipeline.snapshots import snapshot_files
from ntksap_export.progress import Progress
from ntksap_export.pruning import ChannelPlan

State = Literal["initialization", "training", "trained"]
OF_A_RUN = ("data", "data_dir", "download", "broken_images", "workers", "device", "threads")
"""What may be said beside a run directory; the rest it knows."""
_OF_RUNS: Final = ("mask", "model")  # stems of a run's own files
_TAKEN: Final = (("dense",), ("masked",), ("recovered",), ("trained",))  # names of networks that are no masks


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """One network to look at.

    Attributes:
        name: on the page.
        state: at initialization, along training, or trained.
        build: from the number of a draw, from 0, to the model on the CPU, its pruned weights not yet zero.
        mask: of its own weights; None is dense.
        whole: the same on the dense model: where channels were removed, their weights count as pruned.
        drawn: whether another draw of the initialization gives another network.
        epoch: how many epochs it was trained, where that is known.
        method: what made its mask.
        file: of its mask or weights, as it was named.
    """

    name: str
    state: State
    build: Callable[[int], nn.Module]
    mask: Mask | None
    whole: Mask | None
    drawn: bool
    epoch: int | None = None
    method: str | None = None
    file: str | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """Networks of one architecture, the dense one first, and the run or the settings that they come from."""

    context: Context
    networks: tuple[Network, ...]
    run: Path | None

    @property
    def dense(self) -> Network:
        """The dense network at its initialization."""
        return self.networks[0]

    @cached_property
    def dense_mask(self) -> Mask:
        """The mask that keeps every prunable weight."""
        return Mask.dense(self.context.architecture())


def open_target(
    target: str, masks: Sequence[Path], settings: Mapping[str, Any], seeds: int, progress: Progress
) -> Opened:
    """Open a run directory, or a model by its name, with masks beside it.

    Raises:
        ConfigError: no such model, a setting that a run knows itself, or several draws of weights that are not drawn.
        RunDirectoryError: no such directory, or no run.
        CheckpointError: a mask or weights that are damaged or do not fit.
    """
    path = Path(target)
    if path.is_dir():
        opened = _open_run(path, settings, progress)
    elif path.is_file():
        raise ConfigError(f"'{target}' is a file; name its run directory, or write MODEL --weights {target}")
    elif ":" not in target and os.sep in target:
        raise RunDirectoryError(
            f"no such directory '{target}'; name a run directory or a MODEL of `ntksap list models`"
        )
    else:
        opened = _open_model(target, masks, settings, progress)
    if seeds > 1 and not opened.dense.drawn:
        raise ConfigError("--seeds draws initializations, and --weights are not drawn; leave one of them away")
    more = [_of_mask(opened.context, name, file) for name, file in zip(mask_names(masks), masks, strict=True)]
    return replace(opened, networks=(*opened.networks, *more))


def _open_model(target: str, masks: Sequence[Path], settings: Mapping[str, Any], progress: Progress) -> Opened:
    config, data_name = model_config(target, [_read_mask(file) for file in masks], settings)
    context = Context(config, RunDir(Path(os.devnull)), progress, data_name)
    networks.check_network(**context.model_arguments, shape=context.shape, seed=config.seed)
    return Opened(context, (_dense(context),), None)


def _open_run(path: Path, settings: Mapping[str, Any], progress: Progress) -> Opened:
    run = RunDir(path)
    for key in settings:
        if key not in OF_A_RUN:
            raise ConfigError(f"a run directory knows its network; leave --{key.replace('_', '-')} away")
    stored = run.read_json("config.json")
    context = Context(make_config({**run.stored_settings(), **settings}), run, progress, str(stored["data"]["name"]))
    return Opened(context, (_dense(context), *_of_run(context)), path)


def _dense(context: Context) -> Network:
    drawn = context.config.weights is None

    def build(draw: int) -> nn.Module:
        return _redrawn(context, draw).build_dense()

    return Network("dense", _state(drawn), build, None, None, drawn, file=context.config.weights)


def _state(drawn: bool) -> State:
    return "initialization" if drawn else "trained"


def _redrawn(context: Context, draw: int) -> Context:
    """The same with another initialization; draw 0 is the run's own."""
    if draw == 0:
        return context
    return replace(context, config=context.config.with_values(seed=context.config.seed + draw))


def _of_run(context: Context) -> list[Network]:
    """The run's masked network before, along and after training, as far as there is one."""
    config, mask, method = context.config, context.mask(), context.config.method
    whole = _whole(context.architecture(), mask, context.channel_plan())
    drawn = config.weights is None and not context.starts_found
    pruned = replace(context, config=config.with_values(recover="none"))

    def start(draw: int) -> nn.Module:
        return _redrawn(pruned, draw).build_to_train()

    first = context.start_epoch()
    found = [Network("masked", _state(drawn), start, mask, whole, drawn, first, method)]
    snapshots = [
        _of_snapshot(context, epoch, file, mask, whole) for epoch, file in snapshot_files(context.run.path).items()
    ]
    if config.recover != "none":
        found[0] = replace(found[0], epoch=None)
        recovered = snapshots.pop(0).build if snapshots and snapshots[0].epoch == 0 else None
        build = recovered or (lambda _: context.build_to_train())
        found.append(Network("recovered", _state(drawn), build, mask, whole, False, first, method))
    elif snapshots and snapshots[0].epoch == 0 and _same_weights(snapshots[0].build(0), start(0), mask):
        del snapshots[0]
    found += snapshots
    if context.run.file("model.safetensors").is_file():
        trained, own = context.trained()
        if own.same_as(mask):
            last = config.epochs
            found.append(Network("trained", "trained", lambda _: trained, mask, whole, False, last, method))
        else:
            context.progress.say("model.safetensors is of another mask: left out")
    return found


def _of_snapshot(context: Context, epoch: int, file: Path, mask: Mask, whole: Mask) -> Network:
    checkpoint = SparseCheckpoint.load(file)
    if not checkpoint.mask.same_as(mask):
        raise RunDirectoryError(f"'{file}' is of another mask than the run's; delete it")

    def build(_: int) -> nn.Module:
        plan, model = context.channel_plan(), context.architecture()
        model = model if plan is None else plan.apply(model)
        checkpoint.restore_(model)
        return model

    name = f"epoch {epoch}"
    return Network(name, "training", build, mask, whole, False, epoch, context.config.method, str(file))


def _same_weights(one: nn.Module, other: nn.Module, mask: Mask) -> bool:
    for model in (one, other):
        mask.apply_(model)
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def _of_mask(context: Context, name: str, file: Path) -> Network:
    """The model under a mask out of a file; `channels.json` beside it says which channels it goes without."""
    mask, told = _read_mask(file)
    config = told.get("config") or {}
    plan = _plan_beside(file, config)
    base, drawn = context.architecture(), context.config.weights is None
    try:
        mask.check_fits(base if plan is None else plan.apply(base))
    except CheckpointError as error:
        raise CheckpointError(f"'{file}' does not fit {context.config.model}: {error}") from None
    whole = _whole(base, mask, plan)

    def build(draw: int) -> nn.Module:
        model = _redrawn(context, draw).build_dense()
        return model if plan is None else plan.apply(model)

    method = str(told.get("method") or "unknown")
    return Network(name, _state(drawn), build, mask, whole, drawn, method=method, file=str(file))


def _plan_beside(file: Path, config: Mapping[str, Any]) -> ChannelPlan | None:
    beside = file.with_name(CHANNELS)
    if not str(config.get("pattern", "")).startswith("channel"):
        return None
    if not beside.is_file():
        raise CheckpointError(f"'{file}' is of a network without some channels; put its {CHANNELS} beside it")
    return ChannelPlan.from_json(read_json_file(beside))


def _whole(dense: nn.Module, mask: Mask, plan: ChannelPlan | None) -> Mask:
    """The mask on the dense model; what it does not name is kept."""
    return Mask({**Mask.dense(dense), **(mask if plan is None else lift(mask, plan.mask(dense)))})


def _read_mask(file: Path) -> tuple[Mask, dict[str, Any]]:
    """A mask of a mask file or of a checkpoint of ours, and where it comes from."""
    if not file.is_file():
        inside = file / "mask.safetensors"
        hint = f": that is a folder; give '{inside}'" if inside.is_file() else ""
        raise CheckpointError(f"no such mask '{file}'{hint}")
    if is_mask_file(file):
        return load_mask(file)
    checkpoint = SparseCheckpoint.load(file)
    if not len(checkpoint.mask):
        raise CheckpointError(f"'{file}' is a checkpoint without masks")
    return checkpoint.mask, {} if checkpoint.provenance is None else checkpoint.provenance.to_json()


def mask_names(files: Sequence[Path]) -> list[str]:
    """The stem of each file, or its folder where that is what a run calls it; longer where they do not differ.

    Raises:
        ConfigError: one file twice.
    """
    paths = [file.absolute() for file in files]
    for path, file in zip(paths, files, strict=True):
        if paths.count(path) > 1:
            raise ConfigError(f"--mask '{file}' stands there twice; name it once")
    plain = [path.parts[:-1] if path.stem in _OF_RUNS and path.parent.name else _bare(path) for path in paths]
    parts = [own if plain.count(own) == 1 else path.parts for own, path in zip(plain, paths, strict=True)]
    return [_shortest(own, parts) for own in parts]


def _bare(path: Path) -> tuple[str, ...]:
    return (*path.parts[:-1], path.stem)


def _shortest(own: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    """As many parts from the end as tell it from the others, and from what networks are called here."""
    counts = range(1, len(own) + 1)
    alone = (n for n in counts if sum(other[-n:] == own[-n:] for other in others) == 1 and own[-n:] not in _TAKEN)
    return "/".join(own[-next(alone, len(own)) :])
