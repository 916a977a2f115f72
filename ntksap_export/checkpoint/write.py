"""Writes a checkpoint tensor by tensor, into one file or, above a size, into several behind an index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ntksap_export.bit_patterns import any_bit_set
from ntksap_export.checkpoint.container import DTYPES
from ntksap_export.checkpoint.encodings import AUTO, Decoded, check_encoding, encode
from ntksap_export.checkpoint.names import claim_
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.shards import Shard, place, place_shards
from ntksap_export.checkpoint.source import Source
from ntksap_export.checkpoint.writer import Writer
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.quoting import shown

_STORABLE = frozenset(DTYPES.values())


def write_checkpoint(
    path: str | os.PathLike[str],
    source: Source,
    provenance: Provenance | None,
    encoding: str = AUTO,
    max_shard_bytes: int | None = None,
) -> None:
    """Write `source` to `path`, whole or not at all; its directory is made where missing.

    Equal content gives equal bytes. One tensor at a time is in memory.

    Args:
        path: of the .safetensors file. Of several files, each is named like it, and `path`.index.json binds them.
        source: what to write.
        provenance: what was run; None where nobody knows.
        encoding: see `encodings.encode`.
        max_shard_bytes: begin another file before one grows beyond this; None never does. A tensor is never cut.

    Raises:
        CheckpointError: a tensor cannot be stored, does not fit its mask, or takes a name twice.
        ConfigError: no such encoding, or shards of less than a byte.
        OSError: the disk is full or the directory cannot be written.
    """
    check_encoding(encoding)
    if max_shard_bytes is not None and max_shard_bytes < 1:
        raise ConfigError(f"a shard must have at least 1 byte; got {max_shard_bytes}")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    told = None if provenance is None else provenance.to_json()
    pending: list[Shard] = []
    try:
        for writer, document in _filled(source, encoding, max_shard_bytes, target.parent):
            beside = target.with_name(f".{target.name}.{os.getpid()}.{len(pending)}.part")
            pending.append(Shard(beside, writer.sizes))
            with beside.open("wb") as file:
                file.writelines(writer.chunks({**document, "provenance": told}))
        place(pending[0].file, target) if len(pending) == 1 else place_shards(target, pending)
    finally:
        for shard in pending:
            shard.file.unlink(missing_ok=True)


def checkpoint_bytes(source: Source, provenance: Provenance | None, encoding: str = AUTO) -> bytes:
    """What `write_checkpoint` writes into one file."""
    check_encoding(encoding)
    told = None if provenance is None else provenance.to_json()
    pieces = (
        writer.chunks({**document, "provenance": told}) for writer, document in _filled(source, encoding, None, None)
    )
    return b"".join(chain.from_iterable(pieces))


def _filled(
    source: Source, encoding: str, most_bytes: int | None, directory: Path | None
) -> Iterator[tuple[Writer, dict[str, Any]]]:
    """Each file's tensors, with the document that goes into it."""
    writer, entries, number = Writer(directory), dict[str, Any](), 1
    taken: set[str] = set()
    try:
        for name in sorted(source.names()):
            tensor, kept = checked(name, source.read(name))
            claim_(taken, name, kept is not None)
            encoded = encode(name, tensor, kept, encoding)
            if most_bytes is not None and writer.nbytes and writer.nbytes + encoded.nbytes > most_bytes:
                yield writer, {"tensors": entries, "shard": number}
                writer.close()
                writer, entries, number = Writer(directory), {}, number + 1
            for part, values in encoded.arrange().items():
                writer.add(part, values)
            if not encoded.entry.implied:
                entries[name] = encoded.entry.to_json()
        yield writer, {"tensors": entries} if number == 1 else {"tensors": entries, "shard": number}
    finally:
        writer.close()


def checked(name: str, decoded: Decoded) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The tensor and its mask on the CPU, contiguous.

    Raises:
        CheckpointError: a dtype or layout cannot be stored, the shapes differ, or a pruned weight is not 0.
    """
    tensor, kept = plain(name, decoded.tensor), decoded.kept
    if kept is None:
        return tensor, None
    kept = kept.cpu().contiguous()
    if tuple(kept.shape) != tuple(tensor.shape):
        raise CheckpointError(
            f"the mask's {shown(name)} has shape {tuple(kept.shape)}, the checkpoint's {tuple(tensor.shape)}"
        )
    if bool((any_bit_set(tensor) > kept).any()):
        revived = int((any_bit_set(tensor) & ~kept).sum())
        raise CheckpointError(f"{revived} pruned weights of {shown(name)} are not exactly 0; use SparseCheckpoint.of")
    return tensor, kept


def plain(name: str, tensor: object) -> torch.Tensor:
    """The tensor on the CPU, contiguous, without its graph.

    Raises:
        CheckpointError: it is none that can be stored.
    """
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_meta:
        raise CheckpointError(f"{shown(name)} is sparse, on meta or extra state; only dense tensors can be stored")
    if tensor.dtype not in _STORABLE:
        raise CheckpointError(f"{shown(name)} has dtype {tensor.dtype}, which cannot be stored; convert it first")
    return tensor.detach().cpu().contiguous()
