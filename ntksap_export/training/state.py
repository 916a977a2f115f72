"""What an interrupted training needs to go on, in one file that is never half-written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ntksap_export.atomic import replacing
from ntksap_export.errors import RunDirectoryError
from ntksap_export.training.log import EpochRow


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: Sequence[EpochRow],
    fingerprint: str,
) -> None:
    """Write weights, optimizer and history after an epoch, in place of the file before."""
    content = {
        "fingerprint": fingerprint,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [asdict(row) for row in history],
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str) -> list[EpochRow]:
    """Put a saved state back; the history that belongs to it, or an empty list when there is none.

    Raises:
        RunDirectoryError: the file is broken, or belongs to a training with other settings.
        OSError: the file is there and may not be read.
    """
    if not path.exists():
        return []
    with path.open("rb") as handle:
        try:
            content: dict[str, Any] = torch.load(handle, map_location="cpu", weights_only=True)
            same = content["fingerprint"] == fingerprint
            history = [EpochRow(**row) for row in content["history"]]
            if same:
                model.load_state_dict(content["model"])
                optimizer.load_state_dict(content["optimizer"])
        # A truncated file is an OSError here, a garbled one an IndexError or whatever else the unpickler trips over.
        except Exception as error:
            raise RunDirectoryError(
                f"'{path}' cannot be read ({type(error).__name__}); delete it to train from the start"
            ) from error
    if not same:
        raise RunDirectoryError(f"'{path}' belongs to a training with other settings; pass --overwrite to start anew")
    return history
