"""Whether named tensors fit a model, in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown


def check_memory(state: Mapping[str, torch.Tensor]) -> None:
    """Refuse a model that has shapes and no values.

    Raises:
        CheckpointError: it is on the meta device.
    """
    if any(value.is_meta for value in state.values()):
        raise CheckpointError("the model is on the meta device and holds no memory; call model.to_empty first")


def misfits(
    tensors: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], what: str, strict: bool = True
) -> str:
    """What does not fit, as `2 missing ('a', 'b'); 1 mis-shaped ('c': checkpoint (3,), model (4,))`; empty if all fits.

    Args:
        tensors: the file's.
        state: the model's.
        what: the file, in a word.
        strict: False leaves out names that only one side has.
    """
    pairs = [(name, tuple(tensors[name].shape), tuple(state[name].shape)) for name in state if name in tensors]
    found = {
        "missing": [shown(name) for name in state if name not in tensors] if strict else [],
        "unexpected": [shown(name) for name in tensors if name not in state] if strict else [],
        "mis-shaped": [
            f"{shown(name)}: {what} {ours}, model {theirs}" for name, ours, theirs in pairs if ours != theirs
        ],
    }
    return "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in found.items() if names)


def _first(names: Iterable[str], count: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
