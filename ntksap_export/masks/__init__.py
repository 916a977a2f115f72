"""Masks: which weights live, how many, and whether the network that is left can still learn."""

from ntksap_export.masks.counting import LayerCost, LayerRow, MaskTable, layer_costs, mask_table
from ntksap_export.masks.health import MaskHealth, mask_health
from ntksap_export.masks.mask import Mask, prunable_names
from ntksap_export.masks.text import format_health, format_table

__all__ = [
    "LayerCost",
    "LayerRow",
    "Mask",
    "MaskHealth",
    "MaskTable",
    "format_health",
    "format_table",
    "layer_costs",
    "mask_health",
    "mask_table",
    "prunable_names",
]
