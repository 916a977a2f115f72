"""Files of a run that several modules name, and the one that another run starts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from ntksap_export.errors import CheckpointError

CHANNELS: Final = "channels.json"  # which channels stay, where whole ones were removed
START: Final = "start.safetensors"  # what training starts from, where a search found the mask


def weights_file(path: Path) -> Path:
    """The file that `--weights` means: itself, or of a run's directory the network that was trained there.

    Raises:
        CheckpointError: a directory that holds none, or one with fewer channels than its model has.
    """
    if not path.is_dir():
        return path
    file = path / "model.safetensors"
    if not (file.is_file() and (path / "config.json").is_file()):
        raise CheckpointError(
            f"weights '{path}': a directory without a trained run; name a file, or a directory that `ntksap train` "
            "finished"
        )
    if _is_slim(path):
        raise CheckpointError(
            f"weights '{path}': that run removed whole channels, which the model still has; start from the run "
            "before it"
        )
    return file


def _is_slim(path: Path) -> bool:
    """Whether a run's network has fewer channels than its model; a broken file says nothing, the weights then will."""
    try:
        told = json.loads((path / "mask.json").read_text(encoding="utf-8"))["channels"]
        return bool(told and told["kept"] < told["channels"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
