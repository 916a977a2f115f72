"""Which cells there are: variants x precisions x backends for every load, and what each needs to be measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from ntksap_export.profiling.settings import Settings
from ntksap_export.runtime import backends as table

Load = tuple[str, int, int, int]  # device, batch, threads, streams: its cells are interleaved
# Bytes of a process, for deciding how many stand side by side: libraries, weights as loaded, activations as a multiple
# of the images. Rough and rather too large: onnxruntime takes 308 MB for ResNet-50 at batch 1, torch some 500 MB.
_LIBRARIES: Final = {"torch": 500e6, "torch-compile": 900e6}
_GRAPH_LIBRARY: Final = 200e6
_COPIES: Final = 3
_ENGINE_PLACE: Final = ("onnxruntime", "cpu")
_ACTIVATIONS: Final = 40


@dataclass(frozen=True, slots=True)
class Variant:
    """One network to measure.

    Attributes:
        name: `sparse`, `dense`, ...
        graph: its ONNX file, or None.
        model: arguments of `networks.build`, or None when there is no torch model.
        checkpoint: its weights; None leaves the random ones.
        shape: (C, H, W).
        channels: the channels.json of a network without some of its channels.
        precision: of its numbers.
        engine: whether its graph has nodes of the sparse engine, which runs in onnxruntime on the CPU alone.
    """

    name: str
    graph: Path | None
    model: Mapping[str, Any] | None
    checkpoint: Path | None
    shape: tuple[int, int, int] | None
    channels: Path | None = None
    precision: str = "fp32"
    engine: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One row to be.

    Attributes:
        variant: what runs.
        precision: what it is asked to compute in.
        backend: by name.
        load: None where the backend is not here, for any load.
        reason: why it cannot be measured, or None.
        rank: its place in the table.
    """

    variant: Variant
    precision: str
    backend: str
    device: str
    load: Load | None
    reason: str | None
    rank: tuple[int, ...]

    @property
    def head(self) -> dict[str, Any]:
        """The first columns of its row."""
        _, batch, threads, streams = self.load or (None, None, None, None)
        return {
            "variant": self.variant.name,
            "precision": self.precision,
            "backend": self.backend,
            "device": self.device,
            "batch": batch,
            "threads": threads,
            "streams": streams,
        }

    def spec(self, settings: Settings) -> dict[str, Any]:
        """What its process is told."""
        variant, keys = self.variant, ("backend", "device", "batch", "threads", "streams", "precision")
        shape = list(variant.shape) if variant.shape else None
        common = {**{key: self.head[key] for key in keys}, "shape": shape, "warmup_s": min(0.3, settings.min_time_s)}
        if self.device == "cuda" and settings.cuda_graph:
            common["cuda_graph"] = True
        if not table.takes_model(self.backend):
            return {**common, "graph": str(variant.graph)}
        assert variant.model is not None
        from ntksap_export import networks

        # The user's own code must be found there as it was here.
        path = {"sys_path": list(sys.path)} if networks.is_own(str(variant.model["name"])) else {}
        checkpoint = str(variant.checkpoint) if variant.checkpoint else None
        channels = str(variant.channels) if variant.channels else None
        return {**common, **path, "model": dict(variant.model), "checkpoint": checkpoint, "channels": channels}

    @property
    def input_bytes(self) -> int:
        """Of the images alone, in float32; 0 where their shape is not known."""
        channels, height, width = self.variant.shape or (0, 0, 0)
        return 4 * int(self.head["batch"] or 0) * channels * height * width

    @property
    def estimated_bytes(self) -> float:
        """What its process will take, roughly."""
        file = self.variant.graph or self.variant.checkpoint
        weights = file.stat().st_size if file is not None and file.is_file() else 0
        return _LIBRARIES.get(self.backend, _GRAPH_LIBRARY) + _COPIES * weights + _ACTIVATIONS * self.input_bytes


def plan_cells(variants: Sequence[Variant], settings: Settings) -> list[Cell]:
    """Every cell in the order of the table: by backend, device, batch, threads, streams, then variant and precision."""
    found: list[Cell] = []
    for (place, backend), (at, device) in product(enumerate(settings.backends), enumerate(settings.devices)):
        reason = table.unavailable(backend, device)
        loads = [None] if reason else list(_loads(device, settings))
        for number, load in enumerate(loads):
            able = _with_engine(variants, backend, device, settings.precisions)
            rows = _networks(able, backend, device, settings.precisions)
            for index, (variant, precision, lacks) in enumerate(rows):
                why = reason or lacks or _unsupported(variant, backend, device, load) or _missing(variant, backend)
                found.append(Cell(variant, precision, backend, device, load, why, (place, at, number, index)))
    return found


def _loads(device: str, settings: Settings) -> Iterator[Load]:
    threads = settings.threads if device == "cpu" else settings.threads[:1]
    for batch, count, streams in product(settings.batches, threads, settings.streams):
        yield device, batch, count, streams


def _networks(
    variants: Sequence[Variant], backend: str, device: str, precisions: Sequence[str] | None
) -> Iterator[tuple[Variant, str, str | None]]:
    """Each network in each precision, or why it cannot run in it."""
    models = table.takes_model(backend)
    if precisions is None:
        yield from ((each, each.precision, None) for each in variants if each.precision == "fp32" or not models)
        return
    for name in dict.fromkeys(each.name for each in variants):
        mine = {each.precision: each for each in variants if each.name == name}
        engine = any(each.engine for each in mine.values())
        for precision in ("fp32",) if engine and "fp32" in precisions else precisions:
            if precision in mine and (precision == "fp32" or not models):
                yield mine[precision], precision, None
            elif "fp32" in mine:
                yield mine["fp32"], precision, table.lacks_precision(backend, precision, device)
            else:
                yield next(iter(mine.values())), precision, f"there is no float32 network of '{name}' to run so"


def _with_engine(
    variants: Sequence[Variant], backend: str, device: str, precisions: Sequence[str] | None
) -> Sequence[Variant]:
    """Where the engine cannot run, its graph is left out: the others say all there is to say; alone it is told why."""
    if (backend, device) == _ENGINE_PLACE and (precisions is None or "fp32" in precisions):
        return variants
    return [each for each in variants if not each.engine] or variants


def _missing(variant: Variant, backend: str) -> str | None:
    if table.takes_model(backend):
        return None if variant.model else "an ONNX file has no torch model; profile the run directory instead"
    return None if variant.graph else "there is no ONNX graph; run `ntksap export` first"


def _unsupported(variant: Variant, backend: str, device: str, load: Load | None) -> str | None:
    if variant.engine and (backend, device) != _ENGINE_PLACE:
        return f"the sparse engine runs in onnxruntime on the CPU; {backend} on {device} takes model.onnx"
    if device == "cuda" and load is not None and load[3] > 1:
        return f"several streams are measured on the CPU only; {backend} on cuda has one"
    return None
