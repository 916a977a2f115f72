"""The cells of a sweep: every method, pattern and sparsity under otherwise equal settings, and the dense network.

A pattern n:m brings its own sparsity and gives one cell, whatever sparsities are listed; so does `channel` where a
share of the channels of each group is given. What two settings of a cell
say against each other skips that cell, with the reason; if it is wrong in all of them, it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ntksap_export import recipes
from ntksap_export.config import RunConfig, make_config
from ntksap_export.errors import ConfigError
from ntksap_export.latency_budget import LatencyBudget
from ntksap_export.masks import split_pattern
from ntksap_export.pipeline.methods import check_method, check_name
from ntksap_export.pipeline.precisions import PRECISIONS
from ntksap_export.ranges import check_sparsity

SPARSITIES: Final = (0.8, 0.9, 0.95)
DENSE: Final = "dense"
_AXES: Final = ("method", "pattern", "sparsity")
_OTHER_BUDGETS: Final = ("params", "flops", "budget")
# Sparsity 0 through the same stages; what would bind or shuffle the mask has nothing to do there.
_DENSE_VALUES: Final[dict[str, Any]] = {
    "method": "magnitude", "pattern": "unstructured", "sparsity": 0.0, "flops": None, "params": None, "budget": None,
    "latency_table": None, "rounds": 1, "steps": 1,
    "scope": "global", "min_layer_density": 0.0, "keep_dense": (), "control": "none",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axes:
    """What is swept.

    Attributes:
        methods: names of scorers.
        patterns: as `--pattern` has them.
        sparsities: in (0, 1); empty where another budget says how much stays.
        precisions: of the graphs, of `fp32`, `fp16`, `int8`.
    """

    methods: tuple[str, ...]
    patterns: tuple[str, ...]
    sparsities: tuple[float, ...]
    precisions: tuple[str, ...]

    def to_json(self) -> dict[str, list[Any]]:
        """As it stands in sweep.json; the pattern's own sparsity is not listed."""
        return {
            "method": list(self.methods),
            "pattern": list(self.patterns),
            "sparsity": list(self.sparsities),
            "precision": list(self.precisions),
        }


@dataclass(frozen=True, slots=True)
class Cell:
    """One network of a sweep.

    Attributes:
        name: of its directory.
        method: of its mask.
        pattern: of its mask.
        sparsity: that is asked for, 0 of the dense one; None where another budget says how much stays.
        config: its settings; None if they contradict each other.
        reason: why it is skipped, or None.
    """

    name: str
    method: str
    pattern: str
    sparsity: float | None
    config: RunConfig | None
    reason: str | None = None


def read_axes(settings: Mapping[str, Any], precisions: Iterable[str] | None) -> Axes:
    """The axes out of settings whose `method`, `pattern` and `sparsity` may each be one value or several.

    Raises:
        ConfigError: an unknown name, a value out of range, or sparsities that nothing would take.
    """
    laid = recipes.lay_under(settings, None)
    methods = _several(laid.get("method", RunConfig.model_fields["method"].default))
    patterns = _several(laid.get("pattern", RunConfig.model_fields["pattern"].default))
    given = _several(laid.get("sparsity"))
    for method in methods:
        check_name(method)
    for pattern in patterns:
        split_pattern(pattern)
    for sparsity in given:
        if isinstance(sparsity, bool) or not isinstance(sparsity, int | float):
            raise ConfigError(f"sparsity takes numbers; got {sparsity!r}")
        check_sparsity(sparsity)
    sparsities = tuple(float(sparsity) for sparsity in given if sparsity)  # 0 is the dense network, which always runs
    if given and not sparsities:
        raise ConfigError("sparsity 0 is the dense network, which is always among the cells; name others")
    other_budget = any(laid.get(key) is not None for key in _OTHER_BUDGETS)
    own = [_own_share(pattern) is not None or _takes_channel_share(laid, pattern) for pattern in patterns]
    if "sparsity" in settings and settings["sparsity"] is not None and all(own):
        raise ConfigError(
            f"--sparsity applies to none of the patterns {', '.join(patterns)}, which bring their own; leave it away"
        )
    return Axes(
        methods, patterns, sparsities or (() if other_budget else SPARSITIES), _read_precisions(laid, precisions)
    )


