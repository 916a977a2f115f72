"""A source in memory, and an equality of sources that sees every bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

from ntksap_export.checkpoint import Provenance
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import Format
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError

from ..checkpoint_cases import PROVENANCE, bits, checkpoints


class MemorySource:
    """Named tensors and masks, as every format opens them."""

    def __init__(self, values: Mapping[str, Decoded], provenance: Provenance | None = None) -> None:
        self.values, self.provenance = dict(values), provenance

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.values))

    def read(self, name: str) -> Decoded:
        return self.values[name]


def source_of(masks: Mapping[str, torch.Tensor] | None = None, **tensors: torch.Tensor) -> MemorySource:
    """`a__weight` stands for `a.weight`; what has no mask is not pruned."""
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return MemorySource({name: Decoded(tensor, (masks or {}).get(name)) for name, tensor in named.items()})


def everything(source: Source) -> dict[str, Any]:
    """All that a source gives, bit for bit."""
    found = {}
    for name in source.names():
        value = source.read(name)
        found[name] = (bits(value.tensor), None if value.kept is None else bits(value.kept))
    return {"tensors": found, "provenance": source.provenance and source.provenance.to_json()}


@st.composite
def sources(draw: st.DrawFn) -> MemorySource:
    """Up to four tensors of any dtype and bits, some of them pruned."""
    checkpoint = draw(checkpoints())
    values = {name: Decoded(tensor, checkpoint.mask.get(name)) for name, tensor in checkpoint.tensors.items()}
    return MemorySource(values, checkpoint.provenance)


def pruned(shape: tuple[int, ...], density: float, dtype: torch.dtype = torch.float32, seed: int = 0) -> Decoded:
    """A random tensor, zero where it is not kept; the first kept value is 0, the second -0."""
    draw = torch.Generator().manual_seed(seed)
    kept = torch.rand(shape, generator=draw) < density
    tensor = torch.randn(shape, generator=draw).mul(50).to(dtype) * kept
    places = kept.view(-1).nonzero().flatten()
    tensor.view(-1)[places[:1]] = 0
    if dtype.is_floating_point:
        tensor.view(-1)[places[1:2]] = -0.0
    tensor[~kept] = 0
    return Decoded(tensor, kept)


def two_four(shape: tuple[int, ...], seed: int = 0) -> Decoded:
    """A random tensor that keeps exactly 2 of every 4 elements."""
    draw = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=draw)
    kept = torch.zeros(tensor.numel() // 4, 4, dtype=torch.bool)
    kept.scatter_(1, torch.rand(kept.shape, generator=draw).topk(2, dim=1).indices, True)
    return Decoded(tensor.masked_fill(~kept.reshape(shape), 0), kept.reshape(shape))


def small() -> MemorySource:
    """Two pruned weights and two other tensors."""
    return MemorySource(
        {
            "conv.weight": pruned((4, 3, 3, 3), 0.3),
            "fc.weight": pruned((5, 11), 0.5, seed=1),
            "fc.bias": Decoded(torch.ones(5), None),
            "steps": Decoded(torch.tensor(7), None),
        },
        PROVENANCE,
    )


def reading(known: Format) -> tuple[Callable[[Path], dict[str, Any]], Callable[[Path], str]]:
    """For one format: all of what lies at a path, and what refusing it says, one line that names the path."""

    def reopened(path: Path) -> dict[str, Any]:
        with known.open_source(path) as source:
            return everything(source)

    def refusal(path: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            reopened(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return reopened, refusal
