"""Many conversions, one after another or in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from ntksap_export.errors import ConfigError, NtksapError
from ntksap_export.pipeline.convert.one import Outcome, attempt
from ntksap_export.pipeline.convert.options import ConvertOptions
from ntksap_export.pipeline.convert.plan import Job
from ntksap_export.progress import Progress, Silent


def convert(
    work: Sequence[Job],
    options: ConvertOptions,
    processes: int = 1,
    keep_going: bool = False,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Do the conversions of a plan; gives each outcome in the plan's order, when it is known.

    Args:
        work: of `plan`.
        options: the same as for `plan`.
        processes: how many at a time; each takes memory for its largest tensor.
        keep_going: go on after a failure; without it, nothing is begun any more.
        progress: where the count is shown.

    Raises:
        ConfigError: no process.
        NtksapError: a process was killed.
    """
    if processes < 1:
        raise ConfigError(f"--jobs must be 1 or more; got {processes}")
    shown = progress or Silent()
    return _convert(work, options, min(processes, len(work)), keep_going, shown)


def _convert(
    work: Sequence[Job], options: ConvertOptions, processes: int, keep_going: bool, progress: Progress
) -> Iterator[Outcome]:
    run = _one_by_one(work, options, keep_going)
    if processes > 1:
        run = _in_processes(work, options, processes, keep_going)
    with progress.task("convert", len(work)) as task:
        for outcome in run:
            yield outcome
            task.advance(1, outcome.job.source.name)


def _one_by_one(work: Sequence[Job], options: ConvertOptions, keep_going: bool) -> Iterator[Outcome]:
    for job in work:
        outcome = attempt(job, options)
        yield outcome
        if outcome.exit_code and not keep_going:
            return


def _in_processes(work: Sequence[Job], options: ConvertOptions, processes: int, keep_going: bool) -> Iterator[Outcome]:
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(threads,)) as pool:
        futures = [pool.submit(attempt, job, options) for job in work]
        try:
            yield from _outcomes(futures, keep_going)
        except BrokenProcessPool as error:
            raise NtksapError("a process of --jobs was killed, for lack of memory perhaps; use fewer --jobs") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _outcomes(futures: Sequence[Future[Outcome]], keep_going: bool) -> Iterator[Outcome]:
    for place, future in enumerate(futures):
        try:
            outcome = future.result()
        except CancelledError:
            continue
        yield outcome
        if outcome.exit_code and not keep_going:
            for later in futures[place + 1 :]:
                later.cancel()  # what has begun is finished and told


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the first process says that it was interrupted
    torch.set_num_threads(threads)
