"""Settings that contradict each other, or that would be ignored without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ntksap_export.errors import ConfigError
from ntksap_export.ranges import check_sparsity

if TYPE_CHECKING:
    from ntksap_export.config import RunConfig

# Below, the logits' error is twice that of 128 images, measured on ResNet-20 and MobileNetV2 (docs/graphs.md).
MIN_CALIBRATION_IMAGES: Final = 32


def check_together(config: RunConfig) -> None:
    """Check settings that each are in range for what they say together.

    Raises:
        ConfigError: names the flags, and what to do.
    """
    for sparsity in (config.sparsity, config.channel_sparsity):
        if sparsity is not None:
            check_sparsity(sparsity)
    _check_pattern(config)
    if config.calibration_images < MIN_CALIBRATION_IMAGES:
        raise ConfigError(
            f"calibration-images must be at least {MIN_CALIBRATION_IMAGES}; got {config.calibration_images}. "
            "Fewer do not show how far activations reach"
        )
    if len(config.int8_keep) > 1 and {"auto", "none"} & set(config.int8_keep):
        raise ConfigError(f"--int8-keep is auto, none or names of layers; got {','.join(config.int8_keep)}")
    if (config.mean is None) != (config.std is None):
        raise ConfigError("give both --mean and --std, or neither")
    if config.std is not None and min(config.std) <= 0:
        raise ConfigError(f"std must be above 0; got {config.std}")
    if config.mean is not None and not all(0 <= value <= 1 for value in config.mean):
        raise ConfigError(f"mean is on the scale where white is 1; got {config.mean}. Divide it and --std by 255")
    if any(not 0 < at < 1 for at in config.milestones):
        raise ConfigError(f"milestones are shares of the epochs, in (0, 1); got {config.milestones}")
    last = config.epochs
    if any(epoch < 0 or (last is not None and epoch > last) for epoch in config.snapshot_epochs):
        shown = ",".join(map(str, config.snapshot_epochs))
        until = "" if last is None else f" to {last}"
        raise ConfigError(f"snapshot-epochs are epochs of the training, 0 (its start){until}; got {shown}")
    if config.rescale_init and config.weights is not None:
        raise ConfigError("--rescale-init rescales drawn weights, and --weights are not drawn; leave one of them away")
    _check_isometry(config)
    if config.sparse_initializers and config.external_data == "always":
        raise ConfigError("--sparse-initializers writes one file; leave --external-data always away")
    if config.engine and config.dynamic_size:
        raise ConfigError("--engine plans for one size of images; leave --dynamic-size away")
    _check_profile(config)


def _check_isometry(config: RunConfig) -> None:
    """What cannot be made orthogonal, or would be overwritten."""
    if config.init != "default" and config.weights is not None:
        raise ConfigError(f"--init {config.init} draws weights, and --weights are not drawn; leave one of them away")
    if config.recover == "none":
        return
    if config.rescale_init:
        raise ConfigError(
            f"--rescale-init and --recover {config.recover} both set the scale of what is kept; leave one of them away"
        )
    if config.recover == "orthp" and config.pattern != "channel":
        raise ConfigError(
            f"--recover orthp fills every weight of a layer; got --pattern {config.pattern}, which prunes single ones. "
            "Use --recover isometry, or --pattern channel"
        )


def _check_profile(config: RunConfig) -> None:
    """What `ntksap profile` cannot measure, or would not look at."""
    for name in ("profile_batch", "profile_threads", "profile_streams"):
        numbers = getattr(config, name)
        if numbers is not None and (not numbers or min(numbers) < 1):
            raise ConfigError(f"{name.replace('_', '-')} must be whole numbers of at least 1; got {numbers}")
    if not config.profile_backend or not config.profile_device:
        raise ConfigError("profile-backend and profile-device must name at least one each")
    if config.profile_precision == ():
        raise ConfigError("profile-precision must name at least one; leave it away for all that there are")
    levels = config.profile_percentiles
    if not levels or not all(0 < level <= 100 for level in levels):
        raise ConfigError(f"profile-percentiles must be in (0, 100]; got {levels}")
    if config.profile_min_time > config.profile_max_time:
        raise ConfigError(
            f"profile-min-time is {config.profile_min_time:g} s, more than profile-max-time with "
            f"{config.profile_max_time:g} s; give both"
        )
    _check_load(config)


def _check_load(config: RunConfig) -> None:
    """What belongs to one mode of `ntksap profile` only."""
    rates, mode = config.profile_rate, config.profile_mode
    if rates and min(rates) <= 0:
        raise ConfigError(f"profile-rate must be images/s above 0; got {rates}")
    if mode != "server" and (rates or config.profile_limit is not None):
        raise ConfigError(f"profile-rate and profile-limit belong to profile-mode server; got {mode}")
    if mode == "server" and not rates and config.profile_limit is None:
        raise ConfigError("profile-mode server needs profile-rate (images/s) or profile-limit (ms that p99 may take)")
    if mode == "latency" and max(config.profile_streams) > 1:
        raise ConfigError(
            f"profile-streams {','.join(map(str, config.profile_streams))}: latency is measured one call after the "
            "other; use profile-mode throughput"
        )
    if config.profile_per_layer and mode != "latency":
        raise ConfigError(f"profile-per-layer times nodes one call after the other; got profile-mode {mode}")


def _check_pattern(config: RunConfig) -> None:
    """Refuse what would be ignored without a word."""
    first, _, second = config.pattern.partition("+")
    _check_latency(config, first == "channel", second)
    if first != "channel":
        if config.channel_sparsity is not None or config.round_to != type(config).model_fields["round_to"].default:
            raise ConfigError("--channel-sparsity and --round-to belong to --pattern channel or channel+...")
        return
    if not second and config.control == "shuffle":
        raise ConfigError(
            "--control shuffle has nothing to shuffle in --pattern channel; use channel+... or --control reinit"
        )
    if not second and config.channel_sparsity is not None:
        _check_channel_share(config)


def _check_channel_share(config: RunConfig) -> None:
    """A share of the channels of each group is a budget of its own."""
    if config.channel_share is None:
        raise ConfigError(
            "--channel-sparsity belongs to channel+...; for --pattern channel give --sparsity, or --scope layer beside "
            "it to remove that share of the channels of each group"
        )
    for key in ("sparsity", "params", "flops", "budget"):
        if getattr(config, key) is not None:
            raise ConfigError(
                f"give --channel-sparsity or --{key}, not both: with --pattern channel --scope layer the first is the "
                "share of the channels of each group that goes"
            )


def _check_latency(config: RunConfig, channels: bool, second: str) -> None:
    """A latency is met by channels alone."""
    if config.budget is None:
        if config.latency_table is not None:
            raise ConfigError("--latency-table belongs to --budget latency=...; leave it away or give one")
        return
    if not channels:
        raise ConfigError(
            f"--budget latency needs --pattern channel or channel+...; got {config.pattern}, whose zeros make no "
            "mainstream runtime faster. Without channels bound the work instead: --flops or --sparsity"
        )
    others = (config.sparsity, config.flops, config.params)
    if second and ":" not in second and others == (None, None, None):
        raise ConfigError(
            f"--budget latency says how many channels go, but nothing how many weights of {config.pattern}; "
            "add --sparsity, or use --pattern channel"
        )
