"""The road: stages in order, finished ones skipped, interrupted ones taken up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ntksap_export.config import RunConfig, make_config
from ntksap_export.errors import RunDirectoryError
from ntksap_export.graph import select_passes
from ntksap_export.pipeline.choose import find_goals
from ntksap_export.pipeline.context import Context, check_network
from ntksap_export.pipeline.engine import check_engine
from ntksap_export.pipeline.methods import prunes_with_data
from ntksap_export.pipeline.ranks import all_or_none, check_alone
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.run_dir import STAGES, RunDir
from ntksap_export.pipeline.searching import find_mask
from ntksap_export.pipeline.stages import RUNNERS
from ntksap_export.pipeline.training import run_train
from ntksap_export.processes import from_main, is_main, meet, world_size
from ntksap_export.progress import Progress, Silent

_TOGETHER: dict[str, Callable[[Context], object]] = {"prune": find_mask, "train": run_train}


def run_road(
    config: RunConfig,
    out: Path,
    *,
    stages: Sequence[str] = STAGES,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> Path:
    """Walk `stages` in the directory `out`; the same call again goes on where a killed one stopped.

    Called by every process of a group (`torch.distributed`): they score and train together, the rest rank 0 does alone,
    and it alone writes. `out` and the data must be on a file system that all of them see.

    Args:
        config: what to do; what it leaves open is found from the data and the model.
        out: created if need be.
        stages: in order; those finished with the same settings are skipped.
        overwrite: give up what the directory holds where it differs.
        progress: where messages and bars go.
        command: how to repeat this run, for the report.

    Raises:
        ConfigError, DataError, UnavailableError: found before anything is written.
        RunDirectoryError: the directory holds another run, or another process works in it.
        ScoreError, TrainingError, ExportError: of the stage that failed; what was finished stays.
    """
    with ExitStack() as held:
        with all_or_none():
            context = _ready(config, out, stages, overwrite, progress, command)
        with all_or_none():
            if is_main():
                held.enter_context(context.run.locked())
                context.run.check(context.config, stages, overwrite)
        _walk(context, stages)
    return out


def _ready(
    config: RunConfig, out: Path, stages: Sequence[str], overwrite: bool, progress: Progress | None, command: str
) -> Context:
    """Everything that can be found wrong before something is written."""
    select_passes(config.passes)  # a wrong name is found before anything is written
    config, look = resolve(config)
    run = RunDir(out)
    if is_main():
        run.check(config, stages, overwrite)
    if "export" in stages and not run.is_done("export", config):
        check_engine(config.engine)
    context = Context(config, run, progress or Silent(), look.name, command)
    check_network(context)
    find_goals(context, context.build_dense())
    if world_size() > 1 and ("train" in stages or prunes_with_data(config)):
        context.data()
    return context


def run_stage(
    stage: str,
    out: Path,
    changes: dict[str, object],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> Path:
    """One stage after `prune`, in a directory that the stage before it wrote.

    Args:
        stage: `train`, `export`, `profile` or `report`.
        out: the directory.
        changes: settings that differ from those stored there (keys of `RunConfig`).
        overwrite: train again although the directory holds a training with other settings.
        progress: where messages and bars go.
        command: how to repeat this run, for the report.

    Raises:
        RunDirectoryError: the directory is no run, or lacks what the stage needs.
        The errors of `run_road`.
    """
    if stage not in _TOGETHER:
        check_alone(stage)
    with ExitStack() as held:
        with all_or_none():
            context = _taken_up(stage, out, changes, overwrite, progress, command)
        with all_or_none():
            if is_main():
                held.enter_context(context.run.locked())
        _walk(context, (stage,), again=stage != "train")
    return out


def _taken_up(
    stage: str, out: Path, changes: dict[str, object], overwrite: bool, progress: Progress | None, command: str
) -> Context:
    run = RunDir(out)
    if not out.is_dir():
        raise RunDirectoryError(f"no such directory '{out}'; run `ntksap prune MODEL --out {out}` first")
    config = make_config({**run.stored_settings(), **changes})
    select_passes(config.passes)
    check_engine(stage == "export" and config.engine)
    if is_main():
        run.check(config, (stage,), overwrite)
    context = Context(config, run, progress or Silent(), _data_name(run), command)
    check_network(context, starts=stage == "train")
    return context


def _walk(context: Context, stages: Sequence[str], again: bool = False) -> None:
    for stage in stages:
        if stage not in _TOGETHER and not is_main():
            return  # what is left rank 0 does alone
        done = partial(context.run.is_done, stage, context.config)
        if not again and (from_main(done) if stage in _TOGETHER else done()):
            context.progress.say(f"{stage}: finished before, skipped")
        elif is_main():
            context.progress.say(f"{stage} ...")
            context.run.begin(stage, context.config)
            context.run.finish(stage, RUNNERS[stage](context))
        else:
            _TOGETHER[stage](context)
        if stage in _TOGETHER:
            meet()  # what rank 0 wrote is there for the next stage


def _data_name(run: RunDir) -> str:
    return str(run.read_json("config.json")["data"]["name"])
