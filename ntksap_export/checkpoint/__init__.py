"""Checkpoints: a pruned network on disk, as small as its mask allows; safe to read."""

from ntksap_export.checkpoint.mask_file import load_mask, save_mask
from ntksap_export.checkpoint.provenance import Provenance, library_versions
from ntksap_export.checkpoint.reader import CheckpointReader, open_checkpoint
from ntksap_export.checkpoint.size_report import SizeReport, SizeRow
from ntksap_export.checkpoint.source import Source
from ntksap_export.checkpoint.sparse_checkpoint import SparseCheckpoint, describe
from ntksap_export.checkpoint.weights import load_weights_, read_weights, save_weights, weights_digest
from ntksap_export.checkpoint.write import write_checkpoint

__all__ = [
    "CheckpointReader",
    "Provenance",
    "SizeReport",
    "SizeRow",
    "Source",
    "SparseCheckpoint",
    "describe",
    "library_versions",
    "load_mask",
    "load_weights_",
    "open_checkpoint",
    "read_weights",
    "save_mask",
    "save_weights",
    "weights_digest",
    "write_checkpoint",
]
