"""What a mask broke is counted, named and answered with advice."""

from __future__ import annotations

import torch

from ntksap_export.masks import Mask, format_health, mask_health

from ..support.nets import tiny_net


def with_pruned(**pruned: object) -> Mask:
    """TinyNet's dense mask, False at the given index of each layer."""
    mask = Mask.dense(tiny_net())
    for layer, index in pruned.items():
        mask[f"{layer}.weight"][index] = False  # type: ignore[index]
    return mask


def test_a_whole_mask_is_healthy() -> None:
    health = mask_health(with_pruned())

    assert ((), {}, {}, 0) == (
        health.collapsed_layers,
        health.empty_output_channels,
        health.empty_input_channels,
        health.empty_classes,
    )
    assert ("fc.weight", 3, ()) == (health.classifier, health.classes, health.advice)
    assert "mask health: no layer, channel or class was emptied" == format_health(health)


def test_a_few_pruned_weights_are_no_illness() -> None:
    assert () == mask_health(with_pruned(conv1=(0, 0), conv2=(slice(0, 7), 2), fc=(0, slice(1, None)))).advice


def test_a_collapsed_layer_is_named_with_what_to_do() -> None:
    health = mask_health(with_pruned(conv2=...))

    assert ("conv2.weight",) == health.collapsed_layers
    assert {} == health.empty_output_channels
    (advice,) = health.advice
    assert advice.startswith("1 layer(s) have nothing kept (conv2.weight)")
    assert "Lower --sparsity, raise --rounds, or --keep-dense conv2." in advice


def test_more_than_four_collapsed_layers_are_not_all_listed() -> None:
    mask = Mask({f"conv{index}.weight": torch.zeros(2, 2, dtype=torch.bool) for index in range(6)})

    assert (
        "6 layer(s) have nothing kept (conv0.weight, conv1.weight, conv2.weight, conv3.weight, ...)"
        in (mask_health(mask).advice[0])
    )


def test_empty_channels_are_counted_on_both_sides() -> None:
    health = mask_health(with_pruned(conv1=[0, 4], conv2=(slice(None), 5)))

    assert {"conv1.weight": 2} == health.empty_output_channels
    assert {"conv2.weight": 1} == health.empty_input_channels
    (advice,) = health.advice
    assert advice.startswith("2 channels in 1 layers have nothing kept")


def test_empty_classifier_rows_are_classes_that_cannot_be_told() -> None:
    health = mask_health(with_pruned(fc=[0, 2]))

    assert (2, 3, "fc.weight") == (health.empty_classes, health.classes, health.classifier)
    (advice,) = health.advice
    assert advice.startswith("2 of 3 classifier rows have nothing kept")
    assert "--keep-dense fc keeps them at the cost of 24 weights" in advice


def test_every_finding_is_a_line_of_text() -> None:
    text = format_health(mask_health(with_pruned(conv1=..., conv2=0, fc=0)))

    first, second, third = text.splitlines()
    assert first.startswith("mask health: 1 layer(s) have nothing kept (conv1.weight)")
    assert second.startswith("mask health: 1 of 3 classifier rows")
    assert third.startswith("mask health: 1 channels in 1 layers")
