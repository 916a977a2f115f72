"""Any checkpoint into any other: what `ntksap convert` does, as functions."""

from ntksap_export.pipeline.convert.many import convert
from ntksap_export.pipeline.convert.one import Outcome
from ntksap_export.pipeline.convert.options import ConvertOptions
from ntksap_export.pipeline.convert.plan import Job, plan

__all__ = ["ConvertOptions", "Job", "Outcome", "convert", "plan"]
