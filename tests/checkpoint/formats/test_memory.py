"""However many tensors there are, a writer holds one or two at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import compressed_tensors, dense, npz, ours, torch_file
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source


class Watched:
    """A source of many tensors that knows how many of them are in memory."""

    provenance: Provenance | None = None

    def __init__(self) -> None:
        self.alive = self.most = 0

    def names(self) -> tuple[str, ...]:
        return tuple(f"{index:02d}.weight" for index in range(30))

    def read(self, name: str) -> Decoded:
        gc.collect()
        tensor = torch.full((64, 64), float(name[:2]) + 1)
        kept = torch.rand(64, 64) < 2
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(tensor.untyped_storage(), self._gone)
        return Decoded(tensor, kept)

    def _gone(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("write", [ours.write, dense.write, torch_file.write, compressed_tensors.write, npz.write])
def test_one_tensor_at_a_time(tmp_path: Path, write: Callable[[Path, Source, None], None]) -> None:
    source = Watched()

    gc.freeze()  # a collection then looks at what is new only
    try:
        write(tmp_path / "out", source, None)
    finally:
        gc.unfreeze()

    assert source.most in (1, 2)
