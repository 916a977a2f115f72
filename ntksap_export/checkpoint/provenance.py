"""Where a checkpoint comes from: enough to make it again, nothing that would differ if one did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from ntksap_export.errors import CheckpointError, ConfigError

_LIBRARIES = ("ntksap-export", "torch", "safetensors", "numpy", "zstandard")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What was run. Holds no clock and no path: two runs of the same thing give equal bytes.

    Attributes:
        architecture: name under which the model can be built again.
        method: name of the pruning method.
        seed: of the run.
        config: the run's settings, as JSON has them: tuples become lists, keys become strings.
        versions: library -> version; by default those of this process.
    """

    architecture: str
    method: str
    seed: int
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: library_versions())

    def __post_init__(self) -> None:
        """Bring config and versions to the form they have in the file, in memory of their own."""
        for name in ("config", "versions"):
            try:
                plain = json.loads(json.dumps(dict(getattr(self, name)), allow_nan=False))
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigError(f"provenance {name} must be plain JSON; {error}") from error
            object.__setattr__(self, name, plain)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a file's metadata."""
        return {
            "architecture": self.architecture,
            "method": self.method,
            "seed": self.seed,
            "config": dict(self.config),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, value: Any) -> Provenance:
        """From a file's metadata.

        Raises:
            CheckpointError: a key is missing, unknown, or of another type.
        """
        types = {"architecture": str, "method": str, "seed": int, "config": dict, "versions": dict}
        if not isinstance(value, dict) or set(value) != set(types):
            raise CheckpointError(f"provenance must have exactly the keys {', '.join(types)}")
        for key, kind in types.items():
            if type(value[key]) is not kind:
                raise CheckpointError(f"provenance {key} must be {kind.__name__}; got {type(value[key]).__name__}")
        if not all(isinstance(version, str) for version in value["versions"].values()):
            raise CheckpointError("provenance versions must be strings")
        try:
            return cls(**value)
        except ConfigError as error:
            raise CheckpointError(str(error)) from error


def library_versions() -> dict[str, str]:
    """Versions of this package and of the libraries that make a checkpoint's numbers and bytes."""
    return {library: _version(library) for library in _LIBRARIES}


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "not installed"
