"""Other ways to write a setting: its opposite, a short form of several, a name it had before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ntksap_export.errors import ConfigError
from ntksap_export.latency_budget import split_budget


def respelled(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which each setting has the name that `RunConfig` gives it.

    Raises:
        ConfigError: a setting is given in two ways, or this spelling of it has no such value.
    """
    own = dict(values)
    _split_budget_(own)
    _read_density_(own)
    _read_profile_seconds_(own)
    return own


def _split_budget_(values: dict[str, Any]) -> None:
    """`budget` stays where it is a latency; what else it can say has keys of its own."""
    if not isinstance(values.get("budget"), str):
        return
    for key, value in split_budget(values.pop("budget")).items():
        if key != "budget" and values.get(key) is not None:
            raise ConfigError(f"give --{key} or --budget {key}=..., not both")
        values[key] = value


def _read_density_(values: dict[str, Any]) -> None:
    density = values.pop("density", None)
    if density is None:
        return
    if values.get("sparsity") is not None:
        raise ConfigError("give --sparsity or --density, not both")
    if isinstance(density, bool) or not isinstance(density, int | float) or not 0 < density <= 1:
        raise ConfigError(f"density must be in (0, 1]; got {density}. It is the share of weights that stays")
    values["sparsity"] = 1.0 - float(density)


def _read_profile_seconds_(values: dict[str, Any]) -> None:
    """Until version 0.2 a cell was measured for `profile_seconds`, 1 unless it was given."""
    seconds = values.pop("profile_seconds", None)
    if seconds not in (None, 1.0) and not {"profile_min_time", "profile_max_time"} & values.keys():
        values |= {"profile_min_time": seconds, "profile_max_time": seconds}
