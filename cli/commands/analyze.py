"""`ntksap analyze DIR|MODEL`: tangent kernel, dynamical isometry and structure, before and after training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ntksap_export.cli import options
from ntksap_export.cli.options import Json, Quiet

Target = Annotated[
    str,
    typer.Argument(
        metavar="DIR|MODEL",
        help="A run directory: its network before, along and after training; or a model by name, as for prune",
        show_default=False,
    ),
]
Masks = Annotated[
    list[Path] | None,
    typer.Option(
        "--mask", help="A mask.safetensors, or a checkpoint with masks, to look at beside; may be repeated",
        show_default=False,
    ),
]  # fmt: skip
Images = Annotated[int, typer.Option("--images", help="How many images")]
Real = Annotated[
    bool | None,
    typer.Option(
        "--real/--noise", help="Images of the data, or noise. Default: real for a run and with --data, else noise",
        show_default=False,
    ),
]  # fmt: skip
Form = Annotated[
    str,
    typer.Option(help="NTK of the sum of the logits (sum), one of each logit by itself (classes), or of all (full)"),
]
Only = Annotated[
    str | None,
    typer.Option(help="Parts by commas: ntk, trace, isometry, structure. Default: all", show_default=False),
]
Way = Annotated[
    str,
    typer.Option(
        help="Singular values of the Jacobian: exact, lanczos, randomized; auto: exact up to 256 logits, else lanczos"
    ),
]
Memory = Annotated[str, typer.Option(help="What each part may take beside the network, as 500MB or 2GiB")]
Seeds = Annotated[int, typer.Option(help="Initializations to draw, from --seed on; numbers are their means")]
Probes = Annotated[int, typer.Option(help="Random vectors of the trace's estimate")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Where to write. Default: DIR itself, or runs/analysis-MODEL", show_default=False),
]


@options.takes(*options.DATA, "init")
def analyze(
    target: Target,
    mask: Masks = None,
    images: Images = 64,
    real: Real = None,
    form: Form = "sum",
    only: Only = None,
    way: Way = "auto",
    memory: Memory = "2GiB",
    seeds: Seeds = 1,
    probes: Probes = 16,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """See why a mask trains well or badly: NTK spectrum, dynamical isometry, structure, overlap of masks.

    Writes analysis.html, .md and .json; trains nothing and changes no run.
    """
    from ntksap_export.cli import analysis_text, console
    from ntksap_export.pipeline import analysing
    from ntksap_export.report import analysis_rows
    from ntksap_export.report.text import seconds, size

    parts = analysing.PARTS if only is None else analysing.read_parts(only)
    # what is no form or way is refused there
    form_, way_ = cast("Any", form), cast("Any", way)
    asked = analysing.Asked(images, real, form_, analysing.read_memory(memory), parts, way_, seeds, probes)
    directory, progress = out or analysing.default_out(target), console.make_progress(quiet)
    result = analysing.analyze(
        target, mask or [], options.given(settings), asked, directory, progress, options.as_typed(sys.argv[1:])
    )
    took = result["memory"]
    progress.say(
        f"took {seconds(result['seconds'])}; peak RSS {size(took['peak_rss_bytes'])}, "
        f"{size(took['growth_bytes'])} more than at the start; see {directory / 'analysis.html'}"
    )
    console.print_json(result) if json else print(
        analysis_text.analysis_text(result, analysis_rows(result["networks"]))
    )
