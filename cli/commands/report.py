"""`ntksap report DIR`: write report.html and the model card."""

from __future__ import annotations

from ntksap_export.cli.options import Json, Quiet, RunPath


def report(directory: RunPath, json: Json = False, quiet: Quiet = False) -> None:
    """Write report.html and README.md again from what the other stages left."""
    from ntksap_export.cli.settings import run_one

    run_one("report", directory, {}, json, quiet)
