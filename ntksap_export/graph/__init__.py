"""ONNX graphs: export, passes, twins."""

from ntksap_export.graph.export import check_zeros, export
from ntksap_export.graph.model import INPUT_NAME, OUTPUT_NAME, Graph
from ntksap_export.graph.passes import PASSES, optimize
from ntksap_export.graph.twin import dense_twin, weight_sparsity

__all__ = [
    "INPUT_NAME",
    "OUTPUT_NAME",
    "PASSES",
    "Graph",
    "check_zeros",
    "dense_twin",
    "export",
    "optimize",
    "weight_sparsity",
]
