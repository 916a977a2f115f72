"""`ntksap train DIR`: train what the mask keeps."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ntksap_export.cli import options
from ntksap_export.cli.options import Json, Overwrite, Quiet, Resume, RunPath


def _show(name: str | None) -> None:
    if name is not None:
        from ntksap_export import recipes

        typer.echo(recipes.text(name), nl=False)
        raise typer.Exit


ShowRecipe = Annotated[
    str | None,
    typer.Option(
        "--show-recipe",
        callback=_show,
        is_eager=True,
        metavar="NAME",
        help="Print a recipe's file and do nothing else",
        show_default=False,
    ),
]


@options.takes(
    "recipe", "weights", "data", "data_dir", "download", "broken_images", "device", "threads", "workers", *options.TRAIN
)
def train(
    directory: RunPath,
    overwrite: Overwrite = False,
    resume: Resume = False,
    show_recipe: ShowRecipe = None,  # noqa: ARG001 - its callback does all
    json: Json = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Train under the mask that `ntksap prune` wrote; an interrupted training goes on."""
    from ntksap_export.cli.settings import check_resume, run_one

    check_resume(directory, "train", resume, overwrite)
    run_one("train", directory, settings, json, quiet, overwrite=overwrite)
