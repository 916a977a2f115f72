"""`ntksap sweep MODEL`: many networks of one model measured side by side, and the one to take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ntksap_export.cli import options
from ntksap_export.cli.options import Config, Json, Model, Overwrite, Quiet

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Directory of all cells. Default: runs/sweep-MODEL-DATA", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cells and write nothing")]
Precisions = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="Of the graphs: fp32, fp16, int8. Default: fp32. Several by commas",
        show_default=False,
        rich_help_panel="Export",
    ),
]
MaxLatency = Annotated[
    float | None, typer.Option(help="Most ms of a call, median", show_default=False, rich_help_panel="Choose")
]
MaxSize = Annotated[
    float | None, typer.Option(help="Most MB of the model's file", show_default=False, rich_help_panel="Choose")
]
MinAccuracy = Annotated[
    float | None,
    typer.Option(
        help="Least accuracy on the validation images, in [0, 1]", show_default=False, rich_help_panel="Choose"
    ),
]


@options.takes("recipe", *options.SWEEP, rename={"precision": "train_precision"}, several=options.SWEPT)
def sweep(
    model: Model = None,
    out: Out = None,
    config: Config = None,
    precisions: Precisions = None,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    min_accuracy: MinAccuracy = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Prune, train and export for each method, pattern and sparsity, and the dense network; measure all side by side.

    Writes sweep.html and sweep.json with the Pareto front and the point that meets the limits. The same command again
    takes finished cells as they are and goes on with the interrupted one; what failed is tried again.
    """
    from ntksap_export.cli import console, sweep_text
    from ntksap_export.cli.settings import load_settings, sweep_out
    from ntksap_export.pipeline import Demands, plan_sweep, sweep_exit_code
    from ntksap_export.pipeline import sweep as run_sweep

    values = load_settings(model, config, settings)
    directory = out or sweep_out(values)
    asked = None if precisions is None else tuple(name.strip() for name in precisions.split(",") if name.strip())
    demands = Demands(max_latency, None if max_size is None else max_size * 1e6, min_accuracy)
    if dry_run:
        planned = plan_sweep(values, directory, precisions=asked, overwrite=overwrite)
        console.print_json(planned) if json else print(sweep_text.plan_text(planned))
        return
    tree = run_sweep(
        values,
        directory,
        precisions=asked,
        demands=demands,
        overwrite=overwrite,
        progress=console.make_progress(quiet),
        command=options.as_typed(sys.argv[1:]),
    )
    console.print_json(tree) if json else print(sweep_text.result_text(tree, directory))
    if code := sweep_exit_code(tree):
        raise typer.Exit(code)
