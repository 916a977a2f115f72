"""Weights to start from, out of a file: values alone, no mask, no optimizer, nothing of a run.

Read are plain safetensors, what `torch.save` wrote of a state dict (`formats.torch_file` says how it may be wrapped),
either of them in shards under an index, and a checkpoint of this package, whose pruned weights are zeros here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from ntksap_export.atomic import write_bytes
from ntksap_export.checkpoint import formats
from ntksap_export.checkpoint.digest import digest
from ntksap_export.checkpoint.fit import check_memory, misfits
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown

_READ = ("ntksap", "safetensors", "torch", "folder")


def weights_digest(path: Path) -> str:
    """SHA-256 of the file; of an index, that of its shards too.

    Raises:
        CheckpointError: there is no such file.
    """
    _check_file(path)
    found = formats.format_of(path)
    return digest(formats.pieces(path, found) if found in _READ else (path,))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Named tensors of the file, on the CPU; +0 where a mask beside them prunes.

    Raises:
        CheckpointError: it is missing, broken, or holds something else; nothing of it was run.
    """
    _check_file(path)
    found = formats.format_of(path)
    if found is None or found not in _READ:
        raise CheckpointError(f"weights '{path}' are neither safetensors nor what torch.save writes{_and_so(found)}")
    with _calling_them_weights(path), formats.FORMATS[found].open_source(path) as source:
        tensors = {name: source.read(name).tensor for name in source.names()}
    if not tensors:
        raise CheckpointError(f"weights '{path}' hold no tensors")
    return tensors


def load_weights_(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy weights and buffers into `model`, in place; on an error it is left as it was.

    Args:
        model: on any device. Where its dtype differs, values are converted to the model's.
        tensors: name -> value, for every parameter and buffer but BatchNorm's counters, which old files lack.
        source: what to call them in a message.

    Raises:
        CheckpointError: names or shapes differ, or values are not finite numbers.
    """
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    expected = {
        name: value for name, value in state.items() if name in tensors or not name.endswith("num_batches_tracked")
    }
    if faults := misfits(tensors, expected, "file"):
        raise CheckpointError(
            f"weights '{source}' do not fit: {faults}; they must be of this model, with as many classes"
        )
    check_memory(expected)
    for name, value in expected.items():
        _check_values(source, name, tensors[name], value)
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(tensors[name])


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a state dict as plain safetensors, without metadata, whole or not at all; `read_weights` gives it back.

    Args:
        path: its directory is made where missing.
        tensors: name -> value, on any device; two names for the same memory are written twice.

    Raises:
        OSError: the disk is full or the directory cannot be written.
    """
    own = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    write_bytes(path, save(own))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"weights '{path}': no such file")


def _check_values(source: str, name: str, given: torch.Tensor, wanted: torch.Tensor) -> None:
    if given.layout != torch.strided or given.is_quantized or given.is_complex() or given.is_meta:
        raise CheckpointError(f"weights '{source}': {shown(name)} must be a plain dense tensor; save it dequantized")
    if given.is_floating_point() != wanted.is_floating_point():
        raise CheckpointError(f"weights '{source}': {shown(name)} is {given.dtype}; the model has {wanted.dtype}")
    if given.is_floating_point() and not bool(given.float().isfinite().all()):
        raise CheckpointError(f"weights '{source}': {shown(name)} holds NaN or infinity")


@contextmanager
def _calling_them_weights(path: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        said = str(error)
        if said.startswith("weights '"):
            raise
        raise CheckpointError(f"weights '{path}' cannot be read: {said.removeprefix(f'{path}: ')}") from error


def _and_so(found: str | None) -> str:
    return ": truncated or damaged" if found is None else f": `ntksap convert` reads {found}"
