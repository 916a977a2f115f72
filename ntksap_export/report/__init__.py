"""What a run showed, for people: report.html and a model card, made from plain JSON alone."""

from ntksap_export.report.card import render_card
from ntksap_export.report.comparison import render_comparison
from ntksap_export.report.html import render_html
from ntksap_export.report.inputs import ReportInput
from ntksap_export.report.text import verdict

__all__ = ["ReportInput", "render_card", "render_comparison", "render_html", "verdict"]
