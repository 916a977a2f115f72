"""What a report is made of: the JSON parts of a run, any of which an older run may lack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReportInput:
    """The parts of one run, as plain JSON. An empty part was not run; the report then says so.

    Attributes:
        config: config.json: architecture, classes, `pretrained_cfg`, `ntksap` (flags and provenance), `data`.
        mask: how the mask was made, its table layer by layer, and its health.
        metrics: one row per epoch, the final and the best row; accuracies are fractions in [0, 1].
        parity: agreement of the exported graph with the model.
        profile: the environment and one cell per variant, backend, device, precision, batch and thread count.
        sizes: file name -> bytes; a name that begins with `dense` is the dense counterpart.
        command: what to type to repeat the run.
        versions: library -> version.
    """

    config: Json
    mask: Json
    metrics: Json
    parity: Json
    profile: Json
    sizes: dict[str, int]
    command: str
    versions: dict[str, str] = field(default_factory=dict)


def at(tree: Any, *path: str, default: Any = None) -> Any:
    """Walk `path` down nested dicts; `default` where a key is missing or its value is null."""
    for key in path:
        if not isinstance(tree, dict):
            return default
        tree = tree.get(key)
    return default if tree is None else tree


def flag(data: ReportInput, name: str, default: Any = None) -> Any:
    """A resolved flag of the run, spelled `batch-size` or `batch_size`."""
    flags = at(data.config, "ntksap", "config", default={})
    for spelling in (name, name.replace("-", "_")):
        if (value := at(flags, spelling)) is not None:
            return value
    return default
