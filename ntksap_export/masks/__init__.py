"""Masks: which weights live, how many, and whether the network that is left can still learn."""

from ntksap_export.masks.counting import LayerCost, LayerRow, MaskTable, fan_in, layer_costs, mask_table
from ntksap_export.masks.health import MaskHealth, mask_health
from ntksap_export.masks.mask import Mask, prunable_names
from ntksap_export.masks.patterns import Block, NofM, Pattern, Unstructured, parse_pattern, split_pattern
from ntksap_export.masks.structure import Structure, find_structure
from ntksap_export.masks.text import format_channels, format_health, format_table
from ntksap_export.masks.torch_prune import from_torch_prune, to_torch_prune_

__all__ = [
    "Block",
    "LayerCost",
    "LayerRow",
    "Mask",
    "MaskHealth",
    "MaskTable",
    "NofM",
    "Pattern",
    "Structure",
    "Unstructured",
    "fan_in",
    "find_structure",
    "format_channels",
    "format_health",
    "format_table",
    "from_torch_prune",
    "layer_costs",
    "mask_health",
    "mask_table",
    "parse_pattern",
    "prunable_names",
    "split_pattern",
    "to_torch_prune_",
]
