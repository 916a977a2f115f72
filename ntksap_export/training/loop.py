"""The training loop: plain SGD on the weights that live."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from ntksap_export.data import Loader, Loaders
from ntksap_export.errors import TrainingError
from ntksap_export.masks import Mask
from ntksap_export.progress import Progress, Silent
from ntksap_export.training.config import TrainConfig
from ntksap_export.training.diagnose import first_bad_layer
from ntksap_export.training.log import EpochRow, TrainLog
from ntksap_export.training.masking import keep_pruned
from ntksap_export.training.precision import resolve_precision
from ntksap_export.training.schedule import learning_rate
from ntksap_export.training.state import load_state, save_state

_CHECK_EVERY = {"cpu": 1, "cuda": 25}  # reading a loss from a GPU stalls it


def train(
    model: nn.Module,
    mask: Mask,
    loaders: Loaders,
    config: TrainConfig,
    *,
    state_path: Path | None = None,
    fingerprint: str = "",
    progress: Progress | None = None,
    on_epoch: Callable[[EpochRow], None] | None = None,
) -> TrainLog:
    """Train the weights that `mask` keeps; pruned ones are exactly zero after every step.

    Args:
        model: trained in place, on the device it is on; left in eval mode.
        mask: names and shapes of `model`.
        loaders: training and validation batches, on the model's device.
        config: epochs, rates, precision.
        state_path: written after every epoch; if it is there already, training goes on from it.
        fingerprint: what the state must belong to.
        progress: where steps are shown.
        on_epoch: called with each finished epoch's row, those of a resumed run included.

    Raises:
        TrainingError: the loss became NaN or infinite; names epoch, step and layer. The state of the last good epoch
            stays at `state_path`.
        RunDirectoryError: the state at `state_path` is broken or belongs to other settings.
        CheckpointError: the mask does not fit the model.
    """
    show = progress or Silent()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next(model.parameters()).device
    precision = resolve_precision(config.precision, device)
    optimizer = _optimizer(model, config)
    history = [] if state_path is None else load_state(state_path, model, optimizer, fingerprint)
    if history:
        show.say(f"training goes on after epoch {history[-1].epoch} of {config.epochs}")
    keep_pruned(optimizer, model, mask)
    for row in history:
        if on_epoch is not None:
            on_epoch(row)
    for epoch in range(len(history) + 1, config.epochs + 1):
        row = _epoch(model, optimizer, loaders, config, precision, epoch, show)
        history.append(row)
        if state_path is not None:
            save_state(state_path, model, optimizer, history, fingerprint)
        if on_epoch is not None:
            on_epoch(row)
    model.eval()
    return TrainLog(tuple(history), device.type, precision)


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loaders: Loaders,
    config: TrainConfig,
    precision: str,
    epoch: int,
    show: Progress,
) -> EpochRow:
    start = time.perf_counter()
    loaders.train.set_epoch(epoch)
    model.train()
    device = next(model.parameters()).device
    sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss, right answers
    seen, steps, rate = 0, len(loaders.train), config.lr
    with show.task(f"epoch {epoch}/{config.epochs}", steps) as task:
        for index, (images, labels) in enumerate(loaders.train):
            rate = learning_rate(config, (epoch - 1) * steps + index, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(images)
                loss = functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            if index % _CHECK_EVERY.get(device.type, 1) == 0:
                _check_finite(loss, model, images, epoch, index)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            _add_(sums, loss, logits, labels)
            seen += len(labels)
            task.advance(note=f"loss {float(sums[0]) / seen:.3f}" if device.type == "cpu" else "")
    train_loss, train_right = (sums / seen).tolist()
    if not math.isfinite(train_loss):
        _check_finite(torch.tensor(math.nan), model, images, epoch, index)
    elapsed = time.perf_counter() - start
    val_loss, val_right = evaluate(model, loaders.val, precision)
    # The last step's update is judged by no training loss; a state with NaN in it must not be kept.
    _check_finite(torch.tensor(val_loss), model, images, epoch, index)
    return EpochRow(
        epoch=epoch,
        train_loss=train_loss,
        train_accuracy=train_right,
        val_loss=val_loss,
        val_accuracy=val_right,
        lr=rate,
        seconds=time.perf_counter() - start,
        images_per_s=seen / elapsed,
    )


def _add_(sums: torch.Tensor, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
    right = (logits.detach().argmax(1) == labels).sum()
    sums += torch.stack((loss.detach().double() * len(labels), right.double()))


@torch.no_grad()
def evaluate(model: nn.Module, loader: Loader, precision: str = "fp32") -> tuple[float, float]:
    """Mean cross-entropy and accuracy (share of right answers) over `loader`; the model is left in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    seen = 0
    for images, labels in loader:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        logits = logits.float()
        _add_(sums, functional.cross_entropy(logits, labels), logits, labels)
        seen += len(labels)
    loss, right = (sums / max(seen, 1)).tolist()
    return loss, right


def _check_finite(loss: torch.Tensor, model: nn.Module, images: torch.Tensor, epoch: int, index: int) -> None:
    if bool(loss.isfinite()):
        return
    layer = first_bad_layer(model, images)
    kept = f"the state after epoch {epoch - 1} is kept" if epoch > 1 else "no epoch was finished"
    raise TrainingError(
        f"the loss is {float(loss.detach()):g} in epoch {epoch}, step {index + 1}; first bad layer: {layer}; {kept}. "
        "Lower --lr or use --precision fp32, with --overwrite or another --out"
    )
