"""The stages of the road. Each takes what the one before wrote to the directory, and writes its own files whole."""

from __future__ import annotations

from dataclasses import asdict

from ntksap_export.atomic import write_json, write_text
from ntksap_export.checkpoint import describe, save_mask
from ntksap_export.errors import RunDirectoryError
from ntksap_export.masks import format_channels, format_health, format_table, layer_costs, mask_health, mask_table
from ntksap_export.pipeline.choose import choose_mask
from ntksap_export.pipeline.context import CHANNELS, Context, config_json
from ntksap_export.pipeline.exporting import run_export
from ntksap_export.pipeline.profiling import run_profile
from ntksap_export.pipeline.summary import stale
from ntksap_export.pipeline.targets import run_files
from ntksap_export.pipeline.training import run_train
from ntksap_export.report import ReportInput, render_card, render_html


def run_prune(context: Context) -> tuple[str, ...]:
    """Choose the mask at initialization; writes config.json, mask.safetensors and mask.json."""
    config, run = context.config, context.run
    write_json(run.file("config.json"), config_json(context, None))
    choice = choose_mask(context)
    dense = context.build_dense()
    whole = choice.on_dense(dense)
    table, health = mask_table(whole, layer_costs(dense, context.shape)), mask_health(choice.mask)
    context.progress.say(f"{format_table(table)}\n{format_health(health)}")
    for layer, reason in choice.left.items():
        context.progress.say(f"left whole: {layer} ({reason})")
    if choice.plan is not None:
        context.progress.say(format_channels(choice.plan.summary()))
        write_json(run.file(CHANNELS), choice.plan.to_json())
    else:
        run.file(CHANNELS).unlink(missing_ok=True)  # of a run that was overwritten
    save_mask(run.file("mask.safetensors"), choice.mask, context.provenance().to_json())
    write_json(
        run.file("mask.json"),
        {
            "schema": 1,
            "method": config.method,
            "pattern": config.pattern,
            "scope": config.scope,
            "budget": {"sparsity": config.sparsity, "flops": config.flops, "params": config.params},
            "rounds": config.rounds,
            "control": config.control,
            "seconds": round(choice.seconds, 3),
            "left_whole": choice.left,
            "channels": None if choice.plan is None else choice.plan.summary(),
            "digest": choice.mask.digest(),
            "table": asdict(table),
            "health": asdict(health),
            "provenance": context.provenance().to_json(),
        },
    )
    return ("mask.safetensors", "mask.json", *(() if choice.plan is None else (CHANNELS,)))


def run_report(context: Context) -> tuple[str, ...]:
    """Write report.html and README.md from what the other stages left.

    Raises:
        RunDirectoryError: a part is missing, or was measured of an earlier graph.
    """
    run = context.run
    if stale(run, "profile") and run.file("profile.json").is_file():
        raise RunDirectoryError(f"'{run.file('profile.json')}' is of an earlier graph; run `ntksap profile` first")
    data = ReportInput(
        config=run.read_json("config.json"),
        mask=run.read_json("mask.json"),
        metrics=run.read_json("metrics.json"),
        parity=run.read_json("parity.json"),
        profile=run.read_json("profile.json"),
        sizes=_sizes(context),
        command=context.command,
        versions=dict(context.provenance().versions),
    )
    write_text(run.file("report.html"), render_html(data))
    write_text(run.file("README.md"), render_card(data))
    return ("report.html", "README.md")


RUNNERS = {
    "prune": run_prune,
    "train": run_train,
    "export": run_export,
    "profile": run_profile,
    "report": run_report,
}


def _sizes(context: Context) -> dict[str, int]:
    path = context.run.path
    dense = describe(path / "model.safetensors").dense_bytes
    if context.channel_plan() is not None:
        dense = sum(value.numel() * value.element_size() for value in context.architecture().state_dict().values())
    return {"dense checkpoint (computed)": dense, **run_files(path)}
