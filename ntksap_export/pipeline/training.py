"""The train stage: what the mask keeps is trained, on as many processes as there are; rank 0 alone writes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict

import torch
from torch import nn

from ntksap_export.atomic import canonical_json, write_json, write_text
from ntksap_export.checkpoint import SparseCheckpoint
from ntksap_export.data import Loaders, make_loaders
from ntksap_export.masks import Mask
from ntksap_export.pipeline.context import Context, config_json
from ntksap_export.pipeline.ranks import all_or_none
from ntksap_export.pipeline.snapshots import Snapshots
from ntksap_export.pipeline.stopping import sigterm_noted
from ntksap_export.pipeline.tensorboard import TensorBoard
from ntksap_export.processes import is_main, rank, world_size
from ntksap_export.pruning.distributed import of_main
from ntksap_export.training import Checkpoints, EpochRow, resolve_precision, train, train_config
from ntksap_export.training.checkpoints import last_saved


def run_train(context: Context) -> tuple[str, ...]:
    """Train what the mask keeps; writes model.safetensors, metrics.json and metrics.jsonl."""
    config, run = context.config, context.run
    with all_or_none():
        mask = of_main(context.mask())  # `train` compares its digest over all processes
        loaders, model = open_loaders(context), context.build_to_train().to(context.device)
        if is_main():
            write_json(run.file("config.json"), config_json(context, loaders.spec))
    precision = resolve_precision(config.precision, context.device)
    context.progress.say(
        f"train on {_processes()}{context.device.type} in {precision}: {loaders.spec.train_images:,} images, "
        f"{config.epochs} epoch{'s' * (config.epochs != 1)} of {len(loaders.train)} steps"
    )
    directory = run.file("tensorboard") if config.tensorboard and is_main() else None
    checkpoints = Checkpoints(run.training_states, mask.digest(), config.keep_checkpoints, config.checkpoint_minutes)
    snapshots = _snapshots(context, model, mask, checkpoints) if is_main() else None
    with sigterm_noted() as stop, closing(TensorBoard(directory)) as board, closing(loaders):
        log = train(
            model,
            mask,
            loaders,
            train_config(config),
            checkpoints=checkpoints,
            progress=context.progress,
            start_epoch=context.start_epoch(),
            on_epoch=_telling(context, loaders, board, snapshots) if snapshots is not None else None,
            stop=stop,
        )
    if is_main():
        SparseCheckpoint.of(model, mask, context.provenance()).save(run.file("model.safetensors"))
        recovery = {} if context.recovery is None else {"recovery": context.recovery}
        write_json(run.file("metrics.json"), {**log.to_json(), "skipped_images": len(loaders.skipped), **recovery})
    return ("model.safetensors", "metrics.json", "metrics.jsonl")


def open_loaders(context: Context) -> Loaders:
    """A run's data in batches, of several processes this one's part.

    Raises:
        DataError: they cannot be used.
    """
    config = context.config
    assert config.batch_size is not None
    return make_loaders(
        context.data(),
        config.batch_size,
        config.seed,
        context.device,
        memory_format=torch.channels_last,
        part=(rank(), world_size()),
    )


def _snapshots(context: Context, model: nn.Module, mask: Mask, checkpoints: Checkpoints) -> Snapshots:
    epochs, saved = context.config.snapshot_epochs, last_saved(checkpoints)
    made = Snapshots(context.run.path, epochs, model, mask, context.provenance(), saved)
    if missed := made.missed():
        shown = ", ".join(map(str, missed))
        context.progress.say(f"no snapshot after epoch {shown}: it was not asked for when that epoch was trained")
    return made


def _telling(
    context: Context, loaders: Loaders, board: TensorBoard, snapshots: Snapshots
) -> Callable[[EpochRow], None]:
    """What is written and said after each epoch."""
    rows: list[EpochRow] = []

    def on_epoch(row: EpochRow) -> None:
        rows.append(row)
        board.write(row)
        lines = "".join(f"{canonical_json(asdict(item))}\n" for item in rows)
        write_text(context.run.file("metrics.jsonl"), lines)
        snapshots.after(row.epoch)
        context.progress.say(
            f"epoch {row.epoch}/{context.config.epochs}: "
            f"train loss {row.train_loss:.4f}, accuracy {row.train_accuracy:.2%}; "
            f"val loss {row.val_loss:.4f}, accuracy {row.val_accuracy:.2%}; {row.images_per_s:.0f} images/s, "
            f"lr {row.lr:.3g}"
        )
        if note := loaders.news():
            context.progress.say(note)

    return on_epoch


def _processes() -> str:
    return f"{world_size()} processes on " if world_size() > 1 else ""
