"""What is in a file, and what two files differ in: what `ntksap inspect` does, as functions."""

from ntksap_export.pipeline.inspection.describe import inspect_path
from ntksap_export.pipeline.inspection.difference import compare_paths

__all__ = ["compare_paths", "inspect_path"]
