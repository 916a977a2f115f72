"""What a mask does to a network before it is trained: its tangent kernel, its Jacobian, its structure."""

from ntksap_export.analysis.alignment import SpectrumDistance, alignment, spectrum_distance
from ntksap_export.analysis.isometry import WAYS, Isometry, JacobianValues, Way, isometry_of, jacobian_values
from ntksap_export.analysis.layers import LayerIsometry, layer_isometry
from ntksap_export.analysis.memory import DEFAULT_BYTES, Estimate, Form
from ntksap_export.analysis.ntk import ntk, ntk_along, ntk_memory
from ntksap_export.analysis.overlap import LayerOverlap, Overlap, overlap
from ntksap_export.analysis.settled import settled
from ntksap_export.analysis.spectrum import Spectrum, spectrum_of
from ntksap_export.analysis.structure import LayerStructure, MaskStructure, mask_structure
from ntksap_export.analysis.trace import TraceEstimate, hutchinson_trace

__all__ = [
    "DEFAULT_BYTES",
    "WAYS",
    "Estimate",
    "Form",
    "Isometry",
    "JacobianValues",
    "LayerIsometry",
    "LayerOverlap",
    "LayerStructure",
    "MaskStructure",
    "Overlap",
    "Spectrum",
    "SpectrumDistance",
    "TraceEstimate",
    "Way",
    "alignment",
    "hutchinson_trace",
    "isometry_of",
    "jacobian_values",
    "layer_isometry",
    "mask_structure",
    "ntk",
    "ntk_along",
    "ntk_memory",
    "overlap",
    "settled",
    "spectrum_distance",
    "spectrum_of",
]