def list_cells(settings: Mapping[str, Any], axes: Axes) -> tuple[Cell, ...]:
    """The dense network and all cells, in the order in which they run.

    Args:
        settings: keys of `RunConfig`, the same in every cell; the axes' own are not looked at.
        axes: what differs.

    Raises:
        ConfigError: settings that are wrong in every cell.
    """
    common = {key: value for key, value in settings.items() if key not in _AXES}
    common |= {precision: precision in axes.precisions for precision in PRECISIONS}
    dense = Cell(DENSE, _DENSE_VALUES["method"], "unstructured", 0.0, _config(common, _DENSE_VALUES))
    cells = [
        _cell(common, method, pattern, sparsity)
        for method in axes.methods
        for pattern in axes.patterns
        for sparsity in (
            (None,) if _own_share(pattern) or _takes_channel_share(common, pattern) else axes.sparsities or (None,)
        )
    ]
    check_some(cells)
    return (dense, *cells)


def check_some(cells: Iterable[Cell]) -> None:
    """Refuse a sweep of which nothing but the dense network would run.

    Raises:
        ConfigError: what is wrong with the first cell.
    """
    reasons = [cell.reason for cell in cells if cell.name != DENSE]
    if reasons and None not in reasons:
        raise ConfigError(str(reasons[0]))


def _cell(common: Mapping[str, Any], method: str, pattern: str, sparsity: float | None) -> Cell:
    own = {"method": method, "pattern": pattern, "sparsity": sparsity}
    shown = sparsity
    if sparsity is None and all(common.get(key) is None for key in _OTHER_BUDGETS):
        shown = None if (share := _own_share(pattern)) is None else 1 - share
    try:
        config = _config(common, own)
        check_method(config)
    except ConfigError as error:
        return Cell(_name(common, method, pattern, shown), method, pattern, shown, None, str(error))
    return Cell(_name(common, method, pattern, shown), method, pattern, shown, config)


def _config(common: Mapping[str, Any], own: Mapping[str, Any]) -> RunConfig:
    """The settings of a cell, over the recipe as it is for that cell's pattern."""
    recipe = recipes.read(str(common["recipe"])) if common.get("recipe") else {}
    usual = {key: recipe.get(key, RunConfig.model_fields[key].default) for key in own}
    laid = recipes.lay_under({**common, **{key: value for key, value in own.items() if value != usual[key]}}, None)
    channels, pattern = split_pattern(own["pattern"])
    if not channels:  # what is said of channels is meant for the cells that have some
        laid.pop("round_to", None)
    if not channels or (pattern is None and not _takes_channel_share(laid, own["pattern"])):
        laid.pop("channel_sparsity", None)
    return make_config({**laid, **own})


def _takes_channel_share(settings: Mapping[str, Any], pattern: str) -> bool:
    """Whether `channel_sparsity` is all that bounds the cells of this pattern; see `RunConfig.channel_share`."""
    laid = recipes.lay_under(settings, None)
    return pattern == "channel" and laid.get("scope") == "layer" and laid.get("channel_sparsity") is not None


def _own_share(pattern: str) -> float | None:
    """The share of weights that a pattern keeps by itself; None if the budget says it."""
    channels, rest = split_pattern(pattern)
    return rest.share if not channels and rest is not None and rest.caps else None


def _name(common: Mapping[str, Any], method: str, pattern: str, sparsity: float | None) -> str:
    parts = [method, pattern.replace(":", "of")]
    if sparsity is not None:
        parts.append(f"{sparsity}")
    parts += [f"{key}{common[key]}" for key in ("params", "flops") if common.get(key) is not None]
    if _takes_channel_share(common, pattern):
        parts.append(f"channels{recipes.lay_under(common, None)['channel_sparsity']}")
    if common.get("budget") is not None:
        parts.append(f"latency{LatencyBudget.parse(common['budget']).ms:g}ms")
    return "-".join(parts)


def _several(value: Any) -> tuple[Any, ...]:
    """One value or several as a tuple without what is there twice."""
    if value is None:
        return ()
    return tuple(dict.fromkeys(value if isinstance(value, list | tuple) else (value,)))


def _read_precisions(settings: Mapping[str, Any], precisions: Iterable[str] | None) -> tuple[str, ...]:
    known = ("fp32", *PRECISIONS)
    if precisions is None:
        return ("fp32", *(name for name in PRECISIONS if settings.get(name)))
    asked = tuple(dict.fromkeys(precisions))
    if not asked or set(asked) - set(known):
        raise ConfigError(f"--precision takes {', '.join(known)}, by commas; got '{','.join(asked)}'")
    if settings.get("engine") and "fp32" not in asked:
        raise ConfigError(f"--engine is for graphs in float32; got --precision {','.join(asked)}, add fp32 to it")
    return tuple(name for name in known if name in asked)
