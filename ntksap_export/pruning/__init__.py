"""Pruning at initialization: scorers, schedule, exact selection."""

from ntksap_export.pruning.budget import Budget, exponential_densities
from ntksap_export.pruning.controls import reinit_seed, shuffled
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.prune import prune, resolve_keep_dense
from ntksap_export.pruning.scorers import SCORERS, Scorer, Scores, make_scorer
from ntksap_export.pruning.scorers.ntksap import NtkSap
from ntksap_export.pruning.select import keep_best

__all__ = [
    "SCORERS",
    "Budget",
    "NtkSap",
    "Scorer",
    "Scores",
    "ScoringInputs",
    "exponential_densities",
    "keep_best",
    "make_scorer",
    "prune",
    "reinit_seed",
    "resolve_keep_dense",
    "shuffled",
]
