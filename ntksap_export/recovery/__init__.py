"""Dynamical isometry: given back to what pruning left, or given from the beginning by orthogonal draws."""

from ntksap_export.recovery.gains import layer_gains
from ntksap_export.recovery.isometry import approximate_isometry_
from ntksap_export.recovery.orthogonal import INITS, drawing, initialize_, sampler
from ntksap_export.recovery.orthp import orthogonal, orthp_
from ntksap_export.recovery.recover import RECOVERIES, Recovered, RecoveredLayer, recover_

__all__ = [
    "INITS",
    "RECOVERIES",
    "Recovered",
    "RecoveredLayer",
    "approximate_isometry_",
    "drawing",
    "initialize_",
    "layer_gains",
    "orthogonal",
    "orthp_",
    "recover_",
    "sampler",
]
