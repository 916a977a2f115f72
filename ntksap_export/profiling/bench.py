"""Within the measuring process: one network on one batch, its turns, and what the kernel counted meanwhile."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy.typing as npt

from ntksap_export.profiling import counters, cuda, gpu
from ntksap_export.profiling.load import arrivals, in_threads, serve, together
from ntksap_export.profiling.measure import WARMUP_S, Call, Warmup, warm_up
from ntksap_export.runtime import backends
from ntksap_export.runtime.session import Session

_LONGEST = 10  # times the usual warm-up, where the calls do not become stable
_REWARM = 0.1  # of a turn: whatever the other processes left in the caches is not timed


class Bench:
    """The calls of a session, bound to a batch.

    Args:
        spec: of the cell.
        session: opened.
        images: the batch.
        cpus: on which this process is kept; empty on a GPU.

    Attributes:
        first_run_ms: of the very first call, in which a runtime may still pack weights and choose kernels.
    """

    def __init__(self, spec: dict[str, Any], session: Session, images: npt.NDArray[Any], cpus: list[int]) -> None:
        self._cuda = spec["device"] == "cuda"
        self._cpus, self._batch = cpus, int(spec["batch"])
        self._warmup_s = float(spec.get("warmup_s", WARMUP_S))
        self._calls: list[Call] = [session.bind(images) for _ in range(spec.get("streams", 1))]
        self._events: cuda.Runs | None = None
        self._readings: list[dict[str, Any]] = []
        self._uuid = _uuid() if self._cuda else None
        if self._cuda and backends.takes_model(spec["backend"]):  # such a call returns before the work is done
            self._calls = self._on_cuda(bool(spec.get("cuda_graph")))
        self._cpu: dict[str, float] = {}
        self._joules: float | None = None
        self._timed_images, self._timed_s = 0, 0.0
        self._clocks: list[float] = []
        self.first_run_ms = 0.0
        self._throttled = counters.throttle_counts(cpus)

    def warm_up(self) -> Warmup:
        """Before the first turn; with several streams all of them."""
        start = time.perf_counter()
        self._calls[0]()
        self.first_run_ms = (time.perf_counter() - start) * 1e3
        first = warm_up(self._calls[0], self._warmup_s, _LONGEST * self._warmup_s)
        if len(self._calls) > 1:
            in_threads([partial(warm_up, call, self._warmup_s, self._warmup_s) for call in self._calls])
        return first

    def turn(self, seconds: float, at_least: int) -> dict[str, Any]:
        """Time calls for a while; `times_ms`, the seconds they took together, and all that was counted so far."""
        self._rewarm(seconds)
        before, energy = counters.cpu_seconds(self._cpus), counters.energy_uj()
        start = time.perf_counter()
        if self._events is not None:
            times = self._events(seconds, at_least)
        else:
            times = together(self._calls, seconds, at_least, time.perf_counter_ns)
        wall = time.perf_counter() - start
        used = counters.energy_used_j(energy, counters.energy_uj())
        if used is not None:
            self._joules = used + (self._joules or 0.0)
        self._cpu = counters.added(self._cpu, before, counters.cpu_seconds(self._cpus))
        self._timed_images += len(times) * self._batch
        self._timed_s += wall
        if (clock := counters.clock_mhz(self._cpus)) is not None:
            self._clocks.append(clock)
        if self._cuda:
            self._readings.append(gpu.reading(self._uuid))
        return {"times_ms": times, "wall_s": wall, **self._counted()}

    def serve(self, rate: float, seconds: float, patience_s: float, seed: int) -> dict[str, Any]:
        """Answer requests of one batch each at `rate` images/s, and tell how long they waited."""
        self._rewarm(seconds)
        served = serve(self._calls, arrivals(rate / self._batch, seconds, seed), patience_s)
        row = served.to_json(rate, self._batch)
        return {**row, "seed": seed, "times_ms": [round(value, 4) for value in served.latencies_ms]}

    def gpu(self, images: npt.NDArray[Any]) -> dict[str, Any]:
        """Clocks and power over the turns, and the copy of a batch to the device apart."""
        return {**gpu.summary(self._readings), "h2d_ms": cuda.copy_ms(images)}

    def _rewarm(self, seconds: float) -> None:
        for call in self._calls:
            start = time.perf_counter()
            call()
            while time.perf_counter() - start < min(_REWARM * seconds, 0.05):
                call()

    def _counted(self) -> dict[str, Any]:
        return {
            "cpu": self._cpu,
            "clock_mhz": [min(self._clocks), max(self._clocks)] if self._clocks else None,
            "throttled": counters.events_between(self._throttled, counters.throttle_counts(self._cpus)),
            "energy": counters.energy_json(self._joules, self._timed_images, self._timed_s),
        }

    def _on_cuda(self, graph: bool) -> list[Call]:
        calls = [cuda.captured(call) if graph else call for call in self._calls]
        if len(calls) == 1:
            self._events = cuda.event_times(calls[0])
        return [cuda.waiting(call) for call in calls]


def _uuid() -> str | None:
    import torch

    return str(getattr(torch.cuda.get_device_properties(0), "uuid", "")) or None
