"""`ntksap export DIR`: write the ONNX graph."""

from __future__ import annotations

from typing import Any

from ntksap_export.cli import options
from ntksap_export.cli.options import Json, Quiet, RunPath


@options.takes("data", "data_dir", "broken_images", *options.EXPORT)
def export(directory: RunPath, json: Json = False, quiet: Quiet = False, **settings: Any) -> None:
    """Export the trained model to ONNX and compare it with torch on real images."""
    from ntksap_export.cli.settings import run_one

    run_one("export", directory, settings, json, quiet)
