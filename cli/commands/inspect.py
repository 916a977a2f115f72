"""`ntksap inspect FILE_OR_DIR`: what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntksap_export.cli.options import Json

Target = Annotated[
    Path,
    typer.Argument(help="A run directory, a .safetensors checkpoint or mask, or an .onnx", show_default=False),
]


def inspect(target: Target, json: Json = False) -> None:
    """Show tensors, encodings, bytes, sparsity and provenance of a file, or the state of a run directory."""
    from ntksap_export.cli import console, texts
    from ntksap_export.pipeline import inspect_path

    result = inspect_path(target)
    console.print_json(result) if json else print(texts.inspect_text(result))
