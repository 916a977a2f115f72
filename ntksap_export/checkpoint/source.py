"""What every checkpoint format opens as: named tensors, read one at a time."""

from __future__ import annotations

from typing import Protocol

from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.provenance import Provenance


class Source(Protocol):
    """An open checkpoint, of whatever format; used within a `with`."""

    @property
    def provenance(self) -> Provenance | None:
        """What was run; only our own files say."""

    def names(self) -> tuple[str, ...]:
        """Names of its tensors, sorted; prefixes are stripped and masks folded in."""

    def read(self, name: str) -> Decoded:
        """One tensor and where it is kept (None: not pruned). CheckpointError where the file contradicts itself."""
