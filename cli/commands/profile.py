"""`ntksap profile TARGET...`: latency and memory, side by side; `--compare OLD NEW`: two profiles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntksap_export.cli import options
from ntksap_export.cli.options import Json, Quiet

if TYPE_CHECKING:
    from ntksap_export.progress import Progress

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET...",
        help="Run directories, .onnx files, checkpoints of ntksap, or models by name (random weights); several are "
        "measured side by side",
        show_default=False,
    ),
]
Save = Annotated[
    Path | None,
    typer.Option("--out", help="Write the result with raw times here as JSON. Default: for one run directory its own"),
]
Csv = Annotated[Path | None, typer.Option("--csv", help="Also write all cells as CSV", show_default=False)]
ImageSize = Annotated[
    int | None, typer.Option(help="Where the target does not fix the side of its input, in pixels", show_default=False)
]
Classes = Annotated[int | None, typer.Option("--num-classes", help="Of a model by name. Default: 1000")]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--compare", metavar="OLD NEW", help="Measure nothing: hold two profile.json, or run directories, together",
        show_default=False, rich_help_panel="Compare",
    ),
]  # fmt: skip
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if", metavar="CONDITION", rich_help_panel="Compare", show_default=False,
        help="Of NEW / OLD in any cell, as 'p50 > 1.05': exit code 9. Metrics: p50 p90 p95 p99 mean throughput "
        "load_delta run_peak file_size. Several with commas, or repeated",
    ),
]  # fmt: skip
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Fail too where the noise leaves it undecided, or a cell is no longer measured",
        rich_help_panel="Compare",
    ),
]  # fmt: skip


@options.takes(
    *options.PROFILE,
    rename={name: name.removeprefix("profile_") for name in options.PROFILE},
)
def profile(
    targets: Targets = None,
    out: Save = None,
    csv: Csv = None,
    image_size: ImageSize = None,
    num_classes: Classes = None,
    compare: Compare = None,
    fail_if: FailIf = None,
    strict: Strict = False,
    json: Json = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Measure latency and memory of networks beside their dense twins, each in a fresh process, in turn.

    With --compare, hold two such measurements together; one line says what came of it.
    """
    from ntksap_export.cli.options import given
    from ntksap_export.errors import ConfigError

    known = {"image_size": image_size, "num_classes": num_classes}
    asked = given(settings) | {key: value for key, value in known.items() if value is not None}
    if compare is not None:
        if targets or asked or out is not None or csv is not None:
            raise ConfigError("--compare measures nothing; leave TARGET and what belongs to measuring away")
        _compare(*compare, fail_if or [], strict, json, quiet)
        return
    if fail_if or strict:
        raise ConfigError("--fail-if and --strict belong to --compare OLD NEW")
    _measure(targets or [], asked, out, csv, json, quiet)


def _measure(
    targets: list[str], asked: dict[str, Any], out: Path | None, csv: Path | None, json: bool, quiet: bool
) -> None:
    from ntksap_export.cli import console, layer_text, profile_table
    from ntksap_export.config import pruned_name
    from ntksap_export.errors import ConfigError
    from ntksap_export.pipeline import RunDir, latency_row, profile_targets, without_raw_times, write_cells

    for file in filter(None, (out, csv)):
        if file.is_dir():
            raise ConfigError(f"'{file}' is a directory; --out and --csv name a file")
    progress, command, pruned = console.make_progress(quiet), options.as_typed(sys.argv[1:]), "sparse"
    if len(targets) == 1 and Path(targets[0]).is_dir():
        result = _measure_run(Path(targets[0]), asked, out, progress, command)
        pruned = pruned_name(RunDir(Path(targets[0])).stored_config()["pattern"])
    else:
        result = profile_targets(targets, asked, out=out, progress=progress, command=command)
    if csv is not None:
        write_cells(csv, result["cells"])
    if json:
        console.print_json(without_raw_times(result))
    else:
        rows = [latency_row(cell) for cell in result["cells"]]
        print("\n".join(profile_table.latency_table(rows, pruned, profile_table.screen(quiet))))
        if "layers" in result:
            print("\n".join(["", *layer_text.layer_tables(result["layers"], result.get("machine"), pruned)]))
    _check_measured(result["cells"])


def _check_measured(cells: list[dict[str, Any]]) -> None:
    """After the table: a command that measured nothing, or something else than was asked for, has not done its work."""
    from ntksap_export.errors import UnavailableError

    if cells and all(cell["status"] != "measured" for cell in cells):
        raise UnavailableError(f"nothing was measured: {cells[0]['reason']}")
    fallen = [cell["reason"] for cell in cells if cell.get("fallback")]
    if fallen:
        raise UnavailableError(f"{len(fallen)} of {len(cells)} cells ran as something else: {fallen[0]}")


def _measure_run(
    directory: Path, asked: dict[str, Any], out: Path | None, progress: Progress, command: str
) -> dict[str, Any]:
    """The stage of a run directory, which writes profile.json there; `out` gets another."""
    from ntksap_export.atomic import write_json
    from ntksap_export.errors import ConfigError
    from ntksap_export.pipeline import RunDir, check_backend, run_stage

    if {"image_size", "num_classes"} & asked.keys():
        raise ConfigError("a run directory knows the size of its input and its classes; leave their flags away")
    check_backend(asked)
    run_stage("profile", directory, asked, progress=progress, command=command)
    result = RunDir(directory).read_json("profile.json")
    if out is not None:
        write_json(out, result)
    return result


def _compare(old: Path, new: Path, fail_if: list[str], strict: bool, json: bool, quiet: bool) -> None:
    from ntksap_export.cli import console, profile_table
    from ntksap_export.errors import LIMIT_EXIT_CODE
    from ntksap_export.pipeline import compare_profiles

    result = compare_profiles(old, new, fail_if, strict)
    if json:
        console.print_json(result)
    else:
        if not quiet:
            print("\n".join(profile_table.comparison_table(result)), file=sys.stderr)
        print(result["line"])
    if not result["passed"]:
        raise typer.Exit(LIMIT_EXIT_CODE)
