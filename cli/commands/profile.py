"""`ntksap profile TARGET`: latency and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntksap_export.cli import options
from ntksap_export.cli.options import Json, Quiet

Target = Annotated[Path, typer.Argument(help="An output directory of ntksap, or an .onnx file", show_default=False)]
Save = Annotated[Path | None, typer.Option("--out", help="For an .onnx: write the rows with raw times here as JSON")]
ImageSize = Annotated[int | None, typer.Option(help="For an .onnx whose input size is not fixed", show_default=False)]


@options.takes(
    *options.PROFILE,
    rename={name: name.removeprefix("profile_") for name in options.PROFILE},
)
def profile(
    target: Target,
    out: Save = None,
    image_size: ImageSize = None,
    json: Json = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Measure latency and memory of the sparse network beside its dense twin, each in a fresh process."""
    from ntksap_export.cli import console, texts
    from ntksap_export.cli.options import given
    from ntksap_export.cli.settings import run_one
    from ntksap_export.errors import ConfigError
    from ntksap_export.pipeline import latency_row, profile_graph

    if target.is_dir():
        if out is not None or image_size is not None:
            raise ConfigError("--out and --image-size go with an .onnx file; a run directory knows both")
        run_one("profile", target, settings, json, quiet)
        return
    result = profile_graph(target, given(settings), image_size, out, console.make_progress(quiet))
    if json:
        console.print_json(result)
    else:
        print("\n".join(texts.latency_table([latency_row(cell) for cell in result["cells"]])))
