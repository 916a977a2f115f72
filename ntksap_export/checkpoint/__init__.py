"""Checkpoints: a pruned network on disk, as small as its mask allows; safe to read."""

from ntksap_export.checkpoint.mask_file import load_mask, save_mask
from ntksap_export.checkpoint.provenance import Provenance, library_versions
from ntksap_export.checkpoint.size_report import SizeReport, SizeRow
from ntksap_export.checkpoint.sparse_checkpoint import SparseCheckpoint, describe
from ntksap_export.checkpoint.weights import load_weights_, read_weights, weights_digest

__all__ = [
    "Provenance",
    "SizeReport",
    "SizeRow",
    "SparseCheckpoint",
    "describe",
    "library_versions",
    "load_mask",
    "load_weights_",
    "read_weights",
    "save_mask",
    "weights_digest",
]
