"""ONNX graphs: export, passes, twins, and their weights as a checkpoint's."""

from ntksap_export.graph.export import check_zeros, export
from ntksap_export.graph.files import files_of, move_graph, remove_graph, remove_old_data
from ntksap_export.graph.input_form import Normalized, pixels_taken, take_pixels
from ntksap_export.graph.intermediates import Step, exposed, steps
from ntksap_export.graph.model import INPUT_NAME, OUTPUT_NAME, Graph
from ntksap_export.graph.passes import PASSES, PassLog, optimize, pass_summary, select_passes
from ntksap_export.graph.preprocessing import Preprocessing, described, read_classes, read_preprocessing
from ntksap_export.graph.twin import dense_twin, weight_sparsity
from ntksap_export.graph.weights import (
    SPARSE_WARNING,
    Weights,
    densify,
    graph_files,
    is_graph,
    load_dense,
    open_weights,
    sparsify,
    with_dense,
)

__all__ = [
    "INPUT_NAME",
    "OUTPUT_NAME",
    "PASSES",
    "SPARSE_WARNING",
    "Graph",
    "Normalized",
    "PassLog",
    "Preprocessing",
    "Step",
    "Weights",
    "check_zeros",
    "dense_twin",
    "densify",
    "described",
    "export",
    "exposed",
    "files_of",
    "graph_files",
    "is_graph",
    "load_dense",
    "move_graph",
    "open_weights",
    "optimize",
    "pass_summary",
    "pixels_taken",
    "read_classes",
    "read_preprocessing",
    "remove_graph",
    "remove_old_data",
    "select_passes",
    "sparsify",
    "steps",
    "take_pixels",
    "weight_sparsity",
    "with_dense",
]
