"""How a trained network is pruned and fine-tuned where nobody says otherwise: defaults of `prune-finetune-export`.

The rate and its drops are those of the recipe `finetune` (Wang, Qin, Bai & Fu, arXiv 2105.05916; Wang & Fu, ICLR 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ntksap_export.pruning import SCORERS

USUAL: Final[dict[str, Any]] = {
    "method": "l1",
    "lr": 0.01,
    "schedule": "step",
    "milestones": (0.5, 0.75),
    "warmup_epochs": 0.0,
    "nesterov": False,
}
_OF_CHANNELS: Final = frozenset(
    {"greg", "tpp", *(name for name, entry in SCORERS.items() if entry.filters)}
)  # published for filters, or judging them


def lay_under(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what neither flag, file nor recipe says.

    Args:
        values: keys of `RunConfig`. AdamW keeps the rate that it has elsewhere.
    """
    usual = dict(USUAL)
    if values.get("optimizer", "sgd") != "sgd":
        del usual["lr"]
    if values.get("method", usual["method"]) in _OF_CHANNELS:
        usual["pattern"] = "channel"
    return {**usual, **values}
