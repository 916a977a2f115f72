"""`ntksap report DIR...`: the report of a run, or several runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntksap_export.cli.options import Json, Quiet
from ntksap_export.errors import ConfigError

Directories = Annotated[list[Path], typer.Argument(metavar="DIR...", help="One run, or two or more to compare")]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write a comparison. Default: comparison")]


def report(directories: Directories, out: Out = None, json: Json = False, quiet: Quiet = False) -> None:
    """Write report.html, .md, .json and tables as CSV again from what the other stages left; of several runs, one page.

    A comparison is written to --out: comparison.html, .md, .json and tables/*.csv.
    """
    from ntksap_export.cli import console
    from ntksap_export.cli.settings import run_one

    if len(directories) == 1:
        if out is not None:
            raise ConfigError(
                "--out is for a comparison of several runs; the report of one is written into its directory"
            )
        run_one("report", directories[0], {}, json, quiet)
        return
    from ntksap_export.pipeline import report_runs

    written = report_runs(directories, out or Path("comparison"))
    if json:
        console.print_json({"out": str(out or "comparison"), "files": [str(path) for path in written]})
    elif not quiet:
        print("\n".join(f"wrote {path}" for path in written))
