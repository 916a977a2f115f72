"""`ntksap export TARGET`: write the ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntksap_export.cli import options
from ntksap_export.cli.options import Json, Quiet

Target = Annotated[
    str,
    typer.Argument(
        help="An output directory of ntksap, a checkpoint of ours, with --weights a model's name as for prune, or with "
        "--engine an .onnx of any maker",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The .onnx to write; a run directory has its own place for it", show_default=False),
]
MaskFile = Annotated[
    Path | None,
    typer.Option("--mask", help="With --weights: mask file to bake in, or a checkpoint with masks", show_default=False),
]
_OF_A_MODEL = ("weights", "num_classes", "image_size", "mean", "std", "stem", "seed")
_OF_A_RUN = ("data", "data_dir", "broken_images")
_OF_IMAGES = ("fp16", "fp16_io", "int8", "int8_keep", "int8_range", "max_drop", "calibration", "calibration_images")


@options.takes(*_OF_A_RUN, *_OF_A_MODEL, *options.EXPORT)
def export(
    target: Target, out: Out = None, mask: MaskFile = None, json: Json = False, quiet: Quiet = False, **settings: Any
) -> None:
    """Export a trained model to ONNX and compare it with torch: on real images in a run directory, else on noise."""
    from ntksap_export.cli import console, texts
    from ntksap_export.cli.options import given
    from ntksap_export.cli.settings import run_one
    from ntksap_export.errors import ConfigError
    from ntksap_export.graph import is_graph
    from ntksap_export.pipeline import engine_file, export_any

    values = given(settings)
    if Path(target).is_dir():
        foreign = [name for name in _OF_A_MODEL if name in values]
        foreign += [name for name, path in (("out", out), ("mask", mask)) if path is not None]
        if foreign:
            raise ConfigError(f"--{foreign[0].replace('_', '-')} is for a model outside a run; a run knows its own")
        run_one("export", Path(target), settings, json, quiet)
        return
    if is_graph(Path(target)) or (Path(target).is_file() and Path(target).suffix == ".onnx"):
        if mask is not None:
            raise ConfigError(f"--mask is for a model outside a run; '{target}' is a graph already")
        result = engine_file(Path(target), values, out, console.make_progress(quiet))
        console.print_json(result) if json else print(texts.export_text(result))
        return
    if out is None and (Path(target).is_file() or "weights" in values or ":" in target):
        raise ConfigError("--out FILE.onnx says where the graph goes")
    if unread := [name for name in _OF_A_RUN if name in values]:
        raise ConfigError(f"--{unread[0].replace('_', '-')} is for a run directory; here noise is compared")
    if images := [name for name in _OF_IMAGES if name in values]:
        raise ConfigError(f"--{images[0].replace('_', '-')} needs images to judge by; name a run directory")
    result = export_any(target, values, out or Path("model.onnx"), mask, console.make_progress(quiet))
    console.print_json(result) if json else print(texts.export_text(result))
