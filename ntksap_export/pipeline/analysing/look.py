"""From networks to analysis.json, analysis.html and analysis.md: every network, every draw, then what they share."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import torch

from ntksap_export.analysis.overlap import overlap
from ntksap_export.analysis.structure import mask_structure
from ntksap_export.atomic import write_json, write_text
from ntksap_export.checkpoint import library_versions
from ntksap_export.data import scoring_set
from ntksap_export.errors import ConfigError, DataError, RunDirectoryError
from ntksap_export.masks import Mask
from ntksap_export.pipeline.analysing.asked import PARTS, Asked
from ntksap_export.pipeline.analysing.averages import deviation_of, mean_of
from ntksap_export.pipeline.analysing.measured import Kernel, check_memory, look_at
from ntksap_export.pipeline.analysing.opened import Network, Opened, open_target
from ntksap_export.profiling.memory import peak_rss_bytes, reset_peak, rss_bytes
from ntksap_export.progress import Progress
from ntksap_export.report import render_analysis

Json = dict[str, Any]
SCHEMA: Final = 1
FILES: Final = ("analysis.json", "analysis.html", "analysis.md")


def analyze(
    target: str,
    masks: Sequence[Path],
    settings: Mapping[str, Any],
    asked: Asked,
    out: Path,
    progress: Progress,
    command: str = "",
) -> Json:
    """Look at the networks of a run, or at a model under masks; writes analysis.json, .html and .md in `out`.

    Args:
        target: a run directory, or the name of a model.
        masks: files of masks, beside what the target holds.
        settings: keys of `RunConfig` that were given.
        asked: what is looked at, and how.
        out: a directory; created if need be.
        progress: where messages and bars go.
        command: what to type to repeat it.

    Returns:
        What analysis.json holds (docs/analyze.md).

    Raises:
        ConfigError: what cannot be looked at, or needs more memory than it may take: found before any work.
        RunDirectoryError, CheckpointError, DataError: a run, a mask, weights or data that cannot be used.
    """
    if out.exists() and not out.is_dir():
        raise RunDirectoryError(f"'{out}' is a file; choose another --out")
    begun, at_first = time.perf_counter(), rss_bytes()
    reset_peak()
    opened = open_target(target, masks, settings, asked.seeds, progress)
    device = opened.context.device
    estimated = check_memory(opened.dense.build(0).to(device), opened.context.shape, asked)
    images, real = _images(opened, asked)
    images = images.to(device)
    structures = _structures(opened, asked)
    networks = _networks(opened, images, asked, structures, progress)
    result = {
        "schema": SCHEMA,
        "subject": _subject(opened),
        "settings": _settings(opened, asked, len(images), real),
        "networks": networks,
        "overlap": _overlaps(opened.networks) if asked.wants("structure") else [],
        "memory": {"estimated_bytes": estimated, **_memory(device, at_first)},
        "seconds": round(time.perf_counter() - begun, 3),
        "command": command,
        "versions": library_versions(),
    }
    html, markdown = render_analysis(result)
    write_json(out / FILES[0], result)
    write_text(out / FILES[1], html)
    write_text(out / FILES[2], markdown)
    return result


def default_out(target: str) -> Path:
    """A run's own directory; of a model runs/analysis-MODEL."""
    if Path(target).is_dir():
        return Path(target)
    plain = re.sub(r"[^\w.]+", "-", target)
    return Path("runs") / f"analysis-{plain}"


def _images(opened: Opened, asked: Asked) -> tuple[torch.Tensor, bool]:
    """(N, C, H, W) on the CPU, of the training images class by class, or noise; and which of both."""
    context = opened.context
    named = opened.run is not None or context.data_name != "noise"
    seed = context.config.seed
    if asked.real if asked.real is not None else named:
        data = context.data()
        images, _ = scoring_set(data, asked.images, seed)
        if len(images) < asked.images:
            raise DataError(f"'{context.config.data}' has {len(images)} training images; got --images {asked.images}")
        return images, True
    return torch.randn(asked.images, *context.shape, generator=torch.Generator().manual_seed(seed)), False


