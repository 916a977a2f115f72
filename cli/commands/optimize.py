"""`ntksap optimize IN.onnx OUT.onnx`: graph passes over an ONNX file of any maker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntksap_export.cli.options import Json, Quiet

Source = Annotated[Path, typer.Argument(metavar="IN", help="An ONNX graph of any maker", show_default=False)]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="The ONNX graph to write", show_default=False)]
Passes = Annotated[
    str | None,
    typer.Option(
        help="a,b in place of the usual list, -c out of it, or none; see `ntksap list passes`. Default: all but "
        "strip_metadata",
        show_default=False,
    ),
]
Check = Annotated[bool, typer.Option("--check/--no-check", help="Compare both on noise before OUT is written")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="OUT may be IN")]
ImageSize = Annotated[int, typer.Option(min=1, help="Of the noise, where the graph leaves the size open")]


def optimize(
    source: Source,
    target: Target,
    passes: Passes = None,
    check: Check = True,
    overwrite: Overwrite = False,
    image_size: ImageSize = 32,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Clean and compact an ONNX graph: fold norms, flush subnormals, remove channels that are dead.

    What a pass does not know it leaves alone. The new graph is compared with the old one in onnxruntime; if they
    differ, nothing is written.
    """
    from ntksap_export.cli import console, texts
    from ntksap_export.pipeline.optimizing import optimize_file

    words = tuple(word.strip() for word in (passes or "").split(",") if word.strip())
    progress = console.make_progress(quiet)
    result = optimize_file(
        source, target, words, overwrite=overwrite, check=check, image_size=image_size, progress=progress
    )
    console.print_json(result) if json else print(texts.optimized_text(result))
