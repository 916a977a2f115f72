"""What a mask does to a network before it is trained: its tangent kernel, its Jacobian, its structure."""

from ntksap_export.analysis.alignment import SpectrumDistance, alignment, spectrum_distance
from ntksap_export.analysis.memory import DEFAULT_BYTES, Estimate, Form
from ntksap_export.analysis.ntk import ntk, ntk_along, ntk_memory
from ntksap_export.analysis.spectrum import Spectrum, spectrum_of
from ntksap_export.analysis.trace import TraceEstimate, hutchinson_trace

__all__ = [
    "DEFAULT_BYTES",
    "Estimate",
    "Form",
    "Spectrum",
    "SpectrumDistance",
    "TraceEstimate",
    "alignment",
    "hutchinson_trace",
    "ntk",
    "ntk_along",
    "ntk_memory",
    "spectrum_distance",
    "spectrum_of",
]
