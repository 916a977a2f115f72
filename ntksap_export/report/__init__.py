"""What a run showed, for people and programs: pages, Markdown, JSON and CSV, made from plain JSON alone."""

from ntksap_export.report.analysis import analysis_rows, render_analysis
from ntksap_export.report.card import render_card
from ntksap_export.report.comparison import render_comparison
from ntksap_export.report.document import CSV_NAMES, Document, to_json
from ntksap_export.report.inputs import ReportInput
from ntksap_export.report.markdown import to_markdown
from ntksap_export.report.page import to_html
from ntksap_export.report.run import document
from ntksap_export.report.runs import Run, compare_runs
from ntksap_export.report.sweep import render_sweep
from ntksap_export.report.verdict import verdict

__all__ = [
    "CSV_NAMES",
    "Document",
    "ReportInput",
    "Run",
    "analysis_rows",
    "compare_runs",
    "document",
    "render_analysis",
    "render_card",
    "render_comparison",
    "render_sweep",
    "to_html",
    "to_json",
    "to_markdown",
    "verdict",
]
