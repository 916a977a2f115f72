"""Export without a run directory: a checkpoint of ours, or a model by its name and a file of weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ntksap_export import networks
from ntksap_export.atomic import write_json
from ntksap_export.checkpoint import SparseCheckpoint, load_mask, load_weights_, read_weights
from ntksap_export.checkpoint.formats import format_of
from ntksap_export.checkpoint.formats.files import is_mask_file
from ntksap_export.config import RunConfig, make_config
from ntksap_export.errors import CheckpointError, ConfigError, ExportError, RunDirectoryError
from ntksap_export.graph import Preprocessing, files_of, move_graph, remove_graph
from ntksap_export.masks import Mask
from ntksap_export.pipeline.engine import (
    Places,
    against_model,
    check_engine,
    engine_summary,
    remove_body,
    write_body,
)
from ntksap_export.pipeline.exporting import Made, graph_of, pass_lines, passes_json, write_graph
from ntksap_export.pipeline.graph_input import as_taken, behind_input, check_normalizes, normalizes
from ntksap_export.pipeline.precisions import RejectedError
from ntksap_export.pipeline.run_dir import read_json_file
from ntksap_export.progress import Progress
from ntksap_export.pruning import ChannelPlan
from ntksap_export.runtime.parity import BATCHES, Limits
from ntksap_export.runtime.session import Images
from ntksap_export.runtime.verify import verify

_FROM_CHECKPOINT = ("num_classes", "image_size", "stem", "mean", "std", "pattern")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is in no run directory, and what is known of it; in eval mode on the CPU, its mask applied."""

    config: RunConfig
    model: nn.Module
    mask: Mask | None


