"""What the tests of checkpoints share: strategies, a forger, and an equality that sees every bit."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from ntksap_export.checkpoint import Provenance, SparseCheckpoint
from ntksap_export.checkpoint.container import DTYPES
from ntksap_export.masks import Mask

PROVENANCE = Provenance("tiny", "ntksap", 7, {"density": 0.5, "rounds": 3}, {"torch": "2.13.0"})
UNHURRIED = settings(deadline=None)  # a disk takes its time to sync
NAMES = ("conv.weight", "fc.weight", "block.0.conv1.weight", "kernel", "fc.bias", "bn.running_mean")


def bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Everything about a tensor that could differ."""
    return str(tensor.dtype), tuple(tensor.shape), tensor.contiguous().view(-1).view(torch.uint8).tolist()


def content(checkpoint: SparseCheckpoint) -> dict[str, Any]:
    """Everything about a checkpoint that could differ, but for order."""
    return {
        "tensors": {name: bits(tensor) for name, tensor in checkpoint.tensors.items()},
        "mask": {name: bits(kept) for name, kept in checkpoint.mask.items()},
        "provenance": checkpoint.provenance and checkpoint.provenance.to_json(),
    }


def tensor_of(values: list[Any], mask: list[Any], dtype: torch.dtype = torch.float32) -> SparseCheckpoint:
    """A checkpoint of the one weight `fc.weight`."""
    tensors = {"fc.weight": torch.tensor(values, dtype=dtype)}
    return SparseCheckpoint(tensors, Mask({"fc.weight": torch.tensor(mask, dtype=torch.bool)}), PROVENANCE)


class Net(nn.Module):
    """A convolution, its norm, and a classifier."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.classifier = nn.Linear(16, classes)


def pruned_net(density: float = 0.25, seed: int = 0) -> tuple[Net, Mask]:
    """A net, not yet zeroed, and a mask for it that lists the classifier last."""
    torch.manual_seed(seed)
    net = Net()
    dense = Mask.dense(net)
    return net, Mask({name: torch.rand(kept.shape) < density for name, kept in dense.items()})


def checkpoint_of_net(density: float = 0.25) -> SparseCheckpoint:
    """A small checkpoint that holds both encodings, a buffer and a scalar."""
    net, mask = pruned_net(density)
    return SparseCheckpoint.of(net, mask, PROVENANCE)


def two_of_four(shape: tuple[int, ...] = (8, 16, 3, 3)) -> SparseCheckpoint:
    """One weight of which the first two of every four input channels are kept."""
    kept = (torch.arange(shape[1]) % 4 < 2).reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape).contiguous()
    weight = torch.where(kept, torch.arange(1.0, 1 + math.prod(shape)).reshape(shape), 0.0)
    return SparseCheckpoint({"conv.weight": weight}, Mask({"conv.weight": kept}), PROVENANCE)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bytes as any dtype: NaN payloads, -0.0, infinities and subnormals come by themselves."""
    dtype = draw(st.sampled_from(sorted(DTYPES.values(), key=str)))
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    size = math.prod(shape) * dtype.itemsize
    raw = torch.tensor(list(draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8)
    if dtype == torch.bool:
        raw = raw % 2
    return raw.view(dtype).reshape(shape)


@st.composite
def checkpoints(draw: st.DrawFn) -> SparseCheckpoint:
    """Up to four tensors of `NAMES`, some of them pruned by any mask, down to nothing kept."""
    state, masks = {}, {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4)):
        tensor = draw(tensors())
        if draw(st.booleans()):
            bools = draw(st.lists(st.booleans(), min_size=tensor.numel(), max_size=tensor.numel()))
            masks[name] = torch.tensor(bools, dtype=torch.bool).reshape(tensor.shape)
            pruned = ~masks[name].reshape(-1)
            tensor.view(-1).view(torch.uint8).view(-1, tensor.dtype.itemsize)[pruned] = 0
        state[name] = tensor
    seed = draw(st.integers(-(2**63), 2**63))
    config = draw(st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False), max_size=2))
    return SparseCheckpoint(state, Mask(masks), Provenance("tiny", "ntksap", seed, config, {}))


@contextmanager
def address_space(beyond: int) -> Iterator[None]:
    """At most so many bytes beside what the process has; Linux only."""
    import gc
    import resource

    gc.collect()  # what an earlier test left to be freed would be room within the limit
    (size, *_) = (int(field) for field in Path("/proc/self/statm").read_text().split())
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size * resource.getpagesize() + beyond, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """A safetensors file's header and data, by the format's specification alone."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Mapping[str, Any], data: bytes) -> bytes:
    """The opposite of `split`; believes what it is given."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def document_of(header: Mapping[str, Any]) -> Any:
    """The parsed metadata of a header."""
    return json.loads(header["__metadata__"]["ntksap"])


def with_document(content: bytes, document: Any) -> bytes:
    """The file with other metadata; text is put in as it is."""
    header, data = split(content)
    text = document if isinstance(document, str) else json.dumps(document)
    return joined({**header, "__metadata__": {"ntksap": text}}, data)


def forged(parts: Mapping[str, tuple[str, list[int], bytes]], document: Any) -> bytes:
    """A safetensors file whose tensors are (dtype, shape, bytes), however wrong."""
    header: dict[str, Any] = {"__metadata__": {"ntksap": json.dumps(document)}}
    data = b""
    for name, (dtype, shape, raw) in parts.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return joined(header, data)
