"""The table of methods that train: literal strings, so that listing them imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from ntksap_export.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """One method.

    Attributes:
        target: where its function stands, `module:function`; it takes a `SearchJob` and answers with a `Found`.
        summary: what it does, for lists.
        weights: whether it takes patterns of single weights (unstructured, n:m, blocks).
        channels: whether it takes `--pattern channel`.
    """

    target: str
    summary: str
    weights: bool = True
    channels: bool = True


SEARCHES: dict[str, SearchInfo] = {
    "lottery": SearchInfo(
        "ntksap_export.search.lottery:lottery",
        "Train, remove the smallest weights, go back to early weights, repeat (Frankle et al., ICML 2020)",
    ),
    "edge-popup": SearchInfo(
        "ntksap_export.search.edge_popup:edge_popup",
        "Train scores, not weights; of each layer the highest stay (Ramanujan et al., CVPR 2020)",
        channels=False,
    ),
    "greg": SearchInfo(
        "ntksap_export.search.greg:greg",
        "A growing L2 on what L1 chose, then removal (Wang et al., ICLR 2021)",
    ),
    "tpp": SearchInfo(
        "ntksap_export.search.tpp:tpp",
        "Growing L2 that decorrelates what goes from what stays, then removal (Wang & Fu, ICLR 2023)",
        weights=False,
    ),
}
# Any scorer, with training between its rounds; what `--steps` asks for. No method of its own.
STEPS = SearchInfo("ntksap_export.search.steps:by_steps", "Score, remove a part, train, repeat")


def search_of(method: str, steps: int) -> str | None:
    """The search that a run's mask needs: a name for `run_search`, or None where choosing it trains nothing.

    Args:
        method: of the run.
        steps: its `--steps`.

    Raises:
        ConfigError: `--steps` beside a method that has steps of its own.
    """
    if method not in SEARCHES:
        return "steps" if steps > 1 else None
    if steps > 1:
        raise ConfigError(f"--steps is for methods that only score; {method} trains by itself, leave --steps away")
    return method


def check_search(name: str, pattern: str, latency: bool = False) -> SearchInfo:
    """The entry of a search, `steps` or a name of `SEARCHES`, if it can do what is asked.

    Args:
        name: of the search.
        pattern: as `--pattern` has it.
        latency: whether the budget has one.

    Raises:
        ConfigError: the search does not take such a pattern, or no latency.
    """
    info = STEPS if name == "steps" else SEARCHES[name]
    called = "--steps" if name == "steps" else f"--method {name}"
    first, plus, _ = pattern.partition("+")
    if plus:
        raise ConfigError(f"{called} takes one pattern; got {pattern}. Use --pattern channel, or one of weights")
    if first == "channel" and not info.channels:
        raise ConfigError(f"{called} chooses single weights; got --pattern channel. Use unstructured, n:m or a block")
    if first != "channel" and not info.weights:
        raise ConfigError(f"{called} removes whole channels; got --pattern {pattern}. Use --pattern channel")
    if latency:
        raise ConfigError(f"{called} does not meet a latency; use --sparsity, --params or --flops")
    return info
