"""The resolved configuration of a run: one frozen, validated model; its keys are the flags of the command line.

Values come from three places, the first that has one wins: a flag, the TOML file of `--config`, the default. Some
defaults depend on the data or the model; `pipeline.resolve` fills them in, so that what is stored is complete.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ntksap_export.config_checks import check_together
from ntksap_export.config_spellings import respelled
from ntksap_export.errors import ConfigError
from ntksap_export.latency_budget import LatencyBudget
from ntksap_export.ranges import read_count

# Which stage a key belongs to: a stage's result stays valid as long as its keys, and those before it, are unchanged.
PRUNE_KEYS = (
    "model", "weights_sha256", "data", "num_classes", "image_size", "mean", "std", "stem", "seed", "method", "sparsity",
    "flops", "params", "pattern", "scope", "min_layer_density", "round_to", "channel_sparsity", "rounds", "epsilon",
    "draws", "score_batch_size", "score_batches", "keep_dense", "control", "budget",
    "init", "steps", "step_epochs", "search_epochs", "rewind_epoch", "round_share", "reg_delta", "reg_every",
    "reg_limit", "decorrelation",
)  # fmt: skip
TRAIN_KEYS = (
    "epochs", "batch_size", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "milestones",
    "warmup_epochs", "label_smoothing", "augment", "precision", "accumulate", "sync_bn",
    "decay_norms", "gamma", "clip_norm", "mixup", "cutmix", "ema", "rescale_init",
    "cutout", "crop_scale", "crop_ratio", "repeats", "recover",
)  # fmt: skip
EXPORT_KEYS = (
    "opset", "atol", "rtol", "passes",
    "fp16", "fp16_io", "int8", "int8_keep", "int8_range", "max_drop", "calibration", "calibration_images",
    "dynamic_size", "external_data", "normalize", "input", "sparse_initializers", "engine",
)  # fmt: skip
PROFILE_KEYS = (
    "profile_batch", "profile_threads", "profile_backend", "profile_device", "profile_streams", "profile_precision",
    "profile_percentiles", "profile_min_time", "profile_max_time", "profile_target_ci",
    "profile_mode", "profile_rate", "profile_limit", "profile_per_layer", "profile_cuda_graph",
)  # fmt: skip
STAGE_KEYS: dict[str, tuple[str, ...]] = {
    "prune": PRUNE_KEYS,
    "train": TRAIN_KEYS,
    "export": EXPORT_KEYS,
    "profile": PROFILE_KEYS,
}
# How a stage is carried out, not what comes out of it: free to change between runs of one directory.
FREE_KEYS = (
    "device", "threads", "workers", "weights", "compile", "checkpoint_minutes", "keep_checkpoints", "tensorboard",
    "recipe", "data_dir", "download", "broken_images", "latency_table", "snapshot_epochs",
)  # fmt: skip

DEFAULT_SPARSITY = 0.9  # without any budget; n:m patterns bring their own
# Three ways to say one thing: a flag of one of them overrules a file's other.
_NUMBER_OF_WEIGHTS = ("sparsity", "density", "params")


class RunConfig(BaseModel):
    """All settings of one run, in the units of their `--help`; `None` means: found from the data or the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    recipe: str | None = None
    weights: str | None = None
    weights_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    data: str = "digits"
    data_dir: str | None = None
    download: bool = False
    broken_images: Literal["error", "skip"] = "error"
    num_classes: int | None = Field(None, ge=2)
    image_size: int | None = Field(None, ge=8, le=4096)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    stem: Literal["auto", "imagenet", "cifar"] = "auto"
    seed: int = Field(0, ge=0, lt=2**63)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)
    workers: int = Field(2, ge=0)

    method: str = "ntksap"
    sparsity: float | None = None
    flops: float | None = Field(None, gt=0, le=1)
    params: int | None = Field(None, ge=1)
    pattern: str = "unstructured"
    scope: Literal["global", "layer"] = "global"
    min_layer_density: float = Field(0.0, ge=0, le=1)
    round_to: int = Field(8, ge=1)
    channel_sparsity: float | None = None
    rounds: int | None = Field(None, ge=1)
    epsilon: float = Field(0.01, gt=0)
    draws: int = Field(1, ge=1)
    score_batch_size: int | None = Field(None, ge=2)
    score_batches: int | None = Field(None, ge=1)
    keep_dense: tuple[str, ...] = ()
    control: Literal["none", "shuffle", "reinit"] = "none"
    budget: str | None = None
    latency_table: str | None = None
    init: Literal["default", "orthogonal", "delta-orthogonal"] = "default"
    steps: int = Field(1, ge=1)
    step_epochs: int = Field(1, ge=1)
    search_epochs: int | None = Field(None, ge=1)
    rewind_epoch: int = Field(0, ge=0)
    round_share: float = Field(0.2, gt=0, lt=1)
    reg_delta: float = Field(1e-4, gt=0)
    reg_every: int | None = Field(None, ge=1)
    reg_limit: float = Field(1.0, gt=0)
    decorrelation: float = Field(1000.0, ge=0)

    epochs: int | None = Field(None, ge=0)
    batch_size: int | None = Field(None, ge=2)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float | None = Field(None, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0)
    decay_norms: bool = True
    schedule: Literal["cosine", "step", "linear", "constant"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = Field(0.1, gt=0, le=1)
    warmup_epochs: float = Field(0.5, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    rescale_init: bool = False
    recover: Literal["none", "orthp", "isometry"] = "none"
    augment: Literal["auto", "none", "shift", "crop-flip", "resized-crop"] = "auto"
    cutout: int = Field(0, ge=0)
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    repeats: int = Field(1, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    accumulate: int = Field(1, ge=1)
    sync_bn: bool = True
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"
    checkpoint_minutes: float = Field(10.0, gt=0)
    keep_checkpoints: int = Field(2, ge=1)
    tensorboard: bool = False
    snapshot_epochs: tuple[int, ...] = ()

    opset: int = Field(20, ge=17, le=23)
    dynamic_size: bool = False
    external_data: Literal["auto", "always", "never"] = "auto"
    normalize: bool = False
    input: Literal["float32", "uint8"] = "float32"
    sparse_initializers: bool = False
    atol: float = Field(1e-5, gt=0)
    rtol: float = Field(1e-4, gt=0)
    passes: tuple[str, ...] = ()  # as `--passes` has them; none is the usual list

    fp16: bool = False
    fp16_io: Literal["float32", "float16"] = "float32"
    int8: bool = False
    int8_keep: tuple[str, ...] = ("auto",)
    int8_range: Literal["auto", "full", "reduced"] = "auto"
    max_drop: float = Field(1.0, ge=0, le=100)
    calibration: Literal["percentile", "entropy", "minmax"] = "percentile"
    calibration_images: int = Field(128, ge=1)

    engine: bool = False

    profile_batch: tuple[int, ...] = (1, 8)
    profile_threads: tuple[int, ...] | None = None
    profile_backend: tuple[Literal["onnxruntime", "torch", "torch-compile", "openvino", "tensorrt"], ...] = (
        "onnxruntime",
        "torch",
    )
    profile_device: tuple[Literal["cpu", "cuda"], ...] = ("cpu", "cuda")
    profile_streams: tuple[int, ...] = (1,)
    profile_precision: tuple[Literal["fp32", "bf16", "fp16", "int8"], ...] | None = None
    profile_percentiles: tuple[float, ...] = (50, 90, 95, 99)
    profile_min_time: float = Field(1.0, gt=0)
    profile_max_time: float = Field(10.0, gt=0)
    profile_target_ci: float = Field(0.02, gt=0, lt=1)
    profile_mode: Literal["latency", "throughput", "server"] = "latency"
    profile_rate: tuple[float, ...] = ()
    profile_limit: float | None = Field(None, gt=0)
    profile_per_layer: bool = False
    profile_cuda_graph: bool = False

    @field_validator("params", mode="before")
    @classmethod
    def _read_params(cls, value: Any) -> Any:
        return read_count(value) if isinstance(value, str) else value

    def keys_of(self, stage: str) -> dict[str, Any]:
        """The settings that belong to `stage`, as plain JSON values."""
        everything = self.model_dump(mode="json")
        return {key: everything[key] for key in STAGE_KEYS[stage]}

    @property
    def own_budget(self) -> bool:
        """Whether nothing but the pattern says how much stays: n:m without a budget."""
        return ":" in self.pattern and "+" not in self.pattern and not {self.sparsity, self.flops, self.params} - {None}

    @property
    def latency(self) -> LatencyBudget | None:
        """The latency that `budget` asks for."""
        return None if self.budget is None else LatencyBudget.parse(self.budget)

    @property
    def channel_share(self) -> float | None:
        """The share of the channels of each group that goes, where that is the budget."""
        return self.channel_sparsity if self.pattern == "channel" and self.scope == "layer" else None

    def budget_text(self) -> str:
        """The budget in words."""
        if self.own_budget:
            return f"{self.pattern} of the weights"
        words = [f"{self.sparsity:.4g} sparsity"] if self.sparsity is not None else []
        words += [f"{self.params:,} weights"] if self.params is not None else []
        words += [f"{self.flops:.4g} of the FLOPs"] if self.flops is not None else []
        words += [] if self.channel_share is None else [f"{self.channel_share:.4g} of each group's channels removed"]
        words += [] if self.latency is None else [f"{self.latency.ms:g} ms on {self.latency.where()}"]
        return " and ".join(words) or f"{DEFAULT_SPARSITY:.4g} sparsity"

    def with_values(self, **values: Any) -> RunConfig:
        """A validated copy with some values changed.

        Raises:
            ConfigError: a value is out of range.
        """
        return make_config({**self.model_dump(), **values})


def defaults(stage: str) -> dict[str, Any]:
    """The default of each setting of `stage`, as plain JSON values."""
    return make_config({"model": "", "sparsity": DEFAULT_SPARSITY}).keys_of(stage)


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate `values` (keys with underscores) into a `RunConfig`.

    Raises:
        ConfigError: an unknown key (near ones suggested) or a value out of range, in one line.
    """
    values = respelled(values)
    for key in values:
        if key not in RunConfig.model_fields:
            raise ConfigError(unknown_key(key))
        if isinstance(values[key], bool) and RunConfig.model_fields[key].annotation is not bool:
            # pydantic would take it for 1 or 0.
            raise ConfigError(f"{flag_name(key)}: takes no {str(values[key]).lower()}; leave it out for the default")
    try:
        config = RunConfig(**values)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    check_together(config)
    return config


def merge(file_values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Lay flags (those that are not None) over the file's values; what sets the number of weights is one setting."""
    given = {key: value for key, value in flags.items() if value is not None}
    merged = dict(file_values)
    if given.keys() & set(_NUMBER_OF_WEIGHTS):
        for key in _NUMBER_OF_WEIGHTS:
            merged.pop(key, None)
    return {**merged, **given}


def flag_name(key: str) -> str:
    """The flag of a key: `batch_size` -> `batch-size`."""
    return key.replace("_", "-")


def pruned_name(pattern: str) -> str:
    """What a network under `pattern` is called beside its dense twin: `sparse`, `slim` (channels removed), or both.

    For those who read it; in JSON the variant is `sparse` whatever the pattern.
    """
    first, plus, _ = pattern.partition("+")
    if first != "channel":
        return "sparse"
    return "slim+sparse" if plus else "slim"


def unknown_key(key: str) -> str:
    """What is said of a key that is none: near ones, and all."""
    valid = [flag_name(name) for name in (*RunConfig.model_fields, "density")]
    near = difflib.get_close_matches(flag_name(key), valid, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown key '{key}'; {hint}Valid keys: {', '.join(valid)}"


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = flag_name(str(problem["loc"][0])) if problem["loc"] else "configuration"
    if problem["type"] == "value_error":  # a sentence of our own, which says what it got
        return f"{where}: {problem['ctx']['error']}"
    if problem["type"] == "missing" and len(problem["loc"]) > 1:  # in a tuple
        return f"{where}: too few values; got {problem['input']!r}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{where}: {message}; got {problem['input']!r}"
