"""`ntksap list models|methods|data|recipes|passes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ntksap_export.cli.options import Json

if TYPE_CHECKING:
    from ntksap_export.pruning.scorers.table import ScorerInfo
    from ntksap_export.search.table import SearchInfo

What = Annotated[
    Literal["models", "methods", "data", "recipes", "passes"],
    typer.Argument(help="models, methods, data, recipes or passes"),
]


def list_(what: What, json: Json = False) -> None:
    """List what can be named: models, methods, kinds of data, recipes, graph passes."""
    from ntksap_export.cli import console
    from ntksap_export.cli.columns import aligned

    if what == "recipes":
        table = _recipes()
        header = ("recipes", "model", "data", "epochs", "what it is")
        lines = aligned(header, [tuple(map(str, row.values())) for row in table], "<<<><")
    elif what == "methods":
        table = _methods()
        lines = aligned(("methods", "for", "what it is"), [tuple(row.values()) for row in table], "<<<")
    else:
        rows = _ROWS[what]()
        table = [{"name": name, "summary": text} for name, text in rows]
        lines = aligned((what, "what it is"), rows, "<<")
    console.print_json(table) if json else print("\n".join(lines))


def _recipes() -> list[dict[str, Any]]:
    from ntksap_export import recipes

    keys = ("model", "data", "epochs")
    return [
        {"name": name, **{key: recipes.read(name).get(key, "any") for key in keys}, "summary": recipes.summary(name)}
        for name in recipes.names()
    ]


def _models() -> list[tuple[str, str]]:
    from ntksap_export.models import MODELS

    return [
        (
            name,
            f"{entry.summary}; {entry.image_size}x{entry.image_size}{', --stem cifar' if entry.stems else ''}",
        )
        for name, entry in MODELS.items()
    ] + list(_FOREIGN)


def _methods() -> list[dict[str, str]]:
    """Those for networks as they are drawn first, then those for trained ones, then those that train by themselves."""
    from ntksap_export.pruning.scorers.table import SCORERS
    from ntksap_export.search.table import SEARCHES

    scored = [
        {"name": name, "kind": entry.kind, "summary": _summary(entry)}
        for kind in ("initialization", "trained")
        for name, entry in SCORERS.items()
        if entry.kind == kind
    ]
    return scored + [
        {"name": name, "kind": "search", "summary": f"{entry.summary}; trains{_only(entry)}"}
        for name, entry in SEARCHES.items()
    ]


def _only(entry: SearchInfo) -> str:
    if not entry.weights:
        return "; --pattern channel only"
    return "" if entry.channels else "; single weights only"


def _summary(entry: ScorerInfo) -> str:
    only = "; --pattern channel only" if entry.filters else ""
    return f"{entry.summary}; {'reads images and labels' if entry.needs_data else 'needs no data'}{only}"


def _data() -> list[tuple[str, str]]:
    from ntksap_export.data import describe_sources

    return list(describe_sources())


def _passes() -> list[tuple[str, str]]:
    from ntksap_export.graph import PASSES, pass_summary

    return [(name, pass_summary(name)) for name in PASSES]


_FOREIGN = (
    ("torchvision:NAME", "a classifier of torchvision, with its own initialization; needs the extra `vision`"),
    ("timm:NAME", "a classifier of timm, with its own initialization; needs the extra `timm`"),
    ("package.module:factory", "your own: called with num_classes if it takes it, returns an nn.Module"),
)
_ROWS = {"models": _models, "data": _data, "passes": _passes}
