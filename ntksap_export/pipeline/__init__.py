"""The road from a model's name to a report: the only room that knows every other."""

from ntksap_export.pipeline.cells import latency_row, write_cells
from ntksap_export.pipeline.compare import compare_methods, write_comparison
from ntksap_export.pipeline.compare_profiles import compare_profiles
from ntksap_export.pipeline.engine_file import engine_file
from ntksap_export.pipeline.export_any import export_any
from ntksap_export.pipeline.inspection import compare_paths, inspect_path
from ntksap_export.pipeline.plan import plan
from ntksap_export.pipeline.profiling import check_backend, profile_targets, without_raw_times
from ntksap_export.pipeline.ranks import process_group
from ntksap_export.pipeline.reporting import report_runs, write_document
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.road import run_road, run_stage
from ntksap_export.pipeline.run_dir import STAGES, RunDir
from ntksap_export.pipeline.summary import summary
from ntksap_export.pipeline.sweep import sweep, sweep_exit_code
from ntksap_export.pipeline.sweep_choice import Demands
from ntksap_export.pipeline.sweep_ready import plan_sweep

__all__ = [
    "STAGES",
    "Demands",
    "RunDir",
    "check_backend",
    "compare_methods",
    "compare_paths",
    "compare_profiles",
    "engine_file",
    "export_any",
    "inspect_path",
    "latency_row",
    "plan",
    "plan_sweep",
    "process_group",
    "profile_targets",
    "report_runs",
    "resolve",
    "run_road",
    "run_stage",
    "summary",
    "sweep",
    "sweep_exit_code",
    "without_raw_times",
    "write_cells",
    "write_comparison",
    "write_document",
]
