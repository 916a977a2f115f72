"""The templates of this room."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(**options: Any) -> Environment:
    """Where templates are found; a name that nobody gave is an error, and tags leave no blank lines.

    Args:
        options: what else jinja2 is told, `autoescape` above all.
    """
    return Environment(
        loader=PackageLoader("ntksap_export.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