def export_any(
    target: str, settings: Mapping[str, Any], out: Path, mask: Path | None, progress: Progress
) -> dict[str, Any]:
    """Export a model that is in no run directory, and compare the graph with it on noise; writes `out`.

    Args:
        target: a checkpoint of ours, whose provenance names the model, or the name of a model.
        settings: keys of `RunConfig` that were given: `weights` of a named model, its `num_classes` (found in the
            weights), `image_size`, `stem`, `mean` and `std`, and those of the export.
        out: the graph; beside it `NAME.parity.json`, and with `engine` NAME.sparse.onnx. Only a graph that agrees is
            written there.
        mask: a mask file, or a checkpoint with masks, for a named model.
        progress: where the log goes.

    Returns:
        The model's name, files and their bytes, and the parity.

    Raises:
        ConfigError: settings that do not go together, or no such model.
        CheckpointError: weights or a mask that do not fit.
        UnavailableError: the engine is asked for and was not built.
        ExportError: the model cannot be exported, or the graph disagrees; it is then left as `NAME.rejected.onnx`
            with `NAME.rejected.parity.json`.
        RejectedError: `out` is in its place, and the engine's graph cannot be made or disagrees.
    """
    check_out(out)
    check_engine(bool(settings.get("engine")))
    path = Path(target)
    if path.is_file():
        if mask is not None or "weights" in settings:
            raise ConfigError("a checkpoint brings its weights and masks; leave --weights and --mask away")
        subject = read_subject(path, settings)
    else:
        if "weights" not in settings and not networks.is_own(target):
            raise RunDirectoryError(
                f"no such directory '{target}'; name a run directory, a checkpoint of ours, or MODEL --weights FILE"
            )
        subject = named_subject(target, settings, mask)
    config = subject.config
    told = _preprocessing(config)
    graph, said, log = subject_graph(subject)
    reference, images = _judges(subject, told)
    rejected = out.with_name(f"{out.stem}.rejected.onnx")
    told_badly = out.with_name(f"{rejected.stem}.parity.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.parent) as beside:
        staged = Path(beside) / out.name
        for line in (*said, *pass_lines(log), *write_graph(config, graph, staged)):
            progress.say(f"  {line}")
        try:
            parity = verify(reference, graph, images, Limits(config.atol, config.rtol), file=staged)
        except ExportError:  # onnxruntime does not even load it
            write_graph(config, graph, rejected)
            raise
        stored = {**parity.to_json(), **passes_json(log), "opset": config.opset}
        if not parity.passed:  # a good graph from before keeps its own
            write_graph(config, graph, rejected)
            write_json(told_badly, stored)
            raise ExportError(f"{parity.complaint()}; see {rejected}")
        move_graph(staged, out)
        places, judge = Places.beside(out, Path(beside)), against_model(reference, images)
        if config.engine:
            remove_body(places)
        body = write_body(config, graph, images.shape, judge, places, progress)
    stored |= {"engine": body.entry} if body.entry else {}
    remove_graph(rejected)
    told_badly.unlink(missing_ok=True)
    write_json(out.with_name(f"{out.stem}.parity.json"), stored)
    if body.problem is not None:
        raise RejectedError(body.problem)
    return {
        "model": config.model,
        "files": {file.name: file.stat().st_size for file in (*files_of(out), *body.files)},
        "parity": parity.to_json(),
        **({"engine": engine_summary(body.entry)} if body.entry else {}),
    }


def check_out(out: Path) -> None:
    if out.suffix != ".onnx" or out.is_dir():
        raise ConfigError(f"--out must be a file that ends in .onnx; got '{out}'")
    there = next(folder for folder in (out.parent.absolute(), *out.parent.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise NotADirectoryError(20, "is no folder", str(there))
    if not os.access(there, os.W_OK):
        raise PermissionError(13, "Permission denied", str(there))


def subject_graph(subject: Subject) -> Made:
    """The graph of a subject, as `graph_of`.

    Raises:
        ConfigError: it is to normalize its input by what nobody knows.
        ExportError: the model cannot be exported.
    """
    config = subject.config
    told = _preprocessing(config)
    check_normalizes(config, told)
    return graph_of(config, subject.model, subject.mask, _noise(config, 1), told, None)


def read_subject(path: Path, settings: Mapping[str, Any]) -> Subject:
    """The model of a checkpoint of ours; `channels.json` stands beside one that lost channels.

    Args:
        path: of the checkpoint.
        settings: as `export_any` takes them; they overrule what the checkpoint says of itself.

    Raises:
        CheckpointError: it is damaged, none of ours, or does not say what it is of.
        ConfigError: its number of classes or image size is not known.
    """
    if format_of(path) != "ntksap":
        raise CheckpointError(f"{path} does not say which model it is of; write `ntksap export MODEL --weights {path}`")
    checkpoint = SparseCheckpoint.load(path)
    told = checkpoint.provenance
    if told is None:
        raise CheckpointError(f"{path} does not say which model it is of; write `ntksap export MODEL --weights {path}`")
    known = {key: told.config[key] for key in _FROM_CHECKPOINT if told.config.get(key) is not None}
    config = make_config({**known, **settings, "model": told.architecture})
    if config.num_classes is None or config.image_size is None:
        raise ConfigError(f"{path} does not say its classes or size; give --num-classes and --image-size")
    model = networks.build(config.model, config.num_classes, config.seed, config.stem)
    if config.pattern.startswith("channel"):
        plan = path.with_name("channels.json")
        if not plan.is_file():
            raise CheckpointError(f"{path} is of a network without some channels; put its channels.json beside it")
        model = ChannelPlan.from_json(read_json_file(plan)).apply(model)
    checkpoint.restore_(model)
    return Subject(config, model.eval(), checkpoint.mask)


def named_subject(name: str, settings: Mapping[str, Any], mask: Path | None = None) -> Subject:
    """The model of a name, with random weights where `settings` has none.

    Raises:
        ConfigError: there is no such model, or it cannot be built so.
        CheckpointError: weights or a mask that do not fit.
    """
    info = networks.info(name)
    tensors = read_weights(Path(settings["weights"])) if "weights" in settings else None
    config = make_config({"image_size": info.image_size, **settings, "model": name})
    classes = config.num_classes or _classes(config, tensors)
    model = networks.build(name, classes, config.seed, config.stem)
    if tensors is not None:
        load_weights_(model, tensors, str(config.weights))
    kept = None if mask is None else _mask(mask)
    if kept is not None:
        kept.apply_(model)
    return Subject(config, model.eval(), kept)


def _classes(config: RunConfig, tensors: Mapping[str, torch.Tensor] | None) -> int:
    """As many as the last layer of the weights has outputs; a thousand where there are no weights."""
    if tensors is None:
        return 1000
    last = list(Mask.dense(networks.build(config.model, 2, 0, config.stem)))[-1]
    if last not in tensors:
        raise ConfigError(f"the weights have no '{last}' that would tell the number of classes; give --num-classes")
    return int(tensors[last].shape[0])


def _mask(path: Path) -> Mask:
    if not path.is_file():
        raise CheckpointError(f"no such mask '{path}'")
    return load_mask(path)[0] if is_mask_file(path) else SparseCheckpoint.load(path).mask


def _preprocessing(config: RunConfig) -> Preprocessing | None:
    if config.mean is None or config.std is None or config.image_size is None:
        return None
    crop = 1.0 if config.image_size <= 96 else 0.875
    return Preprocessing((config.image_size, config.image_size), config.mean, config.std, crop_pct=crop)


def _noise(config: RunConfig, count: int) -> torch.Tensor:
    assert config.image_size is not None
    draw = torch.Generator().manual_seed(config.seed)
    return torch.randn(count, 3, config.image_size, config.image_size, generator=draw)


def _judges(subject: Subject, told: Preprocessing | None) -> tuple[nn.Module, Images]:
    """What is right, and noise to compare on, as the graph takes it."""
    config = subject.config
    images, reference = _noise(config, max(BATCHES)), subject.model
    if told is not None and normalizes(config):
        images, reference = as_taken(config, images.sigmoid()), behind_input(config, subject.model, told)
    return reference, images.numpy()
