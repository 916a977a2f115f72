"""`ntksap train DIR`: train what the mask keeps."""

from __future__ import annotations

from typing import Any

from ntksap_export.cli import options
from ntksap_export.cli.options import Json, Overwrite, RunPath


@options.takes(
    "weights", "data", "data_dir", "download", "broken_images", "device", "threads", "workers", *options.TRAIN
)
def train(directory: RunPath, overwrite: Overwrite = False, json: Json = False, **settings: Any) -> None:
    """Train under the mask that `ntksap prune` wrote; an interrupted training goes on."""
    from ntksap_export.cli.settings import run_one

    run_one("train", directory, settings, json, overwrite=overwrite)
