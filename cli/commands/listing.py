"""`ntksap list models|methods|data`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ntksap_export.cli.options import Json

What = Annotated[Literal["models", "methods", "data"], typer.Argument(help="models, methods or data")]


def list_(what: What, json: Json = False) -> None:
    """List what can be named: models, methods, kinds of data."""
    from ntksap_export.cli import console, texts

    rows = _ROWS[what]()
    if json:
        console.print_json([{"name": name, "summary": text} for name, text in rows])
        return
    print("\n".join(texts.aligned((what, "what it is"), rows, "<<")))


def _models() -> list[tuple[str, str]]:
    from ntksap_export.models import MODELS

    return [
        (
            name,
            f"{entry.summary}; {entry.image_size}x{entry.image_size}{', --stem cifar' if entry.stems else ''}",
        )
        for name, entry in MODELS.items()
    ] + list(_FOREIGN)


def _methods() -> list[tuple[str, str]]:
    from ntksap_export.pruning.scorers.table import SCORERS

    return [
        (name, f"{entry.summary}; {'reads images and labels' if entry.needs_data else 'needs no data'}")
        for name, entry in SCORERS.items()
    ]


def _data() -> list[tuple[str, str]]:
    from ntksap_export.data import describe_sources

    return list(describe_sources())


_FOREIGN = (
    ("torchvision:NAME", "a classifier of torchvision, with its own initialization; needs the extra `vision`"),
    ("timm:NAME", "a classifier of timm, with its own initialization; needs the extra `timm`"),
    ("package.module:factory", "your own: called with num_classes if it takes it, returns an nn.Module"),
)
_ROWS = {"models": _models, "methods": _methods, "data": _data}
