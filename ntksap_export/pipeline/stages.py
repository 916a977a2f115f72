"""The stages of the road. Each takes what the one before wrote to the directory, and writes its own files whole."""

from __future__ import annotations

from dataclasses import asdict

from ntksap_export.atomic import write_json
from ntksap_export.checkpoint import save_mask, save_weights
from ntksap_export.latency_budget import reached_text
from ntksap_export.masks import format_channels, format_health, format_table, layer_costs, mask_health, mask_table
from ntksap_export.pipeline.context import Context, config_json
from ntksap_export.pipeline.exporting import run_export
from ntksap_export.pipeline.latency import LATENCY_TABLE, latency_entry
from ntksap_export.pipeline.profiling import run_profile
from ntksap_export.pipeline.reporting import run_report
from ntksap_export.pipeline.run_files import CHANNELS, START
from ntksap_export.pipeline.searching import find_mask
from ntksap_export.pipeline.training import run_train


def run_prune(context: Context) -> tuple[str, ...]:
    """Find the mask; writes config.json, mask.safetensors, mask.json, and what a search leaves to start from."""
    config, run = context.config, context.run
    write_json(run.file("config.json"), config_json(context, None))
    table_file = run.file(LATENCY_TABLE)
    choice = find_mask(context, table_file)
    dense = context.build_dense()
    whole = choice.on_dense(dense)
    table, health = mask_table(whole, layer_costs(dense, context.shape)), mask_health(choice.mask)
    context.progress.say(format_table(table))
    for line in format_health(health).splitlines():
        context.progress.say(line)
    for layer, reason in choice.left.items():
        context.progress.say(f"left whole: {layer} ({reason})")
    if choice.plan is not None:
        context.progress.say(format_channels(choice.plan.summary()))
        write_json(run.file(CHANNELS), choice.plan.to_json())
    else:
        run.file(CHANNELS).unlink(missing_ok=True)  # of a run that was overwritten
    if choice.latency is not None:
        context.progress.say(f"latency: {reached_text(choice.latency.to_json())}")
    else:
        table_file.unlink(missing_ok=True)
    if choice.weights is not None:
        save_weights(run.file(START), choice.weights)
    else:
        run.file(START).unlink(missing_ok=True)
    save_mask(run.file("mask.safetensors"), choice.mask, context.provenance().to_json())
    write_json(
        run.file("mask.json"),
        {
            "schema": 1,
            "method": config.method,
            "pattern": config.pattern,
            "scope": config.scope,
            "budget": {
                "sparsity": config.sparsity,
                "flops": config.flops,
                "params": config.params,
                **({} if config.channel_share is None else {"channels": config.channel_share}),
            },
            "rounds": config.rounds,
            "control": config.control,
            "seconds": round(choice.seconds, 3),
            "left_whole": choice.left,
            "channels": None if choice.plan is None else choice.plan.summary(),
            **({} if choice.search is None else {"search": choice.search}),
            **latency_entry(choice.latency, config.latency),
            "digest": choice.mask.digest(),
            "table": asdict(table),
            "health": asdict(health),
            "provenance": context.provenance().to_json(),
        },
    )
    return (
        *("mask.safetensors", "mask.json"),
        *(() if choice.plan is None else (CHANNELS,)),
        *(() if choice.weights is None else (START,)),
        *(() if choice.latency is None else (LATENCY_TABLE,)),
    )


RUNNERS = {
    "prune": run_prune,
    "train": run_train,
    "export": run_export,
    "profile": run_profile,
    "report": run_report,
}
