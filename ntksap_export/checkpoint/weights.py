"""Weights to start from, out of a file: values alone, no mask, no optimizer, nothing of a run.

Read are plain safetensors, what `torch.save` wrote of a state dict (also below `state_dict`, `model_state_dict` or
`model`, and with the prefix that DataParallel or torch.compile puts before every name), and a checkpoint of this
package, whose pruned weights are zeros here. A pickle is read with torch's weights-only unpickler, which builds tensors
and plain containers and runs no code of the file.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ntksap_export.checkpoint.container import METADATA_KEY, shown
from ntksap_export.checkpoint.fit import check_memory, misfits
from ntksap_export.checkpoint.sparse_checkpoint import SparseCheckpoint
from ntksap_export.errors import CheckpointError

_NESTS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


def weights_digest(path: Path) -> str:
    """SHA-256 of the file.

    Raises:
        CheckpointError: there is no such file.
    """
    _check_file(path)
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Named tensors of the file, on the CPU.

    Raises:
        CheckpointError: it is missing, broken, or holds something else; nothing of it was run.
    """
    _check_file(path)
    try:
        opened: Any = safe_open(path, framework="pt")
    except SafetensorError as error:
        # Only what safetensors refused is unpickled: a sound file of theirs may well begin like a pickle.
        found = _unpickled(path, str(error))
    else:
        with opened as handle:
            if METADATA_KEY in (handle.metadata() or {}):
                return dict(SparseCheckpoint.load(path).tensors)
            try:
                found = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - no mapping
            except Exception as error:
                raise CheckpointError(f"weights '{path}' cannot be read: {_first_line(error)}") from error
    if not found:
        raise CheckpointError(f"weights '{path}' hold no tensors")
    return found


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


def _unpickled(path: Path, not_safetensors: str) -> dict[str, torch.Tensor]:
    with path.open("rb") as handle:
        head = handle.read(2)
    if head[:1] != b"\x80" and head != b"PK":
        raise CheckpointError(
            f"weights '{path}' are neither safetensors nor what torch.save writes: {not_safetensors.splitlines()[0]}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an odd protocol, or of TorchScript: what follows decides
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken archive or pickle trips the reader in many ways
        raise CheckpointError(f"weights '{path}' {_why_not(str(error))}") from error
    return _state_dict(path, content)


def _why_not(error: str) -> str:
    more = re.search(r"GLOBAL ([\w.]+)", error)
    if "eights only load failed" in error or "weights_only" in error:
        what = f" ({more.group(1)})" if more else ""
        return f"hold more than tensors{what}, which is never unpickled; save model.state_dict() alone"
    return f"cannot be read: {(error.splitlines() or ['damaged'])[0].split('. ')[0][:200]}"


def _state_dict(path: Path, content: object) -> dict[str, torch.Tensor]:
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"weights '{path}' hold a {type(content).__name__}; save model.state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"weights '{path}': {shown(name)} is a {type(value).__name__}, not a named tensor; "
                "save model.state_dict() alone"
            )
    return _without_prefix(dict(content))


def _without_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in _PREFIXES * 2:  # a compiled model within DataParallel has both
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
