"""What a conversion is told, checked before any file is opened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ntksap_export.checkpoint.encodings import ENCODINGS
from ntksap_export.errors import ConfigError

# What is written -> the suffix of its name; a folder has none.
SUFFIXES: Final[Mapping[str, str]] = {
    "ntksap": ".safetensors",
    "safetensors": ".safetensors",
    "torch": ".pt",
    "torch-prune": ".pt",
    "compressed-tensors": "",
    "npz": "",
    "onnx": ".onnx",
    "onnx-sparse": ".onnx",
}
GRAPHS: Final = ("onnx", "onnx-sparse")
DTYPES: Final[Mapping[str, torch.dtype]] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
# A file's suffix -> what may be written under it; the first is what --to is by default.
MEANINGS: Final[Mapping[str, tuple[str, ...]]] = {
    ".safetensors": ("ntksap", "safetensors"),
    ".pt": ("torch", "torch-prune"),
    ".pth": ("torch", "torch-prune"),
    ".bin": ("torch", "torch-prune"),
    ".onnx": GRAPHS,
}


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How to convert.

    Attributes:
        to: a key of `SUFFIXES`; None leaves it to the target's suffix, and to `ntksap` in a directory.
        dtype: a key of `DTYPES`, for floating tensors; None leaves them.
        encoding: for `ntksap`: a key of `ENCODINGS`, or auto, the smallest for each tensor.
        mask: a file whose masks replace the source's.
        threshold: floating tensors of two or more axes get a mask that prunes |w| < threshold; a NaN stays.
        prefix: what goes from the beginning of every name.
        sparse_24: for `compressed-tensors`: the 2:4 layout.
        max_shard_bytes: for `ntksap`: begin another file before one grows beyond this; None never does.
        check: read what was written and compare every bit before it takes its place.
    """

    to: str | None = None
    dtype: str | None = None
    encoding: str = "auto"
    mask: Path | None = None
    threshold: float | None = None
    prefix: str = ""
    sparse_24: bool = False
    check: bool = True
    max_shard_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check each on its own.

        Raises:
            ConfigError: an unknown name, or a threshold that is no positive number.
        """
        _one_of("--to", self.to, SUFFIXES)
        _one_of("--dtype", self.dtype, DTYPES)
        _one_of("--encoding", self.encoding, ("auto", *ENCODINGS))
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise ConfigError(f"--threshold must be a number above 0; got {self.threshold:g}")

    def check_for(self, to: str) -> None:
        """Check that all of it applies to what is written.

        Raises:
            ConfigError: a flag that another target has.
        """
        if self.encoding != "auto" and to != "ntksap":
            raise ConfigError(f"--encoding belongs to --to ntksap; got --to {to}")
        if self.max_shard_bytes is not None and to != "ntksap":
            raise ConfigError(f"--max-shard-size belongs to --to ntksap; got --to {to}")
        if self.sparse_24 and to != "compressed-tensors":
            raise ConfigError(f"--sparse-24 belongs to --to compressed-tensors; got --to {to}")
        changed = [flag for flag, value in self._changes().items() if value]
        if to in GRAPHS and changed:
            raise ConfigError(f"{changed[0]} changes weights, and --to {to} only stores them otherwise; leave it away")

    def _changes(self) -> dict[str, Any]:
        return {
            "--dtype": self.dtype,
            "--mask": self.mask,
            "--threshold": self.threshold,
            "--prefix": self.prefix,
        }

    def fingerprint(self, to: str, mask_digest: str | None) -> dict[str, Any]:
        """All that the output's bytes depend on beside the source's, as JSON has it."""
        return {
            "to": to,
            "dtype": self.dtype,
            "encoding": self.encoding,
            "mask": mask_digest,
            "threshold": None if self.threshold is None else self.threshold.hex(),
            "prefix": self.prefix,
            "sparse_24": self.sparse_24,
            "max_shard_bytes": self.max_shard_bytes,
        }


def _one_of(flag: str, value: str | None, known: Any) -> None:
    if value is not None and value not in known:
        raise ConfigError(f"{flag} must be one of {', '.join(known)}; got '{value}'")
