"""What the benchmarks share: interleaved timing of alternatives, and results that state their machine."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ntksap_export.profiling.environment import environment

RESULTS = Path(__file__).with_name("results")


def interleave(
    calls: Mapping[str, Callable[[], object]],
    runs: int,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, A B A B ..., so that drift of the machine hits all alike.

    On a machine that others use, too, a call longer than the scheduler's slice waits and a shorter one does not: of
    calls of one thread, `clock=time.process_time` then counts the work alone.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(warmup + runs):
        for name, call in calls.items():
            start = clock()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if index >= warmup:
                times[name].append(clock() - start)
    return times


def ratios(times: Mapping[str, list[float]], name: str, baseline: str) -> dict[str, float]:
    """Median and quartiles of the ratio name / baseline, pair by pair."""
    pairs = sorted(a / b for a, b in zip(times[name], times[baseline], strict=True))
    quarter, _, three_quarters = statistics.quantiles(pairs, n=4)
    return {"median": statistics.median(pairs), "q1": quarter, "q3": three_quarters, "n": len(pairs)}


def numbers_in_line(text: str) -> str:
    """Indented JSON with each list of numbers on one line: raw times are many."""
    return re.sub(r"\[\s+[-+\d.eE,\s]+\]", lambda found: "".join(found[0].split()).replace(",", ", "), text)


def save(name: str, rows: list[dict[str, Any]], text: str, folder: Path = RESULTS) -> None:
    """Write NAME.json with raw times and NAME.txt into results/, or another folder, and print the text."""
    folder.mkdir(exist_ok=True)
    place = {**environment(), "torch_threads": torch.get_num_threads()}
    content = {"benchmark": name, "environment": place, "rows": rows}
    (folder / f"{name}.json").write_text(numbers_in_line(json.dumps(content, indent=1, sort_keys=True)) + "\n")
    versions = ", ".join(f"{key} {value}" for key, value in place["versions"].items())
    head = f"{place['cpu']}, {place['cores']} cores, {place['torch_threads']} threads; GPU {place['gpu']}; {versions}"
    (folder / f"{name}.txt").write_text(f"{head}\n\n{text}\n")
    print(f"{head}\n\n{text}")
