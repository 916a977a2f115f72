"""The configuration of a run: where values come from, which are refused, and which stage each belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ntksap_export.config import FREE_KEYS, STAGE_KEYS, RunConfig, flag_name, make_config, merge
from ntksap_export.config_file import read_toml
from ntksap_export.errors import ConfigError
from ntksap_export.ranges import check_sparsity


def toml(path: Path, text: str) -> Path:
    file = path / "run.toml"
    file.write_text(text, encoding="utf-8")
    return file


def made(**values: Any) -> RunConfig:
    return make_config({"model": "resnet20", **values})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (95, "sparsity must be in [0, 1); got 95. For 95 % write --sparsity 0.95"),
        (99.5, "sparsity must be in [0, 1); got 99.5. For 99.5 % write --sparsity 0.995"),
        (1, "sparsity must be in [0, 1); got 1. 1 would remove every weight; 0.99 keeps one in a hundred"),
        (-1, "sparsity must be in [0, 1); got -1. 0 keeps everything and 0.9 removes 90 %"),
        (100, "sparsity must be in [0, 1); got 100. 0 keeps everything and 0.9 removes 90 %"),
    ],
)
def test_a_sparsity_outside_its_range_says_what_was_meant(value: float, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(sparsity=value)
    with pytest.raises(ConfigError) as directly:
        check_sparsity(value)

    assert message == str(caught.value) == str(directly.value)


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 0.999999])
def test_a_sparsity_in_its_range_is_taken(value: float) -> None:
    assert value == made(sparsity=value).sparsity


def test_density_is_another_name_for_the_rest() -> None:
    assert 0.75 == made(density=0.25).sparsity
    assert 0.0 == made(density=1).sparsity
    assert 0.75 == made(density=0.25, sparsity=None).sparsity


@pytest.mark.parametrize("density", [0, -0.5, 1.5, 10, True, float("nan"), "half"])
def test_a_density_outside_its_range_is_refused(density: object) -> None:
    with pytest.raises(ConfigError, match=rf"density must be in \(0, 1\]; got {density}\. It is the share .* stays"):
        made(density=density)


def test_density_and_sparsity_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="give --sparsity or --density, not both"):
        made(density=0.1, sparsity=0.9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "lr: input should be greater than 0; got 0"),
        ({"lr": -0.1}, "lr: input should be greater than 0; got -0.1"),
        ({"lr": float("inf")}, "lr: input should be a finite number; got inf"),
        ({"lr": float("nan")}, "lr: input should be a finite number; got nan"),
        ({"sparsity": float("nan")}, "sparsity: input should be a finite number; got nan"),
        ({"lr": "fast"}, "lr: input should be a valid number, unable to parse string as a number; got 'fast'"),
        ({"epochs": -1}, "epochs: input should be greater than or equal to 0; got -1"),
        ({"epochs": 1.5}, "epochs: input should be a valid integer, got a number with a fractional part; got 1.5"),
        ({"batch_size": 1}, "batch-size: input should be greater than or equal to 2; got 1"),
        ({"score_batch_size": 1}, "score-batch-size: input should be greater than or equal to 2; got 1"),
        ({"momentum": 1}, "momentum: input should be less than 1; got 1"),
        ({"label_smoothing": 1.0}, "label-smoothing: input should be less than 1; got 1.0"),
        ({"weight_decay": -1}, "weight-decay: input should be greater than or equal to 0; got -1"),
        ({"epsilon": 0}, "epsilon: input should be greater than 0; got 0"),
        ({"draws": 0}, "draws: input should be greater than or equal to 1; got 0"),
        ({"rounds": 0}, "rounds: input should be greater than or equal to 1; got 0"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0; got -1"),
        ({"seed": 2**63}, f"seed: input should be less than {2**63}; got {2**63}"),
        ({"num_classes": 1}, "num-classes: input should be greater than or equal to 2; got 1"),
        ({"image_size": 7}, "image-size: input should be greater than or equal to 8; got 7"),
        ({"threads": 0}, "threads: input should be greater than or equal to 1; got 0"),
        ({"workers": -1}, "workers: input should be greater than or equal to 0; got -1"),
        ({"opset": 16}, "opset: input should be greater than or equal to 17; got 16"),
        ({"stem": "mnist"}, "stem: input should be 'auto', 'imagenet' or 'cifar'; got 'mnist'"),
        ({"precision": "fp8"}, "precision: input should be 'auto', 'fp32', 'bf16' or 'fp16'; got 'fp8'"),
        ({"keep_dense": "fc"}, "keep-dense: input should be a valid tuple; got 'fc'"),
        ({"mean": (0.5, 0.5, 0.5)}, "give both --mean and --std, or neither"),
        ({"std": (0.5, 0.5, 0.5)}, "give both --mean and --std, or neither"),
        ({"mean": (0, 0, 0), "std": (1, 0, 1)}, "std must be above 0; got (1.0, 0.0, 1.0)"),
        ({"mean": (0.5, 0.5), "std": (1, 1, 1)}, "mean: too few values; got (0.5, 0.5)"),
        (
            {"mean": (124, 117, 104), "std": (58, 57, 57)},
            "mean is on the scale where white is 1; got (124.0, 117.0, 104.0). Divide it and --std by 255",
        ),
        ({"epochs": True}, "epochs: takes no true; leave it out for the default"),
        ({"lr": False}, "lr: takes no false; leave it out for the default"),
        ({"milestones": (0.5, 1.0)}, "milestones are shares of the epochs, in (0, 1); got (0.5, 1.0)"),
        (
            {"rescale_init": True, "weights": "w.pt"},
            "--rescale-init rescales drawn weights, and --weights are not drawn; leave one of them away",
        ),
        (
            {"init": "orthogonal", "weights": "w.pt"},
            "--init orthogonal draws weights, and --weights are not drawn; leave one of them away",
        ),
        (
            {"rescale_init": True, "recover": "isometry"},
            "--rescale-init and --recover isometry both set the scale of what is kept; leave one of them away",
        ),
        *(
            (
                {"pattern": pattern, "recover": "orthp"},
                f"--recover orthp fills every weight of a layer; got --pattern {pattern}, which prunes single ones. "
                "Use --recover isometry, or --pattern channel",
            )
            for pattern in ("unstructured", "2:4", "channel+unstructured", "4x4")
        ),
        ({"ema": 1.0}, "ema: input should be less than 1; got 1.0"),
        ({"clip_norm": 0}, "clip-norm: input should be greater than 0; got 0"),
        ({"mixup": -0.2}, "mixup: input should be greater than or equal to 0; got -0.2"),
        ({"gamma": 0}, "gamma: input should be greater than 0; got 0"),
        ({"optimizer": "lion"}, "optimizer: input should be 'sgd' or 'adamw'; got 'lion'"),
        ({"milestones": (30.0, 60.0)}, "milestones are shares of the epochs, in (0, 1); got (30.0, 60.0)"),
        ({"profile_batch": (1, 0)}, "profile-batch must be whole numbers of at least 1; got (1, 0)"),
        ({"profile_batch": ()}, "profile-batch must be whole numbers of at least 1; got ()"),
        ({"profile_threads": (-2,)}, "profile-threads must be whole numbers of at least 1; got (-2,)"),
        ({"profile_backend": ()}, "profile-backend and profile-device must name at least one each"),
        ({"profile_device": ()}, "profile-backend and profile-device must name at least one each"),
        ({"profile_streams": (0,)}, "profile-streams must be whole numbers of at least 1; got (0,)"),
        ({"profile_precision": ()}, "profile-precision must name at least one; leave it away for all that there are"),
        ({"profile_percentiles": (50, 0)}, "profile-percentiles must be in (0, 100]; got (50.0, 0.0)"),
        ({"profile_min_time": 0}, "profile-min-time: input should be greater than 0; got 0"),
        ({"profile_max_time": 0.5}, "profile-min-time is 1 s, more than profile-max-time with 0.5 s; give both"),
        ({"profile_target_ci": 1}, "profile-target-ci: input should be less than 1; got 1"),
        (
            {"profile_mode": "server"},
            "profile-mode server needs profile-rate (images/s) or profile-limit (ms that p99 may take)",
        ),
        (
            {"profile_mode": "server", "profile_rate": (10, -1)},
            "profile-rate must be images/s above 0; got (10.0, -1.0)",
        ),
        ({"profile_rate": (10,)}, "profile-rate and profile-limit belong to profile-mode server; got latency"),
        ({"profile_limit": 5}, "profile-rate and profile-limit belong to profile-mode server; got latency"),
        (
            {"profile_streams": (1, 4)},
            "profile-streams 1,4: latency is measured one call after the other; use profile-mode throughput",
        ),
        (
            {"profile_per_layer": True, "profile_mode": "throughput"},
            "profile-per-layer times nodes one call after the other; got profile-mode throughput",
        ),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_named_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(**values)

    assert message == str(caught.value)
    assert 2 == caught.value.exit_code


@pytest.mark.parametrize(
    ("values", "times"),
    [
        ({"profile_seconds": 1.0}, (1.0, 10.0)),
        ({"profile_seconds": 0.05}, (0.05, 0.05)),
        ({"profile_seconds": 20}, (20.0, 20.0)),
        ({"profile_seconds": 20, "profile_min_time": 2}, (2.0, 10.0)),
    ],
    ids=str,
)
def test_the_time_that_an_older_version_stored_is_understood(
    values: dict[str, Any], times: tuple[float, float]
) -> None:
    config = made(**values)

    assert times == (config.profile_min_time, config.profile_max_time)


def test_a_model_must_be_named() -> None:
    with pytest.raises(ConfigError, match="model: field required"):
        make_config({})


def test_an_unknown_key_suggests_near_ones_and_lists_all() -> None:
    with pytest.raises(ConfigError, match="unknown key 'epoch'; did you mean epochs") as caught:
        made(epoch=3)

    assert all(flag_name(key) in str(caught.value) for key in RunConfig.model_fields)
    assert "density" in str(caught.value)


def test_a_configuration_cannot_be_changed_but_copied() -> None:
    config = made(lr=0.1)

    with pytest.raises(ValidationError):
        config.lr = 0.2  # type: ignore[misc]
    assert (0.1, 0.2) == (config.lr, config.with_values(lr=0.2).lr)
    assert config == config.with_values()
    with pytest.raises(ConfigError, match="epochs: "):
        config.with_values(epochs=-1)
    with pytest.raises(ConfigError, match="unknown key 'speed'"):
        config.with_values(speed=1)


def test_toml_takes_dashes_and_underscores(tmp_path: Path) -> None:
    file = toml(tmp_path, 'batch-size = 64\nweight_decay = 1e-4\nkeep-dense = ["fc"]\ndensity = 0.1\n')

    values = read_toml(file)

    assert {"batch_size": 64, "weight_decay": 1e-4, "keep_dense": ["fc"], "density": 0.1} == values
    config = made(**values)
    assert (64, 1e-4, ("fc",), 0.9) == (config.batch_size, config.weight_decay, config.keep_dense, config.sparsity)


def test_an_unknown_key_in_toml_names_file_key_and_valid_keys(tmp_path: Path) -> None:
    file = toml(tmp_path, "epochs = 3\nbatchsize = 64\n")

    with pytest.raises(ConfigError) as caught:
        read_toml(file)

    message = str(caught.value)
    assert message.startswith(f"--config '{file}': unknown key 'batchsize'; did you mean batch-size")
    assert all(flag_name(key) in message.partition("Valid keys: ")[2] for key in (*RunConfig.model_fields, "density"))


@pytest.mark.parametrize("text", ["epochs = \n", "epochs: 3\n", "epochs = 3\nepochs = 4\n"])
def test_what_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    file = toml(tmp_path, text)

    with pytest.raises(ConfigError, match=r"--config '.*run\.toml' is not TOML: "):
        read_toml(file)


def test_toml_that_is_not_utf_8_or_not_there_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes('data = "Stra\u00dfe"\n'.encode("latin-1"))

    with pytest.raises(ConfigError, match="is not TOML"):
        read_toml(latin)
    with pytest.raises(ConfigError, match=r"--config: no such file '.*missing\.toml'"):
        read_toml(tmp_path / "missing.toml")


def test_a_folder_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config '.*' cannot be read: Is a directory; name a TOML file"):
        read_toml(tmp_path)


def test_one_key_in_both_spellings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run.toml' has 'batch-size' twice, with - and with _; leave one"):
        read_toml(toml(tmp_path, "batch-size = 32\nbatch_size = 64\n"))


def test_a_table_in_toml_is_an_unknown_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'train'"):
        read_toml(toml(tmp_path, "[train]\nepochs = 3\n"))


def test_a_flag_beats_the_file_and_the_file_the_default() -> None:
    merged = merge({"epochs": 3, "lr": 0.3, "nesterov": True}, {"epochs": 7, "lr": None, "nesterov": False, "seed": 0})

    assert {"epochs": 7, "lr": 0.3, "nesterov": False, "seed": 0} == merged
    config = made(**merged)
    assert (7, 0.3, False, 0.9) == (config.epochs, config.lr, config.nesterov, config.momentum)


@pytest.mark.parametrize(
    ("file", "flags", "sparsity"),
    [
        ({"sparsity": 0.5}, {"density": 0.25}, 0.75),
        ({"density": 0.25}, {"sparsity": 0.5}, 0.5),
        ({"density": 0.25}, {"density": 0.125}, 0.875),
        ({"sparsity": 0.5}, {"sparsity": None, "density": None}, 0.5),
        ({"density": 0.25}, {}, 0.75),
        ({"params": "2k"}, {"sparsity": 0.5}, 0.5),
        ({"sparsity": 0.5}, {"params": "2k"}, None),
        ({}, {}, None),
    ],
)
def test_density_and_sparsity_are_one_setting(
    file: dict[str, Any], flags: dict[str, Any], sparsity: float | None
) -> None:
    assert sparsity == made(**merge(file, flags)).sparsity


def test_both_flags_at_once_are_still_refused() -> None:
    with pytest.raises(ConfigError, match="not both"):
        made(**merge({"sparsity": 0.5}, {"density": 0.1, "sparsity": 0.9}))


def test_merging_changes_neither_of_its_arguments() -> None:
    file, flags = {"sparsity": 0.5}, {"density": 0.1, "lr": None}

    merge(file, flags)

    assert ({"sparsity": 0.5}, {"density": 0.1, "lr": None}) == (file, flags)


def test_every_setting_belongs_to_one_stage_or_is_free() -> None:
    assigned = [key for keys in STAGE_KEYS.values() for key in keys] + list(FREE_KEYS)

    assert sorted(RunConfig.model_fields) == sorted(assigned)


def test_a_stages_settings_are_plain_json() -> None:
    config = made(keep_dense=("fc",), mean=(0.1, 0.2, 0.3), std=(1, 1, 1), lr=0.1, threads=1)

    stages = {stage: config.keys_of(stage) for stage in STAGE_KEYS}

    assert stages == json.loads(json.dumps(stages, allow_nan=False))
    assert {stage: list(keys) for stage, keys in STAGE_KEYS.items()} == {s: list(v) for s, v in stages.items()}
    assert (["fc"], [0.1, 0.2, 0.3], 0.1) == (
        stages["prune"]["keep_dense"],
        stages["prune"]["mean"],
        stages["train"]["lr"],
    )


def test_a_free_setting_changes_no_stage() -> None:
    plain, other = made(), made(device="cpu", threads=3, workers=0)

    assert plain != other
    assert all(plain.keys_of(stage) == other.keys_of(stage) for stage in STAGE_KEYS)


def test_flags_have_dashes() -> None:
    assert "score-batch-size" == flag_name("score_batch_size")


def test_a_sentence_of_our_own_says_once_what_it_got() -> None:
    with pytest.raises(ConfigError) as caught:
        made(params="abc")

    assert "params: must be a number such as 250000, 250k or 2.5M; got 'abc'" == str(caught.value)