def _networks(
    opened: Opened, images: torch.Tensor, asked: Asked, structures: Sequence[Json], progress: Progress
) -> list[Json]:
    """The entry of each network, the mean over its draws."""
    draws: dict[int, list[Json]] = {index: [] for index in range(len(opened.networks))}
    settled: dict[int, bool] = {}
    work = list(_work(opened.networks, asked.seeds))
    dense: Kernel | None = None
    with progress.task("networks", len(work)) as task:
        for draw, index in work:
            network = opened.networks[index]
            model = network.build(draw).to(images.device)
            mask = None if network.mask is None else network.mask.to(images.device)
            measured = look_at(
                model, mask, images, asked, opened.context.config.seed, None if index == 0 else dense, progress
            )
            dense = measured.kernel if index == 0 else dense
            draws[index].append(measured.numbers)
            settled[index] = measured.settled
            task.advance(note=network.name)
    return [
        {
            **_head(network, opened.dense_mask),
            "settled": settled[index],
            "draws": len(draws[index]),
            **mean_of(draws[index]),
            "deviations": deviation_of(draws[index]) if len(draws[index]) > 1 else None,
            **({"structure": structures[index]} if structures else {}),
        }
        for index, network in enumerate(opened.networks)
    ]


def _work(networks: Sequence[Network], seeds: int) -> Iterator[tuple[int, int]]:
    """(draw, place of the network), the dense one of each draw first."""
    for draw in range(seeds):
        for index, network in enumerate(networks):
            if draw == 0 or network.drawn:
                yield draw, index


def _head(network: Network, dense: Mask) -> Json:
    mask = network.whole or dense
    total = sum(kept.numel() for kept in dense.values())
    return {
        "name": network.name,
        "state": network.state,
        "epoch": network.epoch,
        "method": network.method,
        "file": network.file,
        "weights": total,
        "kept": mask.kept,
        "density": mask.kept / total,
    }


def _structures(opened: Opened, asked: Asked) -> list[Json]:
    """Of each network's mask on the dense model; the same mask is looked at once.

    Raises:
        ConfigError: no paths can be followed through the network.
    """
    if not asked.wants("structure"):
        return []
    model, found = opened.context.architecture(), {}
    masks = [network.whole or opened.dense_mask for network in opened.networks]
    for mask in masks:
        if id(mask) not in found:
            try:
                found[id(mask)] = mask_structure(model, mask, opened.context.shape).to_json()
            except ConfigError as error:
                others = ",".join(part for part in PARTS if part != "structure")
                raise ConfigError(f"{error}; --only {others} goes without structure") from None
    return [found[id(mask)] for mask in masks]


def _overlaps(networks: Sequence[Network]) -> list[Json]:
    """Of each two different masks."""
    by_mask = {id(network.whole): network for network in reversed(networks) if network.whole is not None}
    distinct = [network for network in networks if by_mask.get(id(network.whole)) is network]
    found = []
    for first, second in combinations(distinct, 2):
        assert first.whole is not None
        assert second.whole is not None
        found.append({"first": first.name, "second": second.name, **overlap(first.whole, second.whole).to_json()})
    return found


def _subject(opened: Opened) -> Json:
    config = opened.context.config
    return {
        "model": config.model,
        "run": None if opened.run is None else str(opened.run),
        "num_classes": config.num_classes,
        "input_shape": list(opened.context.shape),
        "weights": config.weights,
        "seed": config.seed,
    }


def _settings(opened: Opened, asked: Asked, images: int, real: bool) -> Json:
    context = opened.context
    return {
        "parts": list(asked.only),
        "images": images,
        "real": real,
        "data": context.data_name if real else None,
        "form": asked.form,
        "way": asked.way,
        "memory_bytes": asked.memory_bytes,
        "seeds": asked.seeds,
        "probes": asked.probes,
        "device": str(context.device),
        "threads": torch.get_num_threads(),
    }


def _memory(device: torch.device, at_first: int) -> Json:
    peak = peak_rss_bytes()
    cuda = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"peak_rss_bytes": peak, "growth_bytes": max(0, peak - at_first), "peak_cuda_allocated_bytes": cuda}
