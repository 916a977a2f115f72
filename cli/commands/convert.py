"""`ntksap convert SOURCE... TARGET`: any checkpoint into any other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ntksap_export.cli.options import Quiet

Sources = Annotated[
    list[Path],
    typer.Argument(
        help="Checkpoints, run directories, folders of timm, Hugging Face or compressed-tensors, .onnx files, or "
        "directories of such",
        show_default=False,
    ),
]
Target = Annotated[
    str, typer.Argument(help="What to write; for several sources, or with a slash at its end, a directory")
]
Formats = Literal[
    "ntksap", "safetensors", "torch", "torch-prune", "compressed-tensors", "npz", "onnx", "onnx-sparse"
]  # fmt: skip
To = Annotated[
    Formats | None,
    typer.Option(help="What to write. Default: by TARGET's suffix, .safetensors being ntksap", show_default=False),
]
Dtype = Annotated[
    Literal["float32", "float16", "bfloat16"] | None,
    typer.Option(help="Of floating tensors; what would overflow is refused", show_default=False),
]
EncodingName = Annotated[
    str, typer.Option("--encoding", help="ntksap: one of its encodings, or auto: the smallest for each tensor")
]
MaskFile = Annotated[
    Path | None,
    typer.Option("--mask", help="A mask.safetensors, or a checkpoint whose masks are taken", show_default=False),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="In floating tensors of two or more axes, |w| below it becomes 0 and pruned, the rest kept; NaN stays",
        show_default=False,
    ),
]
Prefix = Annotated[str, typer.Option(help="Take it from the beginning of every name", show_default=False)]
Sparse24 = Annotated[
    bool,
    typer.Option(
        "--sparse-24", help="compressed-tensors: its 2:4 layout, for masks that are 2:4 or whole in each layer"
    ),
]
MaxShardSize = Annotated[
    str | None,
    typer.Option(
        help="ntksap: begin another file before one grows beyond this (5GB, 500MB); an index beside binds them",
        show_default=False,
    ),
]
Check = Annotated[bool, typer.Option("--check/--no-check", help="Read again and compare every bit before replacing")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Go on after a file that failed")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Files at a time, each in a process")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one line of JSON per file on standard output")]


def convert(
    sources: Sources,
    target: Target,
    to: To = None,
    dtype: Dtype = None,
    encoding: EncodingName = "auto",
    mask: MaskFile = None,
    threshold: Threshold = None,
    prefix: Prefix = "",
    sparse_24: Sparse24 = False,
    max_shard_size: MaxShardSize = None,
    check: Check = True,
    keep_going: KeepGoing = False,
    jobs: Jobs = 1,
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Convert checkpoints into another format, bit by bit; formats are found by content.

    A second run does nothing where source, flags and output are what they were. A file that fails leaves its output as
    it was. The exit code is 0 if all succeeded, else that of the first failure.
    """
    import sys

    from ntksap_export.cli import console, texts
    from ntksap_export.errors import ConfigError
    from ntksap_export.pipeline import convert as work
    from ntksap_export.ranges import read_bytes

    try:
        shard_bytes = None if max_shard_size is None else read_bytes(max_shard_size)
    except ValueError as error:
        raise ConfigError(f"--max-shard-size {error}") from error
    options = work.ConvertOptions(to, dtype, encoding, mask, threshold, prefix, sparse_24, check, shard_bytes)
    progress = console.make_progress(quiet)
    exit_code = 0
    for outcome in work.convert(work.plan(sources, target, options), options, jobs, keep_going, progress):
        exit_code = exit_code or outcome.exit_code
        for note in outcome.notes:
            progress.say(note)
        if outcome.error is not None:
            print(f"error: {outcome.error}", file=sys.stderr, flush=True)
        if json:
            console.print_json_line(outcome.to_json())
        elif outcome.error is None:
            print(texts.converted_text(outcome.to_json()), flush=True)
    if exit_code:
        raise typer.Exit(exit_code)
