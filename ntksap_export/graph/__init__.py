"""ONNX graphs: export, passes, twins, and their weights as a checkpoint's."""

from ntksap_export.graph.export import check_zeros, export
from ntksap_export.graph.model import INPUT_NAME, OUTPUT_NAME, Graph
from ntksap_export.graph.passes import PASSES, PassLog, optimize, pass_summary, select_passes
from ntksap_export.graph.twin import dense_twin, weight_sparsity
from ntksap_export.graph.weights import SPARSE_WARNING, Weights, densify, graph_files, is_graph, open_weights, sparsify

__all__ = [
    "INPUT_NAME",
    "OUTPUT_NAME",
    "PASSES",
    "SPARSE_WARNING",
    "Graph",
    "PassLog",
    "Weights",
    "check_zeros",
    "dense_twin",
    "densify",
    "export",
    "graph_files",
    "is_graph",
    "open_weights",
    "optimize",
    "pass_summary",
    "select_passes",
    "sparsify",
    "weight_sparsity",
]
