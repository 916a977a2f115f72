"""Data sets: from a name or a folder to batches of images that a model can eat."""

from ntksap_export.data.loader import Loader, Loaders, loaders, make_loaders, sample_images
from ntksap_export.data.memory import MemorySource
from ntksap_export.data.scoring import scoring_set
from ntksap_export.data.sources import DataSet, describe_sources, open_data, peek
from ntksap_export.data.spec import AUGMENTS, DataSpec, Peek
from ntksap_export.data.stream import StreamSource
from ntksap_export.data.validation import read_validation

__all__ = [
    "AUGMENTS",
    "DataSet",
    "DataSpec",
    "Loader",
    "Loaders",
    "MemorySource",
    "Peek",
    "StreamSource",
    "describe_sources",
    "loaders",
    "make_loaders",
    "open_data",
    "peek",
    "read_validation",
    "sample_images",
    "scoring_set",
]
