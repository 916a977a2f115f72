"""Pictures as inline SVG: pure functions from numbers to markup, without a library."""

from ntksap_export.report.plots.axes import Axis, Key, linear, log
from ntksap_export.report.plots.bars import Bar, Group, Row, bar_chart, row_chart
from ntksap_export.report.plots.heatmap import heat_map
from ntksap_export.report.plots.intervals import Forest, Strip, forest_chart, strip_chart
from ntksap_export.report.plots.plot import Curve, Dot, Dots, Limit, plot

__all__ = [
    "Axis",
    "Bar",
    "Curve",
    "Dot",
    "Dots",
    "Forest",
    "Group",
    "Key",
    "Limit",
    "Row",
    "Strip",
    "bar_chart",
    "forest_chart",
    "heat_map",
    "linear",
    "log",
    "plot",
    "row_chart",
    "strip_chart",
]
