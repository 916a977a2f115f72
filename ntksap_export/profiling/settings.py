"""What is measured and how long: the lists of cells, the time each gets, the load it is put under. Free of torch."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ntksap_export.config import RunConfig

Mode = Literal["latency", "throughput", "server"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How `profile` measures; the cells are every combination of the lists.

    Attributes:
        backends: names of `runtime.backends`.
        devices: `cpu`, `cuda`.
        batches: images per call.
        threads: threads of one operator; on `cuda` only the first counts.
        streams: calls in flight at once; more than one needs `throughput` or `server`.
        precisions: `fp32`, `bf16`, `fp16`, `int8`; None is every one that the target has.
        percentiles: of the latency, in (0, 100]; the median is always among those reported.
        min_time_s: seconds of timed calls that each cell gets at least.
        max_time_s: seconds after which a cell ends, however wide its interval.
        target_ci: half width of the median's 95 % interval, as a share of the median, at which a cell may end.
        mode: `latency` (one call after the other), `throughput` (all streams busy), `server` (calls at random times).
        rates: `server`: images/s offered, each measured.
        limit_ms: `server`: the p99 up to which the highest rate is looked for.
        per_layer: also time every node.
        cuda_graph: torch on `cuda`: replay a recorded graph, without the CPU's part of each kernel's launch.
    """

    backends: tuple[str, ...]
    devices: tuple[str, ...]
    batches: tuple[int, ...]
    threads: tuple[int, ...]
    streams: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] | None = None
    percentiles: tuple[float, ...] = (50, 90, 95, 99)
    min_time_s: float = 1.0
    max_time_s: float = 10.0
    target_ci: float = 0.02
    mode: Mode = "latency"
    rates: tuple[float, ...] = ()
    limit_ms: float | None = None
    per_layer: bool = False
    cuda_graph: bool = False

    @classmethod
    def of(cls, config: RunConfig) -> Settings:
        """The `profile_*` keys of a run; threads that it leaves open are all CPUs of this process."""
        return cls(
            backends=config.profile_backend,
            devices=config.profile_device,
            batches=config.profile_batch,
            threads=config.profile_threads or default_threads(),
            streams=config.profile_streams,
            precisions=config.profile_precision,
            percentiles=config.profile_percentiles,
            min_time_s=config.profile_min_time,
            max_time_s=config.profile_max_time,
            target_ci=config.profile_target_ci,
            mode=config.profile_mode,
            rates=config.profile_rate,
            limit_ms=config.profile_limit,
            per_layer=config.profile_per_layer,
            cuda_graph=config.profile_cuda_graph,
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in profile.json: tuples are lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def default_threads() -> tuple[int, ...]:
    """All CPUs this process may use."""
    return (len(os.sched_getaffinity(0)),)
