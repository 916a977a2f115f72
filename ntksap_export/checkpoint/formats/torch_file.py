"""What `torch.save` writes: a state dict, bare or wrapped, read without running anything of the file.

A pickle is read with torch's weights-only unpickler, which builds tensors and plain containers and runs no code. Values
of today's zip format are mapped: a tensor takes memory when it is read. Found below `state_dict`, `model_state_dict` or
`model`; an averaged copy (`state_dict_ema`, `model_ema`, `ema`) is taken where there is none of these, while timm's
loader would prefer it.

Written is a bare state dict with sorted names. `masks=True` gives pruned tensors the two names that
torch.nn.utils.prune has for them, NAME_orig and NAME_mask, so that a model under its hooks loads them.
"""

from __future__ import annotations

import mmap
import re
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import torch

from ntksap_export.checkpoint.formats.dense import raw_bytes
from ntksap_export.checkpoint.formats.files import head
from ntksap_export.checkpoint.formats.folding import FoldedSource
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown

_NESTS: Final = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "ema")
_DEEPEST = 4  # wrappers within wrappers
_ALIGNMENT = 64


def matches(path: Path) -> bool:
    """Whether it begins like a zip archive or a pickle, and is no zip archive of something else."""
    start = head(path, 2)
    if start != b"PK":
        return start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    try:
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).name == "data.pkl" for name in archive.namelist())
    except Exception:  # a broken archive trips zipfile in many ways
        return True  # reading it says how


@contextmanager
def open_source(path: Path, strip: bool = True) -> Iterator[Source]:
    """Open it; nothing of the file is run. For `strip`, see `FoldedSource`.

    Raises:
        CheckpointError: it is broken, or holds something else than named tensors.
    """
    yield FoldedSource(_Stored(path), f"weights '{path}'", strip)


class _Stored:
    def __init__(self, path: Path) -> None:
        self._tensors = state_dict(path)
        self._file_bytes = path.stat().st_size

    def names(self) -> Iterable[str]:
        return self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> torch.Tensor:
        return dense_tensor(name, self._tensors[name], self._file_bytes)


def dense_tensor(name: str, tensor: torch.Tensor, file_bytes: int) -> torch.Tensor:
    """A tensor of a pickle as a plain one, in memory of its own.

    Args:
        name: for messages.
        tensor: as it was unpickled.
        file_bytes: size of the file; a larger tensor can only be one value said many times, as no model's is.

    Raises:
        CheckpointError: it is sparse, quantized, without memory, or larger than the file.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise CheckpointError(f"{shown(name)} must be a plain dense tensor; save it dequantized")
    if tensor.numel() * tensor.itemsize > file_bytes:
        raise CheckpointError(
            f"{shown(name)} claims {tuple(tensor.shape)}, more than the file holds; save tensor.contiguous()"
        )
    return tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def state_dict(path: Path) -> Mapping[str, torch.Tensor]:
    """The named tensors of the file as it has them; those of a zip archive are mapped to it.

    Raises:
        CheckpointError: it is broken, or holds something else than named tensors.
    """
    try:
        mapped = zipfile.is_zipfile(path)
        if mapped:
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an odd protocol, or of TorchScript: what follows decides
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except CheckpointError:
        raise
    except Exception as error:  # a broken archive or pickle trips the readers in many ways
        raise CheckpointError(f"weights '{path}' {_why_not(str(error))}") from error
    return _named_tensors(path, content)


def _check_archive(path: Path) -> None:
    """Refuse an archive whose members take more memory than the file has bytes."""
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise CheckpointError(
                f"weights '{path}' are in a compressed zip archive, which torch.save never writes; save them again"
            )


def _why_not(error: str) -> str:
    more = re.search(r"GLOBAL ([\w.]+)", error)
    if "eights only load failed" in error or "weights_only" in error:
        what = f" ({more.group(1)})" if more else ""
        return f"hold more than tensors{what}, which is never unpickled; save model.state_dict() alone"
    return f"cannot be read: {(error.splitlines() or ['damaged'])[0].split('. ')[0][:200]}"


def _named_tensors(path: Path, content: object) -> dict[str, torch.Tensor]:
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        wrapped = next((content[nest] for nest in _NESTS if isinstance(content.get(nest), Mapping)), None)
        if wrapped is None:
            break
        content = wrapped
    if not isinstance(content, Mapping):
        raise CheckpointError(f"weights '{path}' hold a {type(content).__name__}; save model.state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"weights '{path}': {shown(name)} is a {type(value).__name__}, not a named tensor; "
                "save model.state_dict() alone"
            )
    return dict(content)


def write(path: Path, source: Source, provenance: Provenance | None, *, masks: bool = False) -> None:  # noqa: ARG001
    """Write a state dict; equal input gives equal bytes, whatever the file is called.

    Values go through a nameless file beside `path`, which is then mapped: one tensor is in memory at a time.

    Args:
        path: to write to.
        source: where the tensors come from.
        provenance: not kept; a state dict has no place for it.
        masks: keep masks as torch.nn.utils.prune does; else only the zeros stay.

    Raises:
        CheckpointError: a name that a mask would take is taken.
        OSError: the disk is full.
    """
    with tempfile.TemporaryFile(dir=path.parent) as scratch:
        places = {name: _put(scratch, tensor) for name, tensor in _state(source, masks)}
        scratch.flush()
        end = scratch.tell()
        memory = mmap.mmap(scratch.fileno(), end, access=mmap.ACCESS_COPY) if end else None
        tensors = OrderedDict((name, _view(memory, *places[name])) for name in sorted(places))
        with path.open("wb") as file:  # by name, torch would put the file's name into the archive
            torch.save(tensors, file)


def _state(source: Source, masks: bool) -> Iterator[tuple[str, torch.Tensor]]:
    names = set(source.names())
    for name in source.names():
        decoded = source.read(name)
        if not masks or decoded.kept is None:
            yield name, decoded.tensor
            continue
        if taken := {f"{name}_orig", f"{name}_mask"} & names:
            raise CheckpointError(f"the mask of {shown(name)} needs the name {shown(min(taken))}, which is taken")
        yield f"{name}_orig", decoded.tensor
        yield f"{name}_mask", decoded.kept.to(decoded.tensor.dtype)


def _put(scratch: IO[bytes], tensor: torch.Tensor) -> tuple[int, torch.dtype, tuple[int, ...]]:
    scratch.write(b"\0" * (-scratch.tell() % _ALIGNMENT))
    offset = scratch.tell()
    scratch.write(raw_bytes(tensor))
    return offset, tensor.dtype, tuple(tensor.shape)


def _view(memory: mmap.mmap | None, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    count = 1
    for size in shape:
        count *= size
    if memory is None or count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset).reshape(shape)
