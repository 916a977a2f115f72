"""What folders share: their tensors, in one file or in shards, as one container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open

from ntksap_export.checkpoint.container import Container, spec_of
from ntksap_export.checkpoint.formats.files import is_index, read_index
from ntksap_export.checkpoint.shards import INDEX_SUFFIX
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import first_line, naming, shown

WEIGHTS_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"


@contextmanager
def open_parts(folder: Path) -> Iterator[Container]:
    """Open `model.safetensors` of `folder`, or the shards that its index lists, as one container with no metadata.

    Raises:
        CheckpointError: there is neither, a file is damaged, or index and shards contradict each other.
    """
    with ExitStack() as stack:
        file = next((folder / name for name in (WEIGHTS_FILE, INDEX_FILE) if (folder / name).is_file()), None)
        if file is None:
            raise CheckpointError(f"{folder}: has neither {WEIGHTS_FILE} nor {INDEX_FILE}; is the folder complete?")
        handles = open_handles(file, stack)
        with naming(folder):
            specs = {name: spec_of(handle, name) for name, handle in handles.items()}
        yield Container(_Shards(handles), {}, specs)


class _Shards:
    """What a container reads from: the handle of each tensor's file."""

    def __init__(self, handles: Mapping[str, Any]) -> None:
        self._handles = handles

    def get_tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._handles[name].get_tensor(name)
        return tensor


def open_handles(path: Path, stack: ExitStack) -> dict[str, Any]:
    """Each tensor's name and the open file that has it.

    Args:
        path: a safetensors file, or an index of such.
        stack: closes the files.

    Raises:
        CheckpointError: a file is missing or damaged, or index and shards contradict each other.
    """
    if not (path.name.endswith(INDEX_SUFFIX) or is_index(path)):
        handle = _opened(stack, path)
        return dict.fromkeys(handle.keys(), handle)
    places = read_index(path)
    shards = {file: _opened(stack, file) for file in sorted(set(places.values()))}
    found = {(name, file) for file, handle in shards.items() for name in handle.keys()}  # noqa: SIM118 - no mapping
    if wrong := sorted(found ^ set(places.items())):
        name, file = wrong[0]
        says = "lacks" if (name, file) in found else "lists"
        raise CheckpointError(f"{path}: {says} tensor {shown(name)} of {file.name}; write the files again")
    return {name: shards[file] for name, file in places.items()}


def _opened(stack: ExitStack, path: Path) -> Any:
    with naming(path):
        try:
            return stack.enter_context(safe_open(path, framework="pt"))
        except Exception as error:
            said = f"not a readable safetensors file; truncated or damaged ({first_line(error)})"
            raise CheckpointError(said) from error
