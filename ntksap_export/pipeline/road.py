"""The road: stages in order, finished ones skipped, interrupted ones taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ntksap_export.config import RunConfig, make_config
from ntksap_export.errors import RunDirectoryError
from ntksap_export.pipeline.choose import choose_mask, find_goals
from ntksap_export.pipeline.context import Context, check_network
from ntksap_export.pipeline.ranks import all_or_none, check_alone, from_main
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.run_dir import STAGES, RunDir
from ntksap_export.pipeline.stages import RUNNERS
from ntksap_export.progress import Progress, Silent
from ntksap_export.pruning import SCORERS
from ntksap_export.pruning.distributed import is_main, world_size


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

    Called by every process of a group (`torch.distributed`), rank 0 walks and the others help it score; `prune` only.

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
    if tuple(stages) != ("prune",):
        check_alone(", ".join(stages))
    with ExitStack() as held:
        with all_or_none():
            context = _ready(config, out, stages, overwrite, progress, command)
        with all_or_none():
            if is_main():
                held.enter_context(context.run.locked())
                context.run.check(context.config, stages, overwrite)
        if world_size() > 1:
            done = from_main(is_main() and context.run.is_done("prune", context.config))
            if not is_main():
                if not done:
                    choose_mask(context)
                return out
        _walk(context, stages)
    return out


def _ready(
    config: RunConfig, out: Path, stages: Sequence[str], overwrite: bool, progress: Progress | None, command: str
) -> Context:
    """Everything that can be found wrong before something is written."""
    config, look = resolve(config)
    run = RunDir(out)
    if is_main():
        run.check(config, stages, overwrite)
    context = Context(config, run, progress or Silent(), look.name, command)
    check_network(context)
    find_goals(context, context.build_dense())
    if world_size() > 1 and SCORERS[config.method].needs_data:
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
    check_alone(stage)
    run = RunDir(out)
    if not out.is_dir():
        raise RunDirectoryError(f"no such directory '{out}'; run `ntksap prune MODEL --out {out}` first")
    stored = {key.replace("-", "_"): value for key, value in run.stored_config().items()}
    config = make_config({**stored, **changes})
    run.check(config, (stage,), overwrite)
    context = Context(config, run, progress or Silent(), _data_name(run), command)
    check_network(context, starts=stage == "train")
    with run.locked():
        _walk(context, (stage,), again=stage != "train")
    return out


def _walk(context: Context, stages: Sequence[str], again: bool = False) -> None:
    for stage in stages:
        if not again and context.run.is_done(stage, context.config):
            context.progress.say(f"{stage}: finished before, skipped")
            continue
        context.progress.say(f"{stage} ...")
        context.run.begin(stage, context.config)
        context.run.finish(stage, RUNNERS[stage](context))


def _data_name(run: RunDir) -> str:
    return str(run.read_json("config.json")["data"]["name"])
