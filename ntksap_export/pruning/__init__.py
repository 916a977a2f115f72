"""Pruning at initialization: scorers, schedule, exact selection."""

from ntksap_export.pruning.budget import Budget, exponential_shares
from ntksap_export.pruning.channel_plan import ChannelPlan
from ntksap_export.pruning.controls import reinit_seed, shuffled
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.limits import Limits, find_limits, left_whole, resolve_layers
from ntksap_export.pruning.prune import prune
from ntksap_export.pruning.scorers import SCORERS, Scorer, Scores, check_pattern, make_scorer
from ntksap_export.pruning.scorers.ntksap import NtkSap
from ntksap_export.pruning.select import keep_best
from ntksap_export.pruning.structured import check_channels, prune_channels

__all__ = [
    "SCORERS",
    "Budget",
    "ChannelPlan",
    "Limits",
    "NtkSap",
    "Scorer",
    "Scores",
    "ScoringInputs",
    "check_channels",
    "check_pattern",
    "exponential_shares",
    "find_limits",
    "keep_best",
    "left_whole",
    "make_scorer",
    "prune",
    "prune_channels",
    "reinit_seed",
    "resolve_layers",
    "shuffled",
]
