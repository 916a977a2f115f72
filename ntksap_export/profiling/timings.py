"""Timings that are kept to be used again: by name, under one machine and one way to run.

    {"schema": 1, "machine": {...}, "settings": {...}, "timings": {"conv 64-64 ...": [ms, low, high, runs], ...}}

Such a file is `latency_table.json` of a run, and one in the user's cache. Each may be deleted at any time: what is
missing is timed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ntksap_export.atomic import json_digest, write_json
from ntksap_export.errors import ConfigError
from ntksap_export.profiling.environment import environment
from ntksap_export.timing import Timing

_SCHEMA: Final = 1
_OF_MACHINE: Final = ("cpu", "isa", "cores", "gpu")
_LIBRARIES: Final = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt": "onnxruntime"}


@dataclass
class Timings:
    """Timings by name.

    Attributes:
        machine: what they were made on, the backend's version too.
        settings: backend, device, batch and threads.
        known: the timings.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    known: dict[str, Timing] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        rows = {name: timing.to_json() for name, timing in self.known.items()}
        write_json(path, {"schema": _SCHEMA, "machine": self.machine, "settings": self.settings, "timings": rows})

    @classmethod
    def load(cls, path: Path) -> Timings:
        """Read such a file.

        Raises:
            ConfigError: it cannot be read, or is something else; one line.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
                raise ValueError("it was not written by ntksap prune --budget")
            known = {str(name): Timing.from_json(row) for name, row in dict(document["timings"]).items()}
            return cls(dict(document["machine"]), dict(document["settings"]), known)
        except OSError as error:
            raise ConfigError(f"latency table '{path}' cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"latency table '{path}' is none: {error or type(error).__name__}") from None

    def alike(self, other: Timings) -> bool:
        """Whether both are of one machine and one way to run, so that their times can stand side by side."""
        return self.machine == other.machine and self.settings == other.settings

    def digest(self) -> str:
        """SHA-256 of all that is known."""
        rows = {name: timing.to_json() for name, timing in self.known.items()}
        return json_digest(rows)


def this_machine(settings: Mapping[str, Any]) -> Timings:
    """No timings yet, of this machine.

    Args:
        settings: backend, device, batch and threads.
    """
    here = environment()
    machine = {key: here.get(key) for key in _OF_MACHINE}
    library = _LIBRARIES[settings["backend"]]
    return Timings({**machine, library: here["versions"].get(library)}, dict(settings))


def cached(here: Timings) -> Timings:
    """What the user's cache has of this machine and way to run; nothing, where it is not there or broken."""
    with suppress(ConfigError):
        stored = Timings.load(cache_file(here))
        if stored.alike(here):
            return stored
    return Timings(here.machine, here.settings)


def keep_in_cache(timings: Timings) -> None:
    """Put timings into the user's cache; where it cannot be written they are timed again next time."""
    both = cached(timings)
    both.known.update(timings.known)
    with suppress(OSError):
        both.save(cache_file(timings))


def cache_file(here: Timings) -> Path:
    """Where the cache has what goes with this machine and way to run: XDG_CACHE_HOME, or ~/.cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "ntksap" / "latency" / f"{json_digest([here.machine, here.settings])[:16]}.json"
