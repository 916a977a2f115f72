"""`--mode server`, seen from the parent: which rates a cell is asked to serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Protocol

from ntksap_export.profiling.load import highest_rate
from ntksap_export.profiling.settings import Settings
from ntksap_export.profiling.turns import Turns

_REQUESTS = 200  # at a rate, if there is time: a p99 of fewer is one or two requests
_PATIENCE = 2.0  # times the span in which requests come, until nobody waits for an answer any more


class Server(Protocol):
    """What answers requests."""

    def serve(self, rate: float, seconds: float, patience_s: float, seed: int) -> dict[str, Any]:
        """The row of a rate."""


def under_load(server: Server, turns: Turns, head: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """`server` and `max_rate` of a cell; empty in other modes.

    Args:
        server: its process, which has taken its turns: `latency_ms` is of one call after the other.
        turns: those.
        head: the first columns of its row: `batch` images per request, `streams` servers.
        settings: the rates, the limit, and the times: a rate is offered for `min_time_s` up to `max_time_s`, the
            highest one is looked for during `max_time_s` and as long as the last trial then takes.
    """
    if settings.mode != "server":
        return {}
    batch, streams = int(head["batch"]), int(head["streams"])
    rows = [_offer(server, rate, batch, settings, seed) for seed, rate in enumerate(settings.rates)]
    if settings.limit_ms is None:
        return {"server": rows}
    alone = median(turns.times_ms)
    if alone > settings.limit_ms:
        search = {"limit_ms": settings.limit_ms, "ended": f"one call alone takes {alone:.3g} ms", "trials": []}
        return {"server": rows, "max_rate": None, "max_rate_search": search}
    start = 500 * batch * streams / alone if alone else 1.0  # half of what is possible
    return {"server": rows, **search_rate(server, batch, start, settings)}


def search_rate(
    server: Server, batch: int, start: float, settings: Settings, clock: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """The highest rate (images/s) whose p99 stays under the limit, and every trial; `start` is tried first."""
    assert settings.limit_ms is not None
    limit, begin = settings.limit_ms, clock()
    trials: list[dict[str, Any]] = []

    def holds(rate: float) -> bool:
        row = _offer(server, rate, batch, settings, len(trials))
        trials.append({key: row[key] for key in ("rate", "p50_ms", "p99_ms", "requests", "unserved")})
        return bool(row["p99_ms"] <= limit and not row["unserved"])

    rate, ended = highest_rate(holds, start, lambda: clock() - begin < settings.max_time_s)
    return {"max_rate": rate, "max_rate_search": {"limit_ms": limit, "ended": ended, "trials": trials}}


def _offer(server: Server, rate: float, batch: int, settings: Settings, seed: int) -> dict[str, Any]:
    seconds = min(settings.max_time_s, max(settings.min_time_s, _REQUESTS * batch / rate))
    return server.serve(rate, seconds, _PATIENCE * seconds, seed)
