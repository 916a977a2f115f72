"""The road from a model's name to a report: the only room that knows every other."""

from ntksap_export.pipeline.compare import compare_methods, write_comparison
from ntksap_export.pipeline.export_any import export_any
from ntksap_export.pipeline.foreign import profile_graph
from ntksap_export.pipeline.inspection import compare_paths, inspect_path
from ntksap_export.pipeline.plan import plan
from ntksap_export.pipeline.ranks import process_group
from ntksap_export.pipeline.reporting import report_runs, write_document
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.road import run_road, run_stage
from ntksap_export.pipeline.run_dir import STAGES, RunDir
from ntksap_export.pipeline.summary import latency_row, summary

__all__ = [
    "STAGES",
    "RunDir",
    "compare_methods",
    "compare_paths",
    "export_any",
    "inspect_path",
    "latency_row",
    "plan",
    "process_group",
    "profile_graph",
    "report_runs",
    "resolve",
    "run_road",
    "run_stage",
    "summary",
    "write_comparison",
    "write_document",
]
