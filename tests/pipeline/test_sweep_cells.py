"""Which cells a sweep has, how they are called, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ntksap_export.errors import ConfigError
from ntksap_export.pipeline.sweep_cells import Cell, list_cells, read_axes


def cells_of(precisions: tuple[str, ...] | None = None, **settings: Any) -> tuple[Cell, ...]:
    values = {"model": "resnet20", **settings}
    return list_cells(values, read_axes(values, precisions))


def test_a_latency_is_met_by_channels_and_skips_the_others() -> None:
    dense, channel, other = cells_of(budget="latency=2.5ms@openvino,batch=8", pattern=("channel", "4x1"))

    assert [None, None, True] == [
        cell.reason and "needs --pattern channel" in cell.reason for cell in (dense, channel, other)
    ]
    assert ["ntksap-channel-latency2.5ms", "ntksap-4x1-latency2.5ms"] == [channel.name, other.name]
    assert dense.config is not None
    assert dense.config.budget is None


def names(**settings: Any) -> list[str]:
    return [cell.name for cell in cells_of(**settings)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["dense", "ntksap-unstructured-0.8", "ntksap-unstructured-0.9", "ntksap-unstructured-0.95"]),
        (
            {"method": ("snip", "erk"), "sparsity": (0.5, 0.98200001)},
            [
                "dense",
                *("snip-unstructured-0.5", "snip-unstructured-0.98200001"),
                *("erk-unstructured-0.5", "erk-unstructured-0.98200001"),
            ],
        ),
        (
            {"method": "snip", "pattern": ("2:4", "channel", "channel+2:4", "1:4"), "sparsity": (0.8, 0.9)},
            [
                *("dense", "snip-2of4-0.5", "snip-channel-0.8", "snip-channel-0.9"),
                *("snip-channel+2of4-0.8", "snip-channel+2of4-0.9", "snip-1of4-0.75"),
            ],
        ),
        ({"pattern": "2:4"}, ["dense", "ntksap-2of4-0.5"]),
        ({"sparsity": (0, 0.5, 0.5)}, ["dense", "ntksap-unstructured-0.5"]),
        ({"pattern": "channel", "flops": 0.5}, ["dense", "ntksap-channel-flops0.5"]),
        ({"params": "20k", "pattern": ("4x1", "2:4")}, ["dense", "ntksap-4x1-params20k", "ntksap-2of4-params20k"]),
        ({"flops": 0.5, "sparsity": (0.8, 0.9)}, [
            "dense", "ntksap-unstructured-0.8-flops0.5", "ntksap-unstructured-0.9-flops0.5",
        ]),
    ],
)  # fmt: skip
def test_the_cells_of_axes(settings: Mapping[str, Any], expected: list[str]) -> None:
    assert expected == names(**settings)


def test_each_cell_has_its_own_axes_and_the_others_settings() -> None:
    dense, two_of_four, channel = cells_of(
        ("int8", "fp32"), pattern=("2:4", "channel"), sparsity=0.8, epochs=3, seed=7, round_to=4, keep_dense=("fc",)
    )

    configs = [cell.config for cell in (dense, two_of_four, channel)]
    assert [0.0, None, 0.8] == [config.sparsity for config in configs if config]
    assert [0.0, 0.5, 0.8] == [cell.sparsity for cell in (dense, two_of_four, channel)]
    assert ["magnitude", "ntksap", "ntksap"] == [config.method for config in configs if config]
    assert [8, 8, 4] == [config.round_to for config in configs if config]  # it is said of channels
    assert [(), ("fc",), ("fc",)] == [config.keep_dense for config in configs if config]
    assert {(3, 7, True, False)} == {(c.epochs, c.seed, c.int8, c.fp16) for c in configs if c}


def test_a_recipe_brings_what_is_not_swept() -> None:
    cells = cells_of(recipe="ntksap-cifar10", sparsity=(0.5,))

    assert ["dense", "ntksap-unstructured-0.5"] == [cell.name for cell in cells]
    assert {160} == {cell.config.epochs for cell in cells if cell.config}


def test_precisions_of_the_settings_count_where_none_are_asked_for() -> None:
    assert ("fp32", "int8") == read_axes({"model": "resnet20", "int8": True}, None).precisions
    assert ("int8",) == read_axes({"model": "resnet20"}, ("int8", "int8")).precisions


def test_a_contradiction_skips_its_cell_with_the_reason() -> None:
    cells = cells_of(pattern=("unstructured", "channel"), control="shuffle", sparsity=0.8)

    said = "--control shuffle has nothing to shuffle in --pattern channel; use channel+... or --control reinit"
    assert [None, None, said] == [cell.reason for cell in cells]
    assert cells[2].config is None


def test_criteria_for_filters_run_with_channels_and_are_skipped_elsewhere() -> None:
    cells = cells_of(method=("l1", "taylor"), pattern=("unstructured", "channel"), sparsity=0.8)

    assert [False, True, False, False, False] == [cell.config is None for cell in cells]
    assert str(cells[1].reason).startswith("method l1 judges whole filters, but --pattern unstructured chooses among")


def test_a_share_of_each_groups_channels_is_one_cell_and_no_budget_of_the_others() -> None:
    cells = cells_of(pattern=("unstructured", "channel"), scope="layer", channel_sparsity=0.6, sparsity=(0.8, 0.9))

    names = ["dense", "magnitude-unstructured-0.8", "magnitude-unstructured-0.9", "magnitude-channel-channels0.6"]
    assert names == [cell.name.replace("ntksap", "magnitude") for cell in cells]
    assert [None] * 4 == [cell.reason for cell in cells]
    shares = [cell.config.channel_share for cell in cells if cell.config is not None]
    assert [None, None, None, 0.6] == shares


@pytest.mark.parametrize(
    ("settings", "precisions", "said"),
    [
        ({"method": ("snip", "nonsense")}, None, "unknown method 'nonsense'"),
        ({"pattern": ("2:4", "5:4")}, None, "1 <= n < m; got 5:4"),
        ({"pattern": "blocks"}, None, "unknown pattern 'blocks'"),
        ({"sparsity": (0.8, 90)}, None, "sparsity must be in [0, 1); got 90. For 90 % write --sparsity 0.9"),
        ({"sparsity": ("a",)}, None, "sparsity takes numbers; got 'a'"),
        ({"sparsity": 0}, None, "sparsity 0 is the dense network, which is always among the cells; name others"),
        ({"sparsity": 0.8, "pattern": ("2:4", "1:4")}, None, "--sparsity applies to none of the patterns 2:4, 1:4"),
        ({}, ("fp32", "int4"), "--precision takes fp32, fp16, int8, by commas; got 'fp32,int4'"),
        ({}, (), "--precision takes fp32, fp16, int8, by commas; got ''"),
        ({"control": "shuffle", "pattern": "channel"}, None, "--control shuffle has nothing to shuffle"),
        ({"method": "l1", "pattern": "2:4"}, None, "method l1 judges whole filters, but --pattern 2:4 chooses among"),
        ({"epochs": -1}, None, "epochs: input should be greater than or equal to 0; got -1"),
        ({"channel_sparsity": 0.5, "pattern": "channel+2:4", "sparsity": 2}, None, "sparsity must be in [0, 1); got 2"),
    ],
)
def test_what_is_wrong_in_every_cell_is_refused_in_a_line(
    settings: Mapping[str, Any], precisions: tuple[str, ...] | None, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        cells_of(precisions, **settings)

    assert str(caught.value).startswith(said) or said in str(caught.value)
    assert "\n" not in str(caught.value)
