"""What the formats that are folders share: a small JSON file in them, tensors in shards, and messages with a name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open

from ntksap_export.checkpoint.container import DTYPES, Container, Spec, shape_from_json, shown
from ntksap_export.errors import CheckpointError

WEIGHTS_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"
_MAX_JSON_BYTES: Final = 64 * 2**20  # an index of a million tensors takes about as much


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of every CheckpointError of the block."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file at `path`.

    Raises:
        CheckpointError: it is missing, larger than 64 MiB, or no JSON object.
    """
    with naming(path):
        if not path.is_file():
            raise CheckpointError("no such file")
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"is larger than {_MAX_JSON_BYTES} bytes; is it the right file?")
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"is not JSON: {first_line(error)}") from error
        if not isinstance(value, dict):
            raise CheckpointError(f"must hold a JSON object; got {shown(value)}")
        return value


@contextmanager
def open_parts(folder: Path) -> Iterator[Container]:
    """Open `model.safetensors` of `folder`, or the shards that its index lists, as one container with no metadata.

    Raises:
        CheckpointError: there is neither, a file is damaged, or index and shards contradict each other.
    """
    with ExitStack() as stack:
        if (folder / WEIGHTS_FILE).is_file():
            handle = _opened(stack, folder / WEIGHTS_FILE)
            handles = dict.fromkeys(handle.keys(), handle)
        elif (folder / INDEX_FILE).is_file():
            handles = _sharded(stack, folder)
        else:
            raise CheckpointError(f"{folder}: has neither {WEIGHTS_FILE} nor {INDEX_FILE}; is the folder complete?")
        with naming(folder):
            specs = {name: _spec(handle, name) for name, handle in handles.items()}
        yield Container(_Shards(handles), {}, specs)


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


class _Shards:
    """What a container reads from: the handle of each tensor's file."""

    def __init__(self, handles: Mapping[str, Any]) -> None:
        self._handles = handles

    def get_tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._handles[name].get_tensor(name)
        return tensor


def _opened(stack: ExitStack, path: Path) -> Any:
    with naming(path):
        if not path.is_file():
            raise CheckpointError("no such file")
        try:
            opened: Any = safe_open(path, framework="pt")
        except Exception as error:
            raise CheckpointError(f"not a readable safetensors file; truncated or damaged ({first_line(error)})") from (
                error
            )
    return stack.enter_context(opened)


def _sharded(stack: ExitStack, folder: Path) -> dict[str, Any]:
    places = read_object(folder / INDEX_FILE).get("weight_map")
    with naming(folder / INDEX_FILE):
        if not isinstance(places, dict) or not all(_is_file_name(place) for place in places.values()):
            raise CheckpointError("weight_map must give each tensor the name of a file in the same folder")
    shards = {place: _opened(stack, folder / place) for place in sorted(set(places.values()))}
    found = {(name, place) for place, handle in shards.items() for name in handle.keys()}  # noqa: SIM118 - no mapping
    if wrong := sorted(found ^ set(places.items())):
        name, place = wrong[0]
        says = "lacks" if (name, place) in found else "lists"
        raise CheckpointError(f"{folder / INDEX_FILE}: {says} tensor {shown(name)} of {place}; write the folder again")
    return {name: shards[place] for name, place in places.items()}


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and value.endswith(".safetensors") and value == Path(value).name and "\0" not in value


def _spec(handle: Any, name: str) -> Spec:
    view = handle.get_slice(name)
    code = view.get_dtype()
    if code not in DTYPES:
        raise CheckpointError(f"tensor {shown(name)} has dtype {code}, which is not read; use {', '.join(DTYPES)}")
    return Spec(DTYPES[code], shape_from_json(list(view.get_shape())))
