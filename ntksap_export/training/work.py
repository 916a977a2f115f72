"""Everything that changes while a network is trained, how one step changes it, and its form on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ntksap_export.errors import RunDirectoryError
from ntksap_export.masks import Mask
from ntksap_export.processes import rank, world_size
from ntksap_export.training.average import Average
from ntksap_export.training.clip import clip_norm_
from ntksap_export.training.config import TrainConfig
from ntksap_export.training.masking import PrunedHandle, keep_pruned
from ntksap_export.training.mixing import MixedLabels, Targets, loss_of, mix, right_of
from ntksap_export.training.optimizers import make_optimizer
from ntksap_export.training.parallel import distribute, unsynced
from ntksap_export.training.precision import autocast_type, resolve_precision


@dataclass(slots=True, eq=False)
class Work:
    """A training at some moment.

    Attributes:
        model: the plain model, trained in place.
        runner: the same as it is called, distributed over processes.
        fast: `runner` compiled, or `runner`.
        optimizer: under `keep_pruned`.
        average: averaged weights, where there are any.
        scaler: of the loss, for fp16; idle otherwise.
        pruned: the hold on pruned weights.
        config: how to train.
        precision: fp32, bf16 or fp16.
    """

    model: nn.Module
    runner: nn.Module
    fast: Callable[[torch.Tensor], torch.Tensor]
    optimizer: torch.optim.Optimizer
    average: Average | None
    scaler: torch.amp.GradScaler
    pruned: PrunedHandle
    config: TrainConfig
    precision: str
    _size: int = 0  # images of a whole micro-batch: what `fast` is compiled for

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def judged(self) -> nn.Module:
        """The model whose answers count: the averaged one, where there is one."""
        return self.model if self.average is None else self.average.model

    def backward(
        self, images: torch.Tensor, labels: torch.Tensor, total: int, key: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient of a batch, by this process's part of it.

        It is the gradient of the mean loss over the whole batch, however many processes and micro-batches that is
        spread over.

        Args:
            images: (N, C, H, W).
            labels: int64 (N,).
            total: images of the whole batch, over all processes.
            key: of the random draws of mixup and CutMix.

        Returns:
            Sums over this part: of the loss, of right answers; on the device.
        """
        images, targets = mix(images, labels, self.config, f"{key}/{rank()}")
        self.optimizer.zero_grad(set_to_none=True)
        return self._backward(images, targets, total)

    def apply(self, rate: float, on_gradient: Callable[[], object] | None = None) -> None:
        """Make the optimizer's step, of learning rate `rate`, with the gradient of the last `backward`.

        `on_gradient` may change that gradient first: what it adds is clipped with the rest.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.config.clip_norm is not None or on_gradient is not None:
            self.scaler.unscale_(self.optimizer)
        if on_gradient is not None:
            on_gradient()
        if self.config.clip_norm is not None:
            clip_norm_(self.model, self.pruned, self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_(self.model)

    def _backward(self, images: torch.Tensor, targets: Targets, total: int) -> tuple[torch.Tensor, torch.Tensor]:
        losses, right = images.new_zeros((), dtype=torch.float64), images.new_zeros((), dtype=torch.float64)
        scale = world_size() / total
        # As many in every process, for they exchange in each; of at least two images, for BatchNorm.
        count = max(1, min(self.config.accumulate, total // world_size() // 2))
        parts = _parts(images, targets, count)
        for number, (part, wanted) in enumerate(parts):
            self._size = max(self._size, len(part))
            runner = self.fast if len(part) == self._size else self.runner
            with unsynced(self.runner, last=number == len(parts) - 1):
                with torch.autocast(part.device.type, autocast_type(self.precision), enabled=self.precision != "fp32"):
                    logits = runner(part)
                loss = loss_of(logits.float(), wanted, self.config.label_smoothing, reduction="sum")
                self.scaler.scale(loss * scale).backward()  # type: ignore[no-untyped-call]
            losses += loss.detach()
            right += right_of(logits, wanted)
        return losses, right

    def state(self) -> dict[str, Any]:
        """As stored: tensors and plain values. `model` has the weights that are judged: what others want to read."""
        return {
            "model": self.judged.state_dict(),
            "trained": None if self.average is None else self.model.state_dict(),
            "average": None if self.average is None else self.average.steps,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore_(self, state: dict[str, Any]) -> None:
        """Put a stored state back.

        Raises:
            RunDirectoryError: it is not of such a model and optimizer.
        """
        try:
            self.model.load_state_dict(state["model"] if self.average is None else state["trained"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.average is not None:
                self.average.load_state_dict({"steps": state["average"], "model": state["model"]})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunDirectoryError(
                f"the saved state does not fit this training ({type(error).__name__}); "
                "delete .ntksap/training in the output directory to train from the start"
            ) from error


def begin(model: nn.Module, mask: Mask, config: TrainConfig) -> Work:
    """Make ready to train `model` under `mask`: prune it, and make what a step needs.

    Args:
        model: on the device where it is trained; pruned weights are zeroed in place.
        mask: names and shapes of the model.
        config: how to train.

    Raises:
        CheckpointError: the mask does not fit the model.
        UnavailableError: fp16 where there is none.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next(model.parameters()).device
    precision = resolve_precision(config.precision, device)
    optimizer = make_optimizer(model, config)
    pruned = keep_pruned(optimizer, model, mask)
    runner = distribute(model, device)
    average = Average(model, config.ema) if config.ema else None
    fast: Callable[[torch.Tensor], torch.Tensor] = runner
    if config.compile != "none":
        mode = None if config.compile == "default" else config.compile
        fast = torch.compile(runner, mode=mode, dynamic=False)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    return Work(model, runner, fast, optimizer, average, scaler, pruned, config, precision)


def _parts(images: torch.Tensor, targets: Targets, count: int) -> list[tuple[torch.Tensor, Targets]]:
    """The batch in `count` micro-batches as equal as can be."""
    if count == 1:
        return [(images, targets)]
    parts = images.tensor_split(count)
    if isinstance(targets, torch.Tensor):
        return list(zip(parts, targets.tensor_split(count), strict=True))
    pairs = zip(targets.first.tensor_split(count), targets.second.tensor_split(count), strict=True)
    return [
        (part, MixedLabels(first, second, targets.share)) for part, (first, second) in zip(parts, pairs, strict=True)
    ]
