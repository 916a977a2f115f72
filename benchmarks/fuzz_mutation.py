"""What the fuzzer of the checkpoint reader feeds on: sound files to start from, and changes that keep a file readable.

Bytes flipped at random die at the header. Here the header is taken apart, something in it is changed, and lengths,
offsets and zstandard frames are put right again, so that what is wrong is what the decoders must notice.

An input is one file, or an index and its shards: a byte n, then n lengths of 4 bytes, then n + 1 pieces; with n = 0 the
one piece is the file.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import zstandard

from ntksap_export.checkpoint import Provenance, SparseCheckpoint, save_mask
from ntksap_export.checkpoint.encodings import AUTO, ENCODINGS
from ntksap_export.masks import Mask

Rng = random.Random
MutateBytes = Callable[[bytes, int], bytes]  # the fuzzer's own, which remembers what the reader compared with

MOST_SHARDS: Final = 3
WORDS: Final = (*ENCODINGS, "none", "full", "nonzero", "stored", "F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I32")
MORE_WORDS: Final = (
    *WORDS,
    "I16",
    "I8",
    "U64",
    "U8",
    "BOOL",
    "C64",
    "F4",
    "",
    "weight",
    "\ud800",
    "part-1.safetensors",
)
NUMBERS: Final = (0, 1, 2, 3, 4, 5, 7, 8, 16, 127, 255, 256, 2**16, 2**24, 2**31, 2**32, 2**40, 2**48, 2**63, 2**64)
OTHERS: Final = (None, True, 1.5, math.inf, [], {}, [[]], "1", {"encoding": "dense", "shape": [1], "mask": "none"})
_PROVENANCE: Final = Provenance("tiny", "ntksap", 7, {"density": 0.5, "rounds": 3}, {"torch": "2"})
_MOST_PART: Final = 4096


def joined(pieces: list[bytes]) -> bytes:
    """One input of its pieces."""
    head = struct.pack(f"<B{len(pieces) - 1}I", len(pieces) - 1, *(len(piece) for piece in pieces[:-1]))
    return head + b"".join(pieces)


def cut(data: bytes) -> list[bytes]:
    """The pieces of any input; what is short gives short pieces."""
    count = data[0] % (MOST_SHARDS + 1) if data else 0
    sizes = struct.unpack(f"<{count}I", data[1 : 1 + 4 * count].ljust(4 * count, b"\0"))
    rest, pieces = data[1 + 4 * count :], []
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    return [*pieces, rest]


def seeds(folder: Path) -> list[bytes]:
    """Sound inputs: every encoding at every usual dtype, shards, a mask file, an empty checkpoint."""
    networks = [_network(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int8)]
    found = [joined([one.to_bytes(encoding)]) for one in networks for encoding in (AUTO, *ENCODINGS)]
    found.append(joined([SparseCheckpoint({}, Mask({}), None).to_bytes()]))
    save_mask(folder / "mask.safetensors", networks[0].mask, {})
    found.append(joined([(folder / "mask.safetensors").read_bytes()]))
    for encoding in (AUTO, "bitmask"):
        path = folder / f"{encoding}.safetensors"
        networks[0].save(path, encoding, max_shard_bytes=max(networks[0].tensors[name].nbytes for name in _WEIGHTS))
        weight_map = json.loads(path.with_name(path.name + ".index.json").read_bytes())["weight_map"]
        files = sorted(set(weight_map.values()))[:MOST_SHARDS]
        renamed = {part: f"part-{files.index(name)}.safetensors" for part, name in weight_map.items()}
        index = json.dumps({"metadata": {"total_size": 1}, "weight_map": renamed}).encode()
        found.append(joined([index, *(path.with_name(name).read_bytes() for name in files)]))
    return found


_WEIGHTS: Final = ("conv.weight", "fc.weight", "slim.weight")


def _network(dtype: torch.dtype) -> SparseCheckpoint:
    """A 2:4 convolution, a weight pruned at random, one pruned by channels, and what is not pruned."""
    generator = torch.Generator().manual_seed(0)
    kept = {
        "conv.weight": (torch.arange(8) % 4 < 2).reshape(1, 8, 1, 1).expand(4, 8, 3, 3).contiguous(),
        "fc.weight": torch.rand(10, 32, generator=generator) < 0.15,
        "slim.weight": (torch.arange(16) % 8 == 0).reshape(16, 1).expand(16, 24).contiguous(),
    }
    tensors = {name: (torch.randn(where.shape, generator=generator) * 9).to(dtype) for name, where in kept.items()}
    tensors = {name: torch.where(kept[name], value, torch.zeros_like(value)) for name, value in tensors.items()}
    plain = {
        "fc.bias": torch.zeros(10, dtype=dtype),
        "bn.running_mean": torch.linspace(-1, 1, 80, dtype=torch.float64).round(decimals=1),
        "bn.num_batches_tracked": torch.tensor(3),
        "flags": torch.tensor([True, False, True]),
    }
    return SparseCheckpoint({**tensors, **plain}, Mask(kept), _PROVENANCE)


@dataclass
class File:
    """A safetensors file taken apart: parts by name as (dtype, shape, bytes), and the parsed metadata."""

    parts: dict[str, tuple[str, list[int], bytes]]
    document: dict[str, Any]

    @classmethod
    def parsed(cls, raw: bytes) -> File | None:
        """None where it is too broken to be taken apart."""
        try:
            (length,) = struct.unpack("<Q", raw[:8])
            header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
            document = json.loads(header.pop("__metadata__")["ntksap"])
            ends = {name: one["data_offsets"] for name, one in header.items()}
            parts = {
                name: (one["dtype"], one["shape"], data[ends[name][0] : ends[name][1]]) for name, one in header.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, struct.error):
            return None
        sound = isinstance(document, dict) and all(isinstance(shape, list) for _, shape, _ in parts.values())
        return cls(parts, document) if sound else None

    def bytes(self, rng: Rng) -> bytes:
        """The file, its offsets right; in one of twelve the header is changed once more."""
        header: dict[str, Any] = {"__metadata__": {"ntksap": json.dumps(self.document)}}
        data = b""
        for name, (dtype, shape, raw) in self.parts.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        if rng.random() < 1 / 12:
            change_leaf(header, rng)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data


def change_leaf(tree: Any, rng: Rng) -> None:
    """Change one value anywhere in parsed JSON, in place."""
    if not (places := list(_leaves(tree))):
        return
    node, key = rng.choice(places)
    node[key] = _other(node[key], rng)


def _leaves(node: Any) -> Iterator[tuple[Any, Any]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield node, key
        yield from _leaves(value)


def _other(value: Any, rng: Rng) -> Any:
    if rng.random() < 0.1:
        return deepcopy(rng.choice(OTHERS))
    if type(value) is int:
        return rng.choice((value + 1, value - 1, value * 2, value // 2, -value, rng.choice(NUMBERS), rng.randrange(64)))
    if isinstance(value, str):
        return rng.choice(MORE_WORDS)
    if isinstance(value, list):
        return rng.choice((value[1:], [*value, 1], value[::-1], [*value, 0], [math.prod(map(_size, value))]))
    return value


def _size(value: Any) -> int:
    return value if type(value) is int else 1


class Mutator:
    """Changes one input into another."""

    def __init__(self, mutate_bytes: MutateBytes, others: list[bytes]) -> None:
        """Args: the fuzzer's own mutation; inputs to take entries from."""
        self._mutate_bytes = mutate_bytes
        pieces = [piece for one in others for piece in cut(one)]
        self._others = [file for piece in pieces if (file := File.parsed(piece)) and file.parts]

    def __call__(self, data: bytes, max_size: int, seed: int) -> bytes:
        """As libFuzzer asks for it: at most `max_size` bytes, the same for the same seed."""
        rng = Rng(seed)
        if rng.random() < 0.15:
            return self._mutate_bytes(data, max_size)
        pieces = cut(data)
        at = rng.randrange(len(pieces))
        if len(pieces) > 1 and at == 0:
            pieces[0] = self._index(pieces[0], rng)
        else:
            pieces[at] = self._file(pieces[at], max_size, rng)
        changed = joined(pieces)
        return changed if len(changed) <= max_size else self._mutate_bytes(data, max_size)

    def _index(self, raw: bytes, rng: Rng) -> bytes:
        try:
            index = json.loads(raw)
        except (ValueError, RecursionError):
            return self._mutate_bytes(raw, _MOST_PART)
        change_leaf(index, rng)
        return json.dumps(index).encode()

    def _file(self, raw: bytes, max_size: int, rng: Rng) -> bytes:
        file = File.parsed(raw)
        if file is None:
            return self._mutate_bytes(raw, max_size)
        changes = (self._number, self._number, self._part, self._stream, self._stream, self._graft, self._without)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choice(changes)(file, rng)
        return file.bytes(rng)

    def _number(self, file: File, rng: Rng) -> None:
        entries = file.document.get("tensors")
        chosen = rng.choice(list(entries.values())) if isinstance(entries, dict) and entries else file.document
        change_leaf(chosen if rng.random() < 0.8 else file.document, rng)

    def _part(self, file: File, rng: Rng) -> None:
        if not file.parts:
            return
        name = rng.choice(list(file.parts))
        dtype, shape, raw = file.parts[name]
        changed = self._mutate_bytes(raw, _MOST_PART)
        if rng.random() < 0.7:  # as long as it was
            changed = changed[: len(raw)].ljust(len(raw), b"\0")
        file.parts[name] = (dtype, [len(changed)] if dtype == "U8" and len(shape) == 1 else shape, changed)

    def _stream(self, file: File, rng: Rng) -> None:
        """Change what is under the compression of one stream, and compress it again."""
        entries = file.document.get("tensors")
        packed = [name for name in entries if f"{name}.packed" in file.parts] if isinstance(entries, dict) else []
        if not packed:
            return
        name = rng.choice(packed)
        entry, raw = entries[name], file.parts[f"{name}.packed"][2]
        sizes = entry.get("bytes") if isinstance(entry, dict) else None
        if not isinstance(sizes, list) or not sizes or not all(type(size) is int and size >= 0 for size in sizes):
            return
        ends = np.cumsum([min(size, len(raw)) for size in sizes]).tolist()
        streams = [raw[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        at = rng.choice((0, 0, rng.randrange(len(streams))))
        before = _expanded(streams[at])
        after = self._mutate_bytes(before, _MOST_PART)
        if rng.random() < 0.6:
            after = after[: len(before)].ljust(len(before), b"\0")
        frame = zstandard.ZstdCompressor(level=1).compress(after)
        streams[at] = frame if len(frame) < len(after) or rng.random() < 0.05 else after
        entry["bytes"] = [len(stream) for stream in streams]
        if at == 0 and rng.random() < 0.9:
            entry["raw"] = len(after)
            if rng.random() < 0.3:
                entry["kept"] = sum(byte != 255 for byte in after)
        whole = b"".join(streams)
        file.parts[f"{name}.packed"] = ("U8", [len(whole)], whole)

    def _graft(self, file: File, rng: Rng) -> None:
        """Take a tensor from another file, its entry with it."""
        other = rng.choice(self._others)
        name = rng.choice(list(other.parts))
        root = name.rpartition(".")[0]
        for part in [part for part in other.parts if part == name or (root and part.startswith(f"{root}."))]:
            file.parts[part] = other.parts[part]
        mine, theirs = file.document.get("tensors"), other.document.get("tensors", {})
        if isinstance(mine, dict):
            mine.update({key: deepcopy(entry) for key, entry in theirs.items() if root and key.startswith(root)})

    def _without(self, file: File, rng: Rng) -> None:
        tree: Any = rng.choice((file.parts, file.parts, file.document.get("tensors"), file.document))
        if isinstance(tree, dict) and tree:
            gone = tree.pop(rng.choice(list(tree)))
            if rng.random() < 0.3:
                tree[rng.choice(("a", "fc", "fc.weight", "conv.weight", "conv.weight.packed"))] = gone


def _expanded(stream: bytes) -> bytes:
    try:
        if zstandard.frame_content_size(stream) <= _MOST_PART:
            return zstandard.ZstdDecompressor().decompress(stream, max_output_size=_MOST_PART)
    except zstandard.ZstdError:
        pass
    return stream
