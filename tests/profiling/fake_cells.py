"""Processes that are none, for tests of the table of cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from ntksap_export.profiling import profile as module
from ntksap_export.profiling.isolated import CellError
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings

SHAPE = (3, 4, 4)
A = Variant("a", Path("a.onnx"), {"name": "resnet20", "num_classes": 4}, Path("a.safetensors"), SHAPE)
B = Variant("b", Path("b.onnx"), {"name": "resnet20", "num_classes": 4}, None, SHAPE)


class Log:
    """What was asked of all cells, and which of them fail where."""

    def __init__(self) -> None:
        self.specs: list[dict[str, Any]] = []
        self.events: list[tuple[str, str]] = []
        self.slices: list[tuple[float, int]] = []
        self.broken: dict[tuple[str, str], str] = {}
        self.too_large = 10**9
        self.open = 0


def fake_processes(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Put them in the place of real ones; what is asked of them is in the log."""
    log = Log()

    class FakeCell:
        """Stands for a process; a takes 2 ms, b takes 4 ms."""

        def __init__(self, spec: Mapping[str, Any]) -> None:
            json.dumps(spec)
            log.specs.append(dict(spec))
            self._name = Path(spec["graph"]).stem if "graph" in spec else "torch"
            self._event("open")
            if spec["batch"] >= log.too_large:
                raise CellError("out of memory")
            self.ready = {"warmup_runs": 5, "options": {"backend": spec["backend"]}}
            log.open += 1

        def _event(self, what: str) -> None:
            log.events.append((self._name, what))
            if reason := log.broken.get((self._name, what)):
                raise CellError(reason)

        def run(self, seconds: float, at_least: int) -> dict[str, Any]:
            log.slices.append((seconds, at_least))
            self._event("run")
            times = [2.000001 if self._name == "a" else 4.0] * at_least
            return {"times_ms": times, "wall_s": seconds}

        def stop(self) -> dict[str, Any]:
            self._event("memory")
            return {"memory": {"run_peak_rss_bytes": 7}}

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *details: object) -> None:
            log.open -= 1

    monkeypatch.setattr(module, "IsolatedCell", FakeCell)
    return log


def run_profile(variants: Sequence[Variant], **changes: Any) -> list[dict[str, Any]]:
    cell = {"backends": ("onnxruntime",), "devices": ("cpu",), "batches": (2,), "threads": (1,)}
    talk = {key: changes.pop(key) for key in ("progress", "baseline") if key in changes}
    return profile(variants, Settings(**{**cell, **changes}), **talk)
