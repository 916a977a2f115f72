"""The flags that a verb takes, picked from the table of `flags`.

Flags default to None: what was not given comes from --config, and then from `RunConfig`, which also validates.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ntksap_export.cli.flags import FLAGS
from ntksap_export.errors import ConfigError

DATA = (
    "weights", "data", "num_classes", "image_size", "mean", "std", "stem", "seed", "device", "threads", "workers",
    "data_dir", "download", "broken_images",
)  # fmt: skip
PRUNE = (
    "method", "sparsity", "density", "params", "flops", "pattern", "scope", "min_layer_density", "round_to",
    "channel_sparsity", "rounds", "epsilon", "draws", "score_batch_size", "score_batches", "keep_dense", "control",
    "budget", "latency_table", "init",
)  # fmt: skip
# What methods take that train to find their mask.
SEARCH = (
    "steps", "step_epochs", "search_epochs", "rewind_epoch", "round_share", "reg_delta", "reg_every", "reg_limit",
    "decorrelation",
)  # fmt: skip
TRAIN = (
    "epochs", "batch_size", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "decay_norms", "schedule",
    "milestones", "gamma", "warmup_epochs", "clip_norm", "label_smoothing", "mixup", "cutmix", "ema", "rescale_init",
    "recover", "snapshot_epochs", "augment", "cutout", "crop_scale", "crop_ratio", "repeats", "precision", "accumulate",
    "sync_bn", "compile", "checkpoint_minutes", "keep_checkpoints", "tensorboard",
)  # fmt: skip
EXPORT = (
    "opset", "atol", "rtol", "passes",
    "fp16", "fp16_io", "int8", "int8_keep", "int8_range", "max_drop", "calibration", "calibration_images",
    "dynamic_size", "external_data", "normalize", "input", "sparse_initializers", "engine",
)  # fmt: skip
PROFILE = (
    "profile_batch", "profile_threads", "profile_backend", "profile_device", "profile_streams", "profile_precision",
    "profile_percentiles", "profile_min_time", "profile_max_time", "profile_target_ci",
    "profile_mode", "profile_rate", "profile_limit", "profile_per_layer", "profile_cuda_graph",
)  # fmt: skip
WHOLE_ROAD = (*DATA, *PRUNE, *SEARCH, *TRAIN, *EXPORT, *PROFILE)
# A sweep compares latencies; how a server is loaded is for `ntksap profile` of the network that is chosen.
SWEPT = ("method", "sparsity", "pattern")
_NOT_SWEEP = (
    "density", "fp16", "int8", "profile_streams", "profile_precision", "profile_mode", "profile_rate", "profile_limit",
    "profile_per_layer",
)  # fmt: skip
SWEEP = tuple(name for name in WHOLE_ROAD if name not in _NOT_SWEEP)

Model = Annotated[
    str | None,
    typer.Argument(
        help="A name from `ntksap list models`, torchvision:NAME, timm:NAME, or your own package.module:factory; "
        "--recipe may bring it",
        show_default=False,
    ),
]
RunPath = Annotated[Path, typer.Argument(help="An output directory of ntksap", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Output directory. Default: runs/MODEL-DATA-METHOD-SPARSITY", show_default=False),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with the same keys as the flags", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Give up another run that the directory holds")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Only go on with a run that was begun; without it, one is begun where there is none"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved plan and write nothing")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors")]


def takes(
    *names: str, rename: Mapping[str, str] | None = None, several: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the flags of these settings; they reach it in `**settings`, None where not given.

    Args:
        names: keys of `FLAGS`.
        rename: key -> flag name, where a verb calls it differently.
        several: keys of which this verb takes several values, by commas.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
        added = [_parameter(name, (rename or {}).get(name, name), name in several) for name in names]
        function.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        function.__annotations__ = {item.name: item.annotation for item in (*own, *added)}
        return function

    return decorate


def given(settings: Mapping[str, Any], several: Collection[str] = ()) -> dict[str, Any]:
    """The settings that were given, lists split at commas, `several` among them.

    Raises:
        ConfigError: an item of a list that is not a number.
    """
    values = {}
    for name, value in settings.items():
        if value is None or value == []:
            continue
        items = FLAGS[name].kind if name in several else FLAGS[name].items
        values[name] = _split(name, value, items) if items else tuple(value) if isinstance(value, list) else value
    return values


def _split(name: str, text: str, kind: type) -> tuple[Any, ...]:
    try:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        flag = name.replace("_", "-")
        raise ConfigError(f"--{flag} takes numbers separated by commas; got '{text}'") from None


def _parameter(name: str, shown: str, several: bool) -> inspect.Parameter:
    flag = FLAGS[name]
    if several:
        flag = replace(flag, kind=str, help=f"{flag.help}. Several by commas")
    text = f"--{shown.replace('_', '-')}"
    if flag.kind is bool:
        text = f"{text}/--no-{shown.replace('_', '-')}"
    option = typer.Option(text, help=flag.help, show_default=False, rich_help_panel=flag.panel)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[flag.kind | None, option]
    )


_NOT_REPEATED = ("--json", "--overwrite", "--resume", "--quiet", "-q")


def as_typed(arguments: Sequence[str]) -> str:
    """The command line as a user would type it again, without what says only how it talks or starts."""
    import shlex

    return shlex.join(["ntksap", *(argument for argument in arguments if argument not in _NOT_REPEATED)])
