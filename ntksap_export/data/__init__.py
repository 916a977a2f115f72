"""Data sets: from a name or a folder to batches of images that a model can eat."""

from ntksap_export.data.augmentation import AUGMENTS, Augmentation
from ntksap_export.data.broken import skipped_text
from ntksap_export.data.loader import Loader, Loaders, loaders, make_loaders, sample_images
from ntksap_export.data.memory import MemorySource
from ntksap_export.data.options import resolve_augmentation
from ntksap_export.data.scoring import scoring_set
from ntksap_export.data.sources import DataSet, describe_sources, open_data, peek
from ntksap_export.data.spec import DataSpec, Peek
from ntksap_export.data.stream import StreamSource
from ntksap_export.data.validation import read_validation

__all__ = [
    "AUGMENTS",
    "Augmentation",
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
    "resolve_augmentation",
    "sample_images",
    "scoring_set",
    "skipped_text",
]
