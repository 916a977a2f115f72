"""What `ntksap analyze` does, as functions: look at networks before, along and after training."""

from ntksap_export.pipeline.analysing.asked import PARTS, Asked, read_memory, read_parts
from ntksap_export.pipeline.analysing.look import analyze, default_out

__all__ = ["PARTS", "Asked", "analyze", "default_out", "read_memory", "read_parts"]
