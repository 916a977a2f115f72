"""`ntksap inspect FILE_OR_DIR [OTHER]`: what is in it, or what two differ in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntksap_export.cli.options import Json

Target = Annotated[
    Path,
    typer.Argument(
        help="A checkpoint of any format that convert reads, a mask, an .onnx, or a run directory", show_default=False
    ),
]
Other = Annotated[
    Path | None,
    typer.Argument(help="Compare with this one. A mask is compared with a checkpoint's masks", show_default=False),
]


def inspect(target: Target, other: Other = None, json: Json = False) -> None:
    """Show tensors, encodings, bytes, sparsity, patterns and provenance of a file, or the state of a run directory.

    With OTHER, what the two differ in. The exit code is then as that of diff: 0 if names, shapes, dtypes, masks and
    every bit of the values are the same, 1 if not, more for an error. How tensors are stored, and provenance, may
    differ.
    """
    from ntksap_export.cli import console, inspection_text
    from ntksap_export.pipeline import compare_paths, inspect_path

    if other is None:
        result = inspect_path(target)
        console.print_json(result) if json else print(inspection_text.inspect_text(result))
        return
    result = compare_paths(target, other)
    console.print_json(result) if json else print(inspection_text.difference_text(result))
    if not result["same"]:
        raise typer.Exit(1)
