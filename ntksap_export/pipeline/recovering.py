"""What `--recover` does in a run: recover the network that training starts from, and measure what that did.

Measured is the mean singular value of the input-output Jacobian (mean JSV) on a few noise images, before and after; the
statistics of BatchNorm are those of these images both times, since those of neither network are known yet.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from ntksap_export.analysis.isometry import isometry_of, jacobian_values
from ntksap_export.analysis.settled import settled
from ntksap_export.config import RunConfig
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.progress import Progress
from ntksap_export.recovery import Recovered, recover_

IMAGES: Final = 8
# Above so many outputs the values are estimated, from so many steps of Lanczos per image.
_EXACT_OUTPUTS: Final = 256
_LANCZOS_VALUES: Final = 16


def recover_start_(
    model: nn.Module,
    mask: Mask,
    config: RunConfig,
    shape: tuple[int, int, int],
    device: torch.device,
    progress: Progress,
) -> dict[str, Any]:
    """Recover `model` in place, as `config.recover` says; every process of a group comes to the same.

    Args:
        model: on the CPU, where it is again afterwards; `device` computes.
        mask: of the model.
        config: complete.
        shape: (C, H, W) of its input.
        device: of the run.
        progress: says what was done.

    Returns:
        `recovery` of metrics.json: what `Recovered.to_json` gives, and `before` and `after`, each an `Isometry` as
        JSON, or both None and the reason as `skipped`.

    Raises:
        ConfigError: the mask prunes single weights, and `orthp` is asked.
    """
    model.to(device)
    mask.apply_(model)
    before = _isometry(model, config, shape)
    done = recover_(model, mask, config.recover, shape, seed=config.seed, progress=progress)
    after = _isometry(model, config, shape) if isinstance(before, dict) else before
    model.cpu()
    _tell(done, before, after, progress)
    if isinstance(before, str) or isinstance(after, str):
        reason = before if isinstance(before, str) else after
        return {**done.to_json(), "before": None, "after": None, "skipped": reason}
    return {**done.to_json(), "before": before, "after": after, "skipped": None}


def _isometry(model: nn.Module, config: RunConfig, shape: tuple[int, int, int]) -> dict[str, Any] | str:
    """The singular values of the Jacobian in short; or why there are none."""
    generator = torch.Generator().manual_seed(config.seed)
    images = torch.randn(IMAGES, *shape, generator=generator).to(next(model.parameters()).device)
    assert config.num_classes is not None
    count = None if config.num_classes <= _EXACT_OUTPUTS else _LANCZOS_VALUES
    try:
        return isometry_of(jacobian_values(settled(model, images), images, count=count)).to_json()
    except ConfigError as error:
        return str(error)


def _tell(done: Recovered, before: dict[str, Any] | str, after: dict[str, Any] | str, progress: Progress) -> None:
    if isinstance(before, str) or isinstance(after, str):
        progress.say(f"recover {done.how}: done; no mean JSV: {before if isinstance(before, str) else after}")
    else:
        progress.say(
            f"recover {done.how}: mean JSV {before['mean']:.4g} before, {after['mean']:.4g} after "
            f"({IMAGES} noise images)"
        )
    if done.starved:
        first = done.starved[0]
        progress.say(
            f"recover {done.how}: {len(done.starved)} of {len(done.layers)} layers have outputs or inputs without any "
            f"weight and stay no isometries: '{first.name}' has lost {first.lost} of {first.rows} singular values; a "
            "larger --min-layer-density leaves more"
        )
